#!/bin/sh
# Expected: calling a tokenizer on a batch changes nothing that save_pretrained writes.
# Happens: padding=True and truncation=True of the last call stay in tokenizer.json: read by the
# tokenizers library it cuts every text to that length, read by transformers it does not.
# Matters: evaluation runs before saving; Rust and JavaScript servers then answer to the first
# tokens of each prompt.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    transformers==5.24.0 tokenizers==0.23.3 huggingface_hub==2.4.0
venv/bin/python -I - <<'PYTHON'
import tokenizers, transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

core = Tokenizer(models.WordLevel({"<pad>": 0, "a": 1, "b": 2}, unk_token="<pad>"))
core.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<pad>")
lengths = {}
for name in ("before the call", "after the call"):
    tokenizer.save_pretrained("folder")
    by_core = len(Tokenizer.from_file("folder/tokenizer.json").encode("a b " * 50).ids)
    by_transformers = len(AutoTokenizer.from_pretrained("folder")("a b " * 50).input_ids)
    lengths[name] = by_core, by_transformers
    print(f"saved {name}: tokenizers gives {by_core} tokens, transformers {by_transformers}")
    tokenizer(["a b a b a b", "a"], padding=True, truncation=True, max_length=4)
print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
assert lengths == {"before the call": (100, 100), "after the call": (4, 100)}, "changed"
PYTHON
