#!/bin/sh
# Expected: a complex tensor that torch prints as 1-2j is 1-2j after save_file and load_file.
# Happens: x.conj() is a view with a flag, and safetensors saves the memory without the flag: 1+2j
# comes back, nothing is raised; torch.save keeps the values.
# Matters: rotary tables, spectral filters and the poles of state-space layers are complex and often
# conjugated; the file looks healthy and the imaginary parts have the wrong sign.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    safetensors==0.8.0 torch==2.13.0 numpy==2.4.6 packaging==26.4
venv/bin/python -I - <<'PYTHON'
import safetensors, torch
from safetensors.torch import load_file, save_file

poles = torch.tensor([1 + 2j, 3 - 4j]).conj()
save_file({"poles": poles}, "poles.safetensors")
torch.save(poles, "poles.pt")
by_safetensors = load_file("poles.safetensors")["poles"].tolist()
by_torch = torch.load("poles.pt").tolist()
save_file({"poles": poles.resolve_conj()}, "poles.safetensors")
resolved = load_file("poles.safetensors")["poles"].tolist()
print("safetensors", safetensors.__version__, "torch", torch.__version__)
print("saved", poles.tolist(), "| safetensors reads", by_safetensors, "| torch.load", by_torch)
print("with resolve_conj() before:", resolved)
assert by_safetensors == [1 + 2j, 3 - 4j], "changed: the conjugate is kept"
assert poles.tolist() == by_torch == resolved == [1 - 2j, 3 + 4j], "changed"
PYTHON
