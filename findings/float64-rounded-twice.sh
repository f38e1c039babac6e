#!/bin/sh
# Expected: a cast from float64 gives the nearest value of the smaller type.
# Happens: torch (to float16 and bfloat16) and ml_dtypes (to bfloat16) round to float32 first and
# then again, so values just above the middle go down; numpy's own float16 is right.
# Matters: checkpoints converted from float64 by two libraries differ in the last bit, and tests for
# the nearest value fail.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    torch==2.13.0 ml_dtypes==0.6.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import ml_dtypes, numpy, torch

print("torch", torch.__version__, "ml_dtypes", ml_dtypes.__version__, "numpy", numpy.__version__)
above = {"float16": 1 + 2**-11 + 2**-40, "bfloat16": 1 + 2**-8 + 2**-40}
nearest = {"float16": 1 + 2**-10, "bfloat16": 1 + 2**-7}
casts = {
    "numpy float16": (float(numpy.float64(above["float16"]).astype(numpy.float16)), "float16"),
    "torch float16": (torch.tensor(above["float16"], dtype=torch.float64).half().item(), "float16"),
    "torch bfloat16": (torch.tensor(above["bfloat16"], dtype=torch.float64).bfloat16().item(), "bfloat16"),
    "ml_dtypes bfloat16": (float(numpy.float64(above["bfloat16"]).astype(ml_dtypes.bfloat16)), "bfloat16"),
}
for name, (value, dtype) in casts.items():
    print(f"{name}: {above[dtype]!r} -> {value!r}, nearest {nearest[dtype]!r}")
right = {name for name, (value, dtype) in casts.items() if value == nearest[dtype]}
assert right == {"numpy float16"}, "changed"
PYTHON
