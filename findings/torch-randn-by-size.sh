#!/bin/sh
# Expected: with one seed the first values of torch.randn(n) do not depend on n, as those of
# torch.rand do not.
# Happens: on the CPU normal numbers are drawn by another rule below 16 elements, the last 16 are
# drawn anew where n is no multiple of 16, and a transposed tensor gets other values than a plain
# one.
# Matters: a vocabulary padded by a few rows, a smaller head or another memory layout starts from
# other weights under the same seed.
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
import torch


def first(draw, size):
    torch.manual_seed(0)
    return draw(size)[:8]


print("torch", torch.__version__)
shared = {}
for draw in (torch.rand, torch.randn):
    shared[draw.__name__] = [int((first(draw, size) == first(draw, 64)).sum()) for size in (15, 16, 17, 20, 32)]
    print(f"{draw.__name__}: of the first 8 values, equal to those of 64 for sizes 15, 16, 17, 20, 32:",
          shared[draw.__name__])
torch.manual_seed(0)
plain = torch.empty(4, 8).normal_()
torch.manual_seed(0)
transposed = torch.empty(8, 4).T.normal_()
print("4 x 8 by normal_, plain and transposed memory, equal:", torch.equal(plain, transposed))
assert shared["rand"] == [8] * 5 and shared["randn"] == [0, 8, 1, 4, 8], "changed"
assert not torch.equal(plain, transposed), "changed"
PYTHON
