#!/bin/sh
# Expected: dataset[mask] with a list or numpy array of booleans picks the rows where it is true, or
# raises.
# Happens: True and False are taken as the row numbers 1 and 0: the mask [True, False, True] gives
# rows 1, 0, 1; select(mask) raises.
# Matters: filtering by a mask, usual in numpy, pandas and torch, gives a set of the right type and
# size made of two rows.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import datasets, numpy

data = datasets.Dataset.from_dict({"text": ["zero", "one", "two"]})
print("datasets", datasets.__version__)
picked = {}
for mask in ([True, False, True], numpy.array([True, False, True])):
    picked[type(mask).__name__] = data[mask]["text"]
    print(f"data[{mask!r}] gives {picked[type(mask).__name__]}")
assert picked == {"list": ["one", "zero", "one"], "ndarray": ["one", "zero", "one"]}, "changed"
PYTHON
