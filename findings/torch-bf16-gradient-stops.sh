#!/bin/sh
# Expected: gradients of bfloat16 parameters are summed in float32 on the CPU, as Linear's are.
# Happens: those of an embedding (and of indexing and index_select) and of LayerNorm's weight and
# bias are summed in bfloat16 and stop at 256: a token seen 8192 times gets 3% of its gradient.
# Matters: fine-tuning in bfloat16 on a CPU learns frequent tokens and norms wrongly, and only from
# long batches on.
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

print("torch", torch.__version__)
tokens = 8192
zeros = torch.zeros(tokens, dtype=torch.long)
signs = torch.tensor([[1.0, -1.0, 1.0, -1.0]]).repeat(tokens, 1).bfloat16()


def gradient(compute, shape):
    parameter = torch.ones(shape, dtype=torch.bfloat16, requires_grad=True)
    compute(parameter).sum().backward()
    return parameter.grad.flatten()[0].item()


gradients = {
    "linear weight": gradient(lambda w: functional.linear(torch.ones_like(signs), w), (4, 4)),
    "linear bias": gradient(lambda b: functional.linear(signs, torch.eye(4).bfloat16(), b), (4,)),
    "rms_norm weight": gradient(lambda w: functional.rms_norm(signs, (4,), w), (4,)),
    "gather": gradient(lambda w: w.gather(0, zeros), (1,)),
    "embedding": gradient(lambda w: functional.embedding(zeros, w), (1, 4)),
    "indexing": gradient(lambda w: w[zeros], (1,)),
    "index_select": gradient(lambda w: w.index_select(0, zeros), (1,)),
    "layer_norm weight": gradient(lambda w: functional.layer_norm(signs, (4,), w), (4,)),
    "layer_norm bias": gradient(lambda b: functional.layer_norm(signs, (4,), None, b), (4,)),
}
for name, value in gradients.items():
    print(f"{name}: {value:.0f} of {tokens}")
whole = {name for name, value in gradients.items() if value == tokens}
stopped = {name for name, value in gradients.items() if value == 256}
assert whole == {"linear weight", "linear bias", "rms_norm weight", "gather"}, "changed"
assert whole | stopped == set(gradients), "changed"
PYTHON
