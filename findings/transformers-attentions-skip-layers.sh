#!/bin/sh
# Expected: outputs.attentions has one entry for each layer, as outputs.hidden_states has, with None
# for layers that have no attention matrix.
# Happens: in hybrids it holds the softmax layers only, without their numbers: of 4 layers 2 are
# there, and attentions[1] is that of layer 3.
# Matters: layer scores, head pruning and attention plots by enumerate(outputs.attentions) give the
# figures of one layer to another.
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
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

kinds = ["full_attention", "linear_attention", "linear_attention", "full_attention"]
model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
    linear_value_head_dim=8, layer_types=kinds, attn_implementation="eager", initializer_range=0.5)).eval()
seen = {}
for layer in (0, 3):
    attention = model.model.layers[layer].self_attn
    attention.register_forward_hook(lambda module, inputs, output, layer=layer: seen.update({layer: output[1]}))
with torch.no_grad():
    outputs = model(torch.arange(8)[None], output_attentions=True, output_hidden_states=True)
found = [[layer for layer in seen if torch.equal(seen[layer], entry)] for entry in outputs.attentions]
print("transformers", transformers.__version__, "torch", torch.__version__)
print(f"{len(kinds)} layers: hidden_states {len(outputs.hidden_states)}, attentions {len(outputs.attentions)},",
      f"which are those of layers {found}")
assert len(outputs.hidden_states) == 5 and found == [[0], [3]], "changed"
PYTHON
