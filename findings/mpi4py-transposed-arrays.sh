#!/bin/sh
# Expected: Allreduce of a transposed numpy array sums the arrays, or refuses it as it refuses every
# second element.
# Happens: an array in Fortran order passes as its memory, not as its values: reduced into a plain
# array of the same shape the sums stand in other places, on every rank alike.
# Matters: gradients of transposed weights (x.T, LAPACK results, scikit-learn) are scrambled
# silently, and all ranks agree.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    mpi4py==4.1.2 mpich==5.0.2 numpy==2.4.6
cat > sum.py <<'PYTHON'
import mpi4py, numpy
from mpi4py import MPI

world = MPI.COMM_WORLD
plain = numpy.arange(6.0).reshape(3, 2)
transposed = numpy.asfortranarray(plain)
sums = []
for array in (plain, transposed):
    result = numpy.zeros((3, 2))
    world.Allreduce(array, result)
    sums.append(result.tolist())
try:
    world.Allreduce(numpy.arange(6.0)[::2], numpy.zeros(3))
    strided = "accepted"
except (BufferError, ValueError) as error:
    strided = f"{type(error).__name__}: {error}"
if world.rank == 0:
    print("mpi4py", mpi4py.__version__, "|", MPI.Get_library_version().split("\n")[0], "|", world.size, "processes")
    print("equal arrays:", numpy.array_equal(plain, transposed), "| sums:", sums[0], "and", sums[1])
    print("every second element:", strided)
assert sums[0] == (2 * plain).tolist() and strided.startswith("BufferError"), "changed"
assert sums[1] == [[0.0, 4.0], [8.0, 2.0], [6.0, 10.0]], "changed"
PYTHON
venv/bin/mpiexec -n 2 venv/bin/python -I sum.py
