#!/bin/sh
# Expected: pip builds in an isolated environment, so a wheel holds what the source folder holds.
# Happens: isolated are the tools, not the folder. setuptools builds in the source tree and packs
# all that lies in build/lib, where every earlier wheel has left its copy: a deleted or renamed
# module is still in the next wheel.
# Matters: a release has modules that its source does not; tests that ran on the wheel find a module
# that nobody else will have. A wheel made from the sdist does not have it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile pip==26.3 build==1.6.1
mkdir -p project/demo
cat >project/pyproject.toml <<'TOML'
[build-system]
requires = ["setuptools==84.2.1"]
build-backend = "setuptools.build_meta"

[project]
name = "demo"
version = "1"

[tool.setuptools]
packages = ["demo"]
TOML
touch project/demo/__init__.py project/demo/old.py
venv/bin/python -m pip wheel -q --disable-pip-version-check --no-deps -w first ./project
mv project/demo/old.py project/demo/new.py
venv/bin/python -m pip wheel -q --disable-pip-version-check --no-deps -w second ./project
venv/bin/python -m build -q --outdir from_sdist ./project >/dev/null
venv/bin/python -I - <<'PYTHON'
import glob
import importlib.metadata
import zipfile

print("pip", importlib.metadata.version("pip"), "setuptools 84.2.1")
held = {}
for folder in ("second", "from_sdist"):
    [path] = glob.glob(f"{folder}/*.whl")
    held[folder] = [name for name in zipfile.ZipFile(path).namelist() if name.startswith("demo/")]
    print(f"{folder}: {held[folder]}")
assert "demo/old.py" in held["second"], "changed"
assert held["from_sdist"] == ["demo/__init__.py", "demo/new.py"], "changed"
PYTHON
