#!/bin/sh
# Expected: a model of Gemma 3 in bfloat16 is the one in float32 with rounding errors, which scatter
# around zero.
# Happens: the factor on its embeddings, the root of the width, is rounded to the type of the
# weights: at a width of 640 every token's embedding is .19% too small in bfloat16, at 5376 .24% too
# large, whatever the token.
# Matters: a bfloat16 run and a float32 or llama.cpp run of one checkpoint are two functions, and a
# distance between them is not what quantisation or a port did.
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
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

print("torch", torch.__version__, "transformers", transformers.__version__)
torch.set_grad_enabled(False)
tokens, off = torch.arange(1, 200)[None], {}  # token 0 is padding: all zero
for width in (640, 1152, 2560, 3840, 5376):  # of the 270M, 1B, 4B, 12B and 27B
    config = Gemma3TextConfig(
        vocab_size=256, hidden_size=width, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=8, layer_types=["full_attention"],
    )
    exact = Gemma3ForCausalLM(config).bfloat16()  # weights that both types hold
    full = Gemma3ForCausalLM(config)
    full.load_state_dict(exact.state_dict())
    assert torch.equal(full.model.embed_tokens.weight, exact.model.embed_tokens.weight.float())
    a, b = full.model.embed_tokens(tokens)[0], exact.model.embed_tokens(tokens)[0].float()
    share = (b * a).sum(-1) / (a * a).sum(-1) - 1  # of each token
    off[width] = float(share.mean())
    print(f"width {width}: {off[width]:+.3%} on average, {share.min():+.3%} to {share.max():+.3%} by token")
    assert float(share.min()) * float(share.max()) > 0 or abs(off[width]) < 1e-3
assert abs(off[640] + 0.0019) < 2e-4 and abs(off[5376] - 0.0024) < 2e-4
PYTHON
echo "the behaviour stands"
