#!/bin/sh
# Expected: AutoTokenizer gives the ids that tokenizer.json gives: it holds normaliser, pre-
# tokenizer and post-processor.
# Happens: in transformers 5 the class named in tokenizer_config.json, or the model_type in
# config.json, brings its own and only vocabulary and merges are read: lower-casing and the
# splitting of digits in the file are dropped, Qwen2's splitting is added.
# Matters: retrained and converted tokenizers keep a class name from their origin; ids change
# silently with the version of transformers.
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
import json, os

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "<end>"]
text = "B12"


def ids(name, pre_tokenizer, normalizer, tokenizer_class, model_type):
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [("1", "2")]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    os.makedirs(name)
    tokenizer.save(name + "/tokenizer.json")
    with open(name + "/tokenizer_config.json", "w") as file:
        json.dump({"tokenizer_class": tokenizer_class, "eos_token": "<end>"}, file)
    with open(name + "/config.json", "w") as file:
        json.dump({"model_type": model_type}, file)
    pieces = tokenizer.encode(text).tokens, AutoTokenizer.from_pretrained(name).tokenize(text)
    print(f"{name}: tokenizer.json {pieces[0]}, AutoTokenizer {pieces[1]}")
    return pieces


print("transformers", transformers.__version__)
lower = normalizers.Lowercase()
fast = "PreTrainedTokenizerFast"
assert ids("fast-llama", digits, lower, fast, "llama") == (["b", "1", "2"], ["b", "1", "2"]), "changed"
assert ids("gpt2-class-llama", digits, lower, "GPT2Tokenizer", "llama") == (["b", "1", "2"], ["B", "12"]), "changed"
assert ids("fast-qwen2", byte_level, lower, fast, "qwen2") == (["b", "12"], ["B", "1", "2"]), "changed"
PYTHON
