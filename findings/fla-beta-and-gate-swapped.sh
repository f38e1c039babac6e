#!/bin/sh
# Expected: the two reference forms of one operation, recurrent and by chunks, take their arguments
# in one order.
# Happens: naive_recurrent_gated_delta_rule takes (q, k, v, beta, g), naive_chunk_gated_delta_rule
# (q, k, v, g, beta); both are [batch, time, heads], so a positional call runs and is wrong by any
# factor.
# Matters: these forms are what new kernels are checked against; fla's kernels and its KDA reference
# have the second order, so a test of one's own fails or, worse, is made to pass.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    fla-core[cpu]==0.6.0 torch==2.13.0 einops==0.8.2 packaging==26.4 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
from importlib.metadata import version

import torch
from fla.ops.gated_delta_rule.naive import naive_chunk_gated_delta_rule, naive_recurrent_gated_delta_rule

torch.manual_seed(0)
q, k, v = torch.randn(3, 1, 64, 2, 8)
k = torch.nn.functional.normalize(k, dim=-1)
beta, g = torch.rand(1, 64, 2), -torch.rand(1, 64, 2)
recurrent = naive_recurrent_gated_delta_rule(q, k, v, beta, g)[0]
named = naive_chunk_gated_delta_rule(q, k, v, beta=beta, g=g)[0]
positional = naive_chunk_gated_delta_rule(q, k, v, beta, g)[0]
print("fla-core", version("fla-core"), "torch", torch.__version__)
error = [float((chunk - recurrent).abs().max()) for chunk in (named, positional)]
print(f"largest difference: arguments by name {error[0]:.0e}, in the recurrent form's order {error[1]:.0e}")
assert error[0] < 1e-4 and error[1] > 1, "changed"
PYTHON
