#!/bin/sh
# Expected: Q8_0 keeps every block of 32 weights to within 0.4% of its largest, whatever their size.
# Happens: the block's scale is a float16: below 0.008 it loses digits, a block of 2e-5 is off by up
# to 14%, and one of 3e-6 becomes zero.
# Matters: zero-centred norms, gates, low-rank factors and pruned rows are that small; the error is
# not seen in the mean error of a matrix.
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

import numpy
from gguf import GGMLQuantizationType, quants

kind = GGMLQuantizationType.Q8_0
block = numpy.linspace(-1, 1, 32, dtype="f4")[None]
error = {}
print("gguf", version("gguf"))
for size in (1.0, 1e-2, 1e-3, 1e-4, 2e-5, 3e-6):
    back = quants.dequantize(quants.quantize(block * numpy.float32(size), kind), kind)
    error[size] = float(abs(back / size - block).max())
    print(f"largest weight {size:g}: largest error {error[size]:.2%} of it")
assert error[1.0] < 0.005 and error[1e-2] < 0.005, "changed"
assert error[1e-4] > 0.01 and error[2e-5] > 0.1 and error[3e-6] == 1.0, "changed"
PYTHON
