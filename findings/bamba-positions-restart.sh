#!/bin/sh
# Expected: model(next_token, past_key_values=cache) goes on where the cache ends, for Bamba as for
# Llama and Qwen3.5.
# Happens: in transformers 5.24 Bamba counts positions from 0 in every call without position_ids:
# the first decoded token is off by half of the largest logit; generate() is right, since it passes
# them.
# Matters: beam search, speculative decoding, likelihoods and benchmarks written with forward and a
# cache rank texts wrongly.
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
from transformers import BambaConfig, BambaForCausalLM, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
sizes = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, mamba_expand=2, mamba_chunk_size=8,
    attn_layer_indices=[1], initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2)
plain = {key: sizes[key] for key in list(sizes)[:6]}
models = {"Llama": LlamaForCausalLM(LlamaConfig(**plain, initializer_range=0.3)),
          "Bamba": BambaForCausalLM(BambaConfig(**sizes))}
tokens = torch.arange(3, 43)[None]
print("transformers", transformers.__version__, "torch", torch.__version__)
error = {}
for name, model in models.items():
    model.eval()
    with torch.no_grad():
        whole = model(tokens).logits
        for given in (None, torch.tensor([[30]])):
            cache = model(tokens[:, :30], use_cache=True).past_key_values
            step = model(tokens[:, 30:31], past_key_values=cache, position_ids=given).logits
            error[name, given is not None] = float((step[:, 0] - whole[:, 30]).abs().max() / whole.abs().max())
    print(f"{name}: decoding against prefill, relative to the largest logit: {error[name, False]:.0e} without",
          f"position_ids, {error[name, True]:.0e} with them")
assert error.pop(("Bamba", False)) > 0.05 and max(error.values()) < 1e-4, "changed"
PYTHON
