#!/bin/sh
# Expected: allow_patterns='*.safetensors' takes the files of the main folder, as in a shell,
# .gitignore and pathlib.
# Happens: the star crosses slashes and original/model.safetensors comes too, while '**/config.json'
# leaves out the config.json at the top.
# Matters: downloads fetch a second copy of the weights, or a converter opens a file of another
# format from a subfolder.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    huggingface_hub==2.4.0
venv/bin/python -I - <<'PYTHON'
import huggingface_hub
from huggingface_hub.utils import filter_repo_objects

files = ["config.json", "model.safetensors", "original/config.json", "original/model.safetensors"]
taken = {}
print("huggingface_hub", huggingface_hub.__version__)
for pattern in ("*.safetensors", "**/config.json", "original"):
    taken[pattern] = list(filter_repo_objects(files, allow_patterns=pattern))
    print(f"allow_patterns={pattern!r} takes {taken[pattern]}")
assert taken["*.safetensors"] == ["model.safetensors", "original/model.safetensors"], "changed"
assert taken["**/config.json"] == ["original/config.json"] and taken["original"] == [], "changed"
PYTHON
