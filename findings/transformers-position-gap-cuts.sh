#!/bin/sh
# Expected: position_ids change the rotary angles and nothing else; use_cache changes no logits.
# Happens: with use_cache=False and no mask, a jump in position_ids starts a new document: tokens
# after it no longer see those before, whether numbers restart at 0 or go from 5 to 20.
# Matters: evicted caches, position interpolation and padded fields have such jumps; training (no
# cache) and generation (cache) then see two different models.
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
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
model = LlamaForCausalLM(LlamaConfig(**sizes, initializer_range=0.5)).eval()
tokens = torch.randint(64, (1, 12))
jump = torch.tensor([[0, 1, 2, 3, 4, 5, 20, 21, 22, 23, 24, 25]])
with torch.no_grad():
    cached = model(tokens, position_ids=jump, use_cache=True).logits
    masked = model(tokens, position_ids=jump, use_cache=False, attention_mask=torch.ones(1, 12)).logits
    plain = model(tokens, position_ids=jump, use_cache=False).logits
    second = model(tokens[:, 6:], position_ids=jump[:, 6:], use_cache=False).logits


def distance(one, other):
    return float((one - other).abs().max() / other.abs().max())


print("transformers", transformers.__version__, "torch", torch.__version__)
print("relative to the largest logit:")
print(f"use_cache=True against use_cache=False with a mask of ones: {distance(cached, masked):.1e}")
print(f"use_cache=False without a mask against that: {distance(plain, masked):.1e}")
print(f"its second half against the second half run alone: {distance(plain[:, 6:], second):.1e}")
assert distance(cached, masked) < 1e-4 and distance(plain, masked) > 0.01, "changed"
assert distance(plain[:, 6:], second) < 1e-4, "changed"
PYTHON
