#!/bin/sh
# Expected: numpy.nan_to_num replaces NaN and infinity, whatever the float type.
# Happens: on bfloat16 and float8 arrays it returns them as they came, since numpy counts these
# types as no numbers at all (kind V, not numpy.floating, finfo refuses them).
# Matters: a cleaning step before an average or an export does nothing for just the types that
# overflow most.
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
values = numpy.array([1.0, numpy.nan, numpy.inf], "f4")
left = {}
for dtype in (numpy.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2):
    cleaned = numpy.nan_to_num(values.astype(dtype))
    left[numpy.dtype(dtype).name] = int((~numpy.isfinite(cleaned)).sum())
print("values that are not finite after nan_to_num:", left)
print("bfloat16 is a numpy.floating:", numpy.issubdtype(ml_dtypes.bfloat16, numpy.floating))
assert left == {"float16": 0, "bfloat16": 2, "float8_e5m2": 2}, "changed"
assert not numpy.issubdtype(ml_dtypes.bfloat16, numpy.floating), "changed"
PYTHON
