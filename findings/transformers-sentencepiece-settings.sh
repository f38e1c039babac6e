#!/bin/sh
# Expected: a Llama tokenizer made from a SentencePiece file gives the ids that SentencePiece gives
# with it.
# Happens: the vocabulary is read and the settings in the file are not: a model trained without a
# dummy prefix gets one, and its normalisation (full-width letters, ligatures, tabs) is left out.
# Matters: one's own SentencePiece model under LlamaTokenizer, the usual choice, starts each text
# with another token than in training.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    transformers==5.24.0 tokenizers==0.23.3 huggingface_hub==2.4.0 sentencepiece==0.2.3 \
    protobuf==7.36.2
venv/bin/python -I - <<'PYTHON'
import json, os

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import sentencepiece, transformers
from transformers import AutoTokenizer

texts = ["hello world this is a test", "a b c d e f g h i j k l m n o p q r s t u v w x y z"] * 30
os.mkdir("model")
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts), model_prefix="model/tokenizer", model_type="bpe", vocab_size=330,
    hard_vocab_limit=False, byte_fallback=True, add_dummy_prefix=False, minloglevel=2, num_threads=1)
for name, settings in {"config.json": {"model_type": "llama"},
                       "tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", "legacy": False}}.items():
    with open("model/" + name, "w") as file:
        json.dump(settings, file)
original = sentencepiece.SentencePieceProcessor(model_file="model/tokenizer.model")
tokenizer = AutoTokenizer.from_pretrained("model")
print("sentencepiece", sentencepiece.__version__, "transformers", transformers.__version__, type(tokenizer).__name__)
pieces = {}
for text in ("hello world", "world \N{LATIN SMALL LIGATURE FI}"):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    pieces[text] = original.encode(text, out_type=str), tokenizer.convert_ids_to_tokens(ids)
    print(f"{text!r}: sentencepiece {pieces[text][0]}, transformers {pieces[text][1]}")
(first, ours), (second, other) = pieces.values()
assert first[0][0] == "h" and ours[0][0] == "\N{LOWER ONE EIGHTH BLOCK}", "changed: prefix"
assert second[-1][-1] == "i" and other[-1] == "<0x81>", "changed: normalisation"
PYTHON
