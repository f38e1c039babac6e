#!/bin/sh
# Expected: a read-only numpy array stays as it is: torch refuses it or warns, as torch.from_numpy
# does.
# Happens: torch.from_dlpack takes it without a word, though DLPack's version 1 says that it is
# read-only, and writing to the tensor changes the array.
# Matters: weights that were locked on purpose (shared by several models, or mapped) are changed by
# an in-place operation somewhere else.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    torch==2.13.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import warnings

import numpy, torch

print("torch", torch.__version__, "numpy", numpy.__version__)
locked = numpy.zeros(3, "f4")
locked.flags.writeable = False
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    tensor = torch.from_dlpack(locked)
    by_dlpack = len(caught)
    torch.from_numpy(locked)
    by_numpy = len(caught) - by_dlpack
tensor += 1
print(f"warnings: from_dlpack {by_dlpack}, from_numpy {by_numpy}; the read-only array is now {locked.tolist()}")
assert by_dlpack == 0 and by_numpy == 1 and not locked.flags.writeable and locked.tolist() == [1.0] * 3, "changed"
PYTHON
