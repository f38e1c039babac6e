#!/bin/sh
# Expected: special tokens that are added before training keep working after it, and no word gets
# their ids.
# Happens: train_from_iterator numbers its words from 0 again: the added tokens stay in the
# vocabulary with their old ids, are no longer found in text, and a word decodes as </s>.
# Matters: a trained tokenizer ends texts by itself where that word comes; naming the tokens to the
# trainer is what is needed, and nothing says so.
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
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer.add_special_tokens(["<s>", "</s>"])
trainer = trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False)
tokenizer.train_from_iterator(["red red red blue blue"], trainer)
print("tokenizers", tokenizers.__version__)
print("vocabulary:", dict(sorted(tokenizer.get_vocab().items())))
ids = tokenizer.encode("<s> red blue").ids
decoded = tokenizer.decode(ids, skip_special_tokens=False)
print(f"'<s> red blue' -> {ids} -> {decoded!r}")
assert tokenizer.token_to_id("</s>") == tokenizer.token_to_id("red") == 1, "changed"
assert ids == [0, 1, 2] and decoded == "<unk> </s> blue", "changed"
PYTHON
