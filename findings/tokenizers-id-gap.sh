#!/bin/sh
# Expected: add_tokens gives new tokens ids that nobody has.
# Happens: new ids start at the number of entries, not after the highest id: in a vocabulary with a
# gap (a token was pruned) a new token gets the id of an old one, and both encode to it.
# Matters: pruned and padded vocabularies have gaps; two words share an embedding row and the old
# word decodes as the new one.
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

tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1, "blue": 4}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.add_tokens(["green", "white"])
ids = {word: tokenizer.encode(word).ids[0] for word in ("red", "blue", "green", "white")}
decoded = tokenizer.decode(tokenizer.encode("red blue").ids)
print("tokenizers", tokenizers.__version__)
print("ids:", ids, "| 'red blue' comes back as", repr(decoded))
assert ids == {"red": 1, "blue": 4, "green": 3, "white": 4} and decoded == "red white", "changed"
PYTHON
