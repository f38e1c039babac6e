#!/bin/sh
# Expected: add_tokens of a token that is there already changes nothing, or changes something now.
# Happens: it changes nothing in the living tokenizer, but marks the token as not special in the
# saved file: decode skips </s> today and prints it after the next load.
# Matters: vocabularies are extended by lists that name special tokens again; the checkpoint passes
# its test and differs when it is opened.
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
from tokenizers import Tokenizer, models

tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "</s>": 2}, unk_token="[UNK]"))
tokenizer.add_special_tokens(["</s>"])
before = tokenizer.decode([0, 2])
added = tokenizer.add_tokens(["new", "</s>"])
living = tokenizer.decode([0, 2])
loaded = Tokenizer.from_str(tokenizer.to_str()).decode([0, 2])
print("tokenizers", tokenizers.__version__)
print(f"decode before {before!r}, after add_tokens (which counts {added} new) {living!r}, after a reload {loaded!r}")
assert (before, living, loaded) == ("a", "a", "a </s>"), "changed"
PYTHON
