#!/bin/sh
# Expected: the maximum over processes is NaN if one of them has NaN, as numpy.maximum has it.
# Happens: Allreduce with MPI.MAX gives the number, whichever process has the NaN; allreduce of
# Python floats gives NaN or the number, by the rank that has it.
# Matters: a training loop that reduces the largest loss or gradient norm to find out whether one
# process has diverged does not.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    mpi4py==4.1.2 mpich==5.0.2 numpy==2.4.6
cat > maximum.py <<'PYTHON'
import mpi4py, numpy
from mpi4py import MPI

world = MPI.COMM_WORLD
found = {}
for broken in range(world.size):
    loss = numpy.nan if world.rank == broken else 1.0
    result = numpy.zeros(1)
    world.Allreduce(numpy.array([loss]), result, op=MPI.MAX)
    found[broken] = float(result[0]), world.allreduce(loss, op=MPI.MAX)
if world.rank == 0:
    print("mpi4py", mpi4py.__version__, "|", MPI.Get_library_version().split("\n")[0], "|", world.size, "processes")
    for broken, (by_array, by_object) in found.items():
        print(f"NaN on rank {broken}: Allreduce of arrays {by_array}, allreduce of objects {by_object}")
assert [by_array for by_array, _ in found.values()] == [1.0, 1.0], "changed"
assert numpy.isnan(found[0][1]) and found[1][1] == 1.0, "changed"
PYTHON
venv/bin/mpiexec -n 2 venv/bin/python -I maximum.py
