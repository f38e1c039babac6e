#!/bin/sh
# Expected: an L2 normalisation gives vectors of length 1, as torch.nn.functional.normalize does.
# Happens: the one in Qwen3.5's gated delta rule adds 1e-6 to the squared length: a key of length
# 0.01 comes out 0.995 long, of 0.001 0.71, of 0.0001 0.1; the delta rule then removes less than it
# should.
# Matters: keys after silu are often small; weights moved between this layer and one with another
# epsilon give other states, and only for some tokens.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    transformers==5.24.0 tokenizers==0.23.3 huggingface_hub==2.4.0 safetensors==0.8.0 \
    torch==2.13.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import os

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch, transformers
from transformers.models.qwen3_5.modeling_qwen3_5 import torch_recurrent_gated_delta_rule

print("transformers", transformers.__version__, "torch", torch.__version__)
value = torch.tensor([[[[3.0, 4.0]]]])
recalled = {}
for length in (1.0, 0.01, 0.001, 0.0001):
    key = torch.tensor([[[[1.0, 0.0]]]]) * length
    output = torch_recurrent_gated_delta_rule(
        key * 1e6, key, value, g=torch.zeros(1, 1, 1), beta=torch.ones(1, 1, 1), initial_state=None,
        output_final_state=False, use_qk_l2norm_in_kernel=True)[0]
    recalled[length] = float(output.norm() / value.norm() * 2**0.5)
    print(f"key of length {length}: what is read back after one write is {recalled[length]:.3f} of the value")
assert [round(part, 2) for part in recalled.values()] == [1.0, 1.0, 0.71, 0.1], "changed"
PYTHON
