#!/bin/sh
# Expected: the mean of 4096 ones is 1, as numpy gives for float16, which it adds up in float32.
# Happens: for bfloat16 it is 0.0625: the sum is kept in bfloat16 one element after another and
# stands still at 256; std of values 100 and 101 is off by a factor of 65.
# Matters: statistics of weights, norms and losses read from bfloat16 checkpoints are wrong by any
# factor, without a warning.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    ml_dtypes==0.6.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import ml_dtypes, numpy

print("ml_dtypes", ml_dtypes.__version__, "numpy", numpy.__version__)
mean = {}
for dtype in (numpy.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn):
    mean[numpy.dtype(dtype).name] = float(numpy.ones(4096, dtype).mean())
spread = numpy.tile(numpy.array([100, 101], ml_dtypes.bfloat16), 1000)
print("mean of 4096 ones:", mean)
print("std of 100, 101, 100, ...:", float(spread.std()), "instead of", float(spread.astype("f4").std()))
assert mean["float16"] == 1.0 and mean["bfloat16"] == 0.0625 and mean["float8_e4m3fn"] < 0.01, "changed"
assert float(spread.std()) > 10, "changed: std"
PYTHON
