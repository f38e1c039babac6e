#!/bin/sh
# Expected: an infinite value in a config is written as before (Infinity), or as null.
# Happens: transformers 5 writes {"__float__": "Infinity"} and turns it back itself; 4.57 and
# programs that read config.json on their own get a dictionary where a number was, as in Mamba-2's
# time_step_limit.
# Matters: a Mamba-2 or Bamba folder loads in older versions and fails in the first forward pass, or
# takes a default in a converter.
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
cat > limit.py <<'PYTHON'
import os, sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
sys.path[:0] = sys.argv[1:]
import transformers
from transformers import Mamba2Config

if not sys.argv[1:]:
    Mamba2Config().save_pretrained("model")
    with open("model/config.json") as file:
        print("written:", " ".join(file.read().split('"time_step_limit":')[1].split("]")[0].split()), "]")
limit = Mamba2Config.from_pretrained("model").time_step_limit
print("transformers", transformers.__version__, "reads", limit)
expected = [0.0, {"__float__": "Infinity"}] if sys.argv[1:] else [0.0, float("inf")]
assert list(limit) == expected, "changed"
PYTHON
venv/bin/python -s limit.py
venv/bin/python -s limit.py old
