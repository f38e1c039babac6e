#!/bin/sh
# Expected: add_eos_token: true in tokenizer_config.json puts </s> behind every text, as it does in
# 4.57 for a Llama tokenizer.
# Happens: transformers 5 drops the key (and add_bos_token: false too) if a tokenizer.json stands
# beside it: texts have no end token, or a start token that was switched off, and nothing is
# printed.
# Matters: models fine-tuned on such text never learn to stop, and embeddings that are read at </s>
# are read at another token.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    transformers==5.24.0 tokenizers==0.23.3 huggingface_hub==2.4.0
venv/bin/pip install -q --disable-pip-version-check --no-compile --no-deps --target old \
    transformers==4.57.6 tokenizers==0.22.2 huggingface_hub==0.36.2 requests==2.34.2 urllib3==2.8.0 \
    charset-normalizer==3.5.3 idna==3.20 certifi==2026.10.19.post1
cat > ends.py <<'PYTHON'
import json, os, sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
sys.path[:0] = sys.argv[1:]
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer

os.makedirs("model", exist_ok=True)
vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}
tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer.add_special_tokens(["<s>", "</s>"])
tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
tokenizer.save("model/tokenizer.json")
settings = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
            "add_bos_token": False, "add_eos_token": True, "legacy": False}
for name, values in (("tokenizer_config", settings), ("config", {"model_type": "llama"})):
    with open(f"model/{name}.json", "w") as file:
        json.dump(values, file)
ids = AutoTokenizer.from_pretrained("model")("a").input_ids
print("transformers", transformers.__version__, "add_bos_token false, add_eos_token true: 'a' ->", ids)
assert ids == ([3, 2] if sys.argv[1:] else [1, 3]), "changed"
PYTHON
venv/bin/python -s ends.py
venv/bin/python -s ends.py old
