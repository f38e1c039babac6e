#!/bin/sh
# Expected: what safetensors.numpy saves, safetensors.numpy loads.
# Happens: float8 arrays of ml_dtypes are saved and cannot be loaded (AttributeError: looked for in
# numpy); bfloat16 ones come back by load_file and raise KeyError by load, from the same bytes.
# Matters: a checkpoint written on a machine without torch can be read by everybody but its writer,
# and tests by bytes and by file disagree.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    safetensors==0.8.0 ml_dtypes==0.6.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import ml_dtypes, numpy, safetensors
from safetensors.numpy import load, load_file, save, save_file

print("safetensors", safetensors.__version__, "ml_dtypes", ml_dtypes.__version__, "numpy", numpy.__version__)


def attempt(read, source):
    try:
        return str(read(source)["weight"].dtype)
    except (AttributeError, KeyError) as error:
        return f"{type(error).__name__} ({error})"


outcome = {}
for name in ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"):
    weight = {"weight": numpy.ones(4, getattr(ml_dtypes, name, numpy.float16))}
    save_file(weight, "weight.safetensors")
    outcome[name] = attempt(load_file, "weight.safetensors"), attempt(load, save(weight))
    print(f"{name}: load_file gives {outcome[name][0]}; load gives {outcome[name][1]}")
assert outcome.pop("float16") == ("float16", "float16"), "changed: float16"
assert outcome["bfloat16"][0] == "bfloat16" and outcome.pop("bfloat16")[1].startswith("KeyError"), "changed: bfloat16"
assert all(by_file.startswith("AttributeError") for by_file, _ in outcome.values()), "changed: float8"
PYTHON
