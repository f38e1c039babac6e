#!/bin/sh
# Expected: installing flash-linear-attention with its own [cpu] extra makes Qwen3.5 on a CPU as
# fast as before or faster.
# Happens: without it the model runs in plain PyTorch; with it transformers calls the Triton kernels
# for CPU tensors too, and on a machine without a GPU every forward pass raises RuntimeError.
# Matters: a requirements file that is shared between GPU and CPU machines breaks evaluation, export
# checks and CI on the latter.
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
cat > forward.py <<'PYTHON'
import os, sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch, transformers
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

torch.manual_seed(0)
model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
    linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"])).eval()
try:
    outcome = f"logits of shape {tuple(model(torch.arange(12)[None]).logits.shape)}"
except RuntimeError as error:
    outcome = f"RuntimeError: {str(error)[:70]}"
print("transformers", transformers.__version__, "torch", torch.__version__, sys.argv[1] + ":", outcome)
assert outcome.startswith(sys.argv[2]), "changed"
PYTHON
venv/bin/python -s forward.py "without flash-linear-attention" "logits"
venv/bin/pip install -q --disable-pip-version-check --no-compile "flash-linear-attention[cpu]==0.6.0"
venv/bin/python -s forward.py "with flash-linear-attention 0.6.0" "RuntimeError"
