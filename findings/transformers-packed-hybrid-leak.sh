#!/bin/sh
# Expected: two documents packed into one row by restarting position_ids are independent in every
# layer.
# Happens: in hybrids of softmax and linear attention (Qwen3.5) the softmax layers are split, the
# linear layers and their convolution run on: the second document reads the first, without a
# warning.
# Matters: packing is how such models are fine-tuned; the same code is right for Llama and Qwen3,
# and the loss looks normal.
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
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig, Qwen3Config, Qwen3ForCausalLM

sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=8, initializer_range=0.5)
linear = dict(linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8)
torch.manual_seed(0)
softmax = Qwen3ForCausalLM(Qwen3Config(**sizes)).eval()
kinds = ["linear_attention", "full_attention"]
hybrid = Qwen3_5ForCausalLM(Qwen3_5TextConfig(**sizes, **linear, layer_types=kinds)).eval()
tokens = torch.randint(64, (1, 12))
positions = torch.arange(6).repeat(2)[None]
print("transformers", transformers.__version__, "torch", torch.__version__)
error = {}
for name, model in (("Qwen3, softmax only", softmax), ("Qwen3.5, hybrid", hybrid)):
    with torch.no_grad():
        packed = model(tokens, position_ids=positions, use_cache=False).logits
        single = torch.cat([model(part, use_cache=False).logits for part in (tokens[:, :6], tokens[:, 6:])], 1)
    error[name] = [float((packed - single)[:, part].abs().max() / single.abs().max())
                   for part in (slice(6), slice(6, 12))]
    print(f"{name}: packed against single, first document {error[name][0]:.0e}, second {error[name][1]:.0e}")
(first, second), (hybrid_first, hybrid_second) = error.values()
assert max(first, second, hybrid_first) < 1e-4 and hybrid_second > 0.05, "changed"
PYTHON
