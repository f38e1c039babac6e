#!/bin/sh
# Expected: GGUFWriter writes the key it is given, with an empty string or list as its value.
# Happens: add_string(key, '') and add_array(key, []) write nothing and say nothing, while False and
# 0 are written; the format itself has empty strings and arrays.
# Matters: an empty chat template or list of merges is gone after conversion, readers find a
# required key missing or take their default.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    gguf==0.19.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
from importlib.metadata import version

from gguf import GGUFReader, GGUFWriter

writer = GGUFWriter("empty.gguf", "llama")
writer.add_string("tokenizer.chat_template", "")
writer.add_array("tokenizer.ggml.merges", [])
writer.add_array("tokenizer.ggml.tokens", ["", "a"])
writer.add_bool("tokenizer.ggml.add_bos_token", False)
writer.add_uint32("tokenizer.ggml.bos_token_id", 0)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.close()
keys = {key for key in GGUFReader("empty.gguf").fields if key.startswith("tokenizer")}
print("gguf", version("gguf"))
print("written of five:", sorted(keys))
assert keys == {"tokenizer.ggml.tokens", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id"}, "changed"
PYTHON
