#!/bin/sh
# Expected: where a package cannot be used, importing it raises ImportError, and find_spec says
# whether there is a module without importing it; programs with an optional part rely on both.
# Happens: mpi4py's wheels bring no MPI library; without one `from mpi4py import MPI` raises
# RuntimeError, and so does find_spec("mpi4py.MPI"). `import mpi4py` alone works.
# Matters: `try: from mpi4py import MPI` with `except ImportError` ends the program on a laptop.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile mpi4py==4.1.2
env -u MPI4PY_LIBMPI -u LD_LIBRARY_PATH venv/bin/python -I - <<'PYTHON'
import importlib.util

import mpi4py

print("mpi4py", mpi4py.__version__, "is imported")
try:
    spec = importlib.util.find_spec("mpi4py.MPI")
    print("find_spec:", spec is not None)
except Exception as error:
    print("find_spec:", type(error).__name__)
try:
    try:
        from mpi4py import MPI
    except ImportError:
        MPI = None
        print("ImportError: the program goes on without MPI")
except RuntimeError as error:
    print("RuntimeError passes `except ImportError`:", str(error).splitlines()[0])
    raised = True
else:
    raised = False
assert raised, "changed, or an MPI library is installed on this machine"
PYTHON
