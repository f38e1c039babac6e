#!/bin/sh
# Expected: gelu, silu or sigmoid of a number is the same number wherever it stands in a tensor.
# Happens: on the CPU (AVX2, AVX-512) whole vectors and the remainder at the end are computed by
# different code: gelu of 4096 values and of the same values one at a time differ in a third of
# them, in bfloat16 in 4%; tanh and exp do not.
# Matters: decoding a token at a time and prefill, batches of odd sizes and tensors split over
# threads are not equal to the bit, though nothing is summed.
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
from torch.nn import functional

torch.manual_seed(0)
torch.set_num_threads(1)
values = torch.randn(4096) * 4
print("torch", torch.__version__, "vector code:", torch.backends.cpu.get_cpu_capability())
differ = {}
for function in (functional.gelu, functional.silu, torch.sigmoid, functional.softplus, torch.tanh, torch.exp):
    for dtype in (torch.float32, torch.bfloat16):
        x = values.to(dtype)
        single = torch.cat([function(x[i:i + 1]) for i in range(len(x))])
        differ[function.__name__, dtype] = int((function(x) != single).sum())
    counts = [differ[function.__name__, dtype] for dtype in (torch.float32, torch.bfloat16)]
    print(f"{function.__name__}: of 4096 values other alone than together: float32 {counts[0]}, bfloat16 {counts[1]}")
assert min(differ[name, torch.float32] for name in ("gelu", "silu", "sigmoid", "softplus")) > 0, "changed"
assert differ["gelu", torch.bfloat16] > 0 and differ["tanh", torch.float32] == differ["exp", torch.float32] == 0, "changed"
PYTHON
