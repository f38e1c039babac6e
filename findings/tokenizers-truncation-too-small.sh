#!/bin/sh
# Expected: truncation to 1 token gives at most 1 token, or an error.
# Happens: a max_length below the number of special tokens switches truncation off: 2 gives 2
# tokens, 1 gives the whole text and its special tokens.
# Matters: a length that was computed (what is left of the context) turns from shortest to unlimited
# at its smallest value.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    tokenizers==0.23.3
venv/bin/python -I - <<'PYTHON'
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

tokenizer = Tokenizer(models.WordLevel({"a": 0, "<s>": 1, "</s>": 2}, unk_token="a"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
special = [("<s>", 1), ("</s>", 2)]
tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
lengths = {}
for limit in (5, 3, 2, 1, 0):
    tokenizer.enable_truncation(limit)
    lengths[limit] = len(tokenizer.encode("a " * 50).ids)
print("tokenizers", tokenizers.__version__)
print("max_length -> tokens of a text of 50 words:", lengths)
assert lengths[5] == 5 and lengths[3] == 3 and lengths[2] == 2 and lengths[1] == 52, "changed"
PYTHON
