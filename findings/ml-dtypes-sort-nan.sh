#!/bin/sh
# Expected: numpy.sort puts NaN last and sorts the rest.
# Happens: for bfloat16 a NaN stops the sorting: 3 nan 1 2 comes back as it was; so quantiles by
# sort, and top-k by argsort, take arbitrary values.
# Matters: pruning by magnitude and choosing the largest logits on bfloat16 arrays fail silently
# once a single NaN is there.
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
values = numpy.array([3.0, numpy.nan, 1.0, 2.0])
for dtype in (numpy.float16, ml_dtypes.bfloat16):
    print(numpy.dtype(dtype).name, numpy.sort(values.astype(dtype)).astype("f4").tolist())
half, brain = (numpy.sort(values.astype(dtype)).astype("f4") for dtype in (numpy.float16, ml_dtypes.bfloat16))
assert half[:3].tolist() == [1.0, 2.0, 3.0] and numpy.isnan(half[3]), "changed: float16"
assert brain[0] == 3.0 and numpy.isnan(brain[1]) and brain[2:].tolist() == [1.0, 2.0], "changed: bfloat16"
PYTHON
