#!/bin/sh
# Expected: a saved tokenizer gives the ids that the living one gives.
# Happens: encode_special_tokens, the switch that makes <s> in user text ordinary characters, is not
# in tokenizer.json: after save and load the same text gives the control token again.
# Matters: a service that switched it on against control tokens in user text has it off after every
# restart, and counts differ.
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
from tokenizers import Tokenizer, models, pre_tokenizers

vocabulary = {"a": 0, "<": 1, "s": 2, ">": 3, "[UNK]": 4, "<s>": 5}
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
tokenizer.add_special_tokens(["<s>"])
tokenizer.encode_special_tokens = True
again = Tokenizer.from_str(tokenizer.to_str())
living, loaded = tokenizer.encode("a<s>").ids, again.encode("a<s>").ids
print("tokenizers", tokenizers.__version__)
print("living tokenizer:", living, "loaded tokenizer:", loaded, "switch:", again.encode_special_tokens)
assert living == [0, 1, 2, 3] and loaded == [0, 5] and not again.encode_special_tokens, "changed"
PYTHON
