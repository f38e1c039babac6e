#!/bin/sh
# Expected: after Allreduce with MPI.MAX every process holds the same value, and NaN if one of them
# had NaN.
# Happens: with one NaN among the values MPICH leaves 1.0 on one process and NaN on the other: which
# one has it depends on who had the NaN, the number of processes and the length of the array.
# Matters: a run that reduces its largest loss or gradient norm to decide whether to stop takes both
# branches at once, and the processes wait for each other.
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
if world.rank == 0:
    print("mpi4py", mpi4py.__version__, "|", MPI.Get_library_version().split("\n")[0], "|", world.size, "processes")
for broken in range(world.size):
    loss = numpy.array([numpy.nan if world.rank == broken else 1.0])
    largest = numpy.zeros(1)
    world.Allreduce(loss, largest, op=MPI.MAX)
    held = world.allgather(float(largest[0]))
    if world.rank == 0:
        print(f"NaN on rank {broken}: the ranks hold {held}")
    assert held[broken] == 1.0 and numpy.isnan(held[1 - broken]), "changed"
    world.Allreduce(loss, largest, op=MPI.SUM)
    assert numpy.isnan(world.allgather(float(largest[0]))).all(), "changed: the sum"
if world.rank == 0:
    print("MPI.SUM gives NaN on all of them")
PYTHON
venv/bin/mpiexec -n 2 venv/bin/python -I maximum.py
