#!/bin/sh
# Expected: several tokens given with a cache go on from the state in it, as they do in Mamba-2.
# Happens: Mamba and Jamba take one token at a time from the state and start from zero where there
# are more, without a word: prefill in chunks and the next turn of a chat give other text.
# Matters: whoever feeds a hybrid of Mamba-1 layers in pieces measures another model.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    torch==2.13.0 transformers==5.24.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import warnings

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
warnings.simplefilter("ignore", FutureWarning)  # names of the cache
print("transformers", transformers.__version__)
common = dict(vocab_size=64, hidden_size=32, bos_token_id=None, eos_token_id=None, pad_token_id=0)
jamba = dict(
    num_hidden_layers=2, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_experts=1,
    num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8, use_mamba_kernels=False,
)
heads = dict(num_heads=8, head_dim=8, n_groups=1)
kinds = {
    "mamba2": dict(num_hidden_layers=2, state_size=8, expand=2, **heads),
    "mamba": dict(num_hidden_layers=2, state_size=8),
    "jamba": jamba,
}
wrong = {}
for kind, settings in kinds.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **common, **settings)).eval()
    for matrix in model.parameters():
        if matrix.ndim > 1:
            torch.nn.init.normal_(matrix, std=0.25)
    tokens = torch.randint(1, 60, (1, 30))
    name = "past_key_values" if kind == "jamba" else "cache_params"
    with torch.no_grad():
        whole = model(tokens).logits
        for pieces in ([20, 1, 1], [20, 5]):
            cache, begin, found = None, 0, []
            for size in pieces:
                out = model(tokens[:, begin : begin + size], use_cache=True, **{name: cache})
                cache, begin = out[name], begin + size
                found.append(out.logits)
            error = (torch.cat(found, 1) - whole[:, :begin]).abs().amax((0, 2))
            wrong[kind, pieces[1]] = bool(error.max() > 1e-3)
            print(f"{kind:>6}, {pieces} tokens: largest error of a logit {error.max():.5f}, of the first 20 {error[:20].max():.5f}")
assert not any(wrong[kind, 1] for kind in kinds), "changed"
assert [kind for kind in kinds if wrong[kind, 5]] == ["mamba", "jamba"], "changed"
first = dict(max_new_tokens=1, do_sample=False, return_dict_in_generate=True, output_logits=True)
at_once = model.generate(tokens, **first).logits[0]
in_chunks = model.generate(tokens, prefill_chunk_size=8, **first).logits[0]
error = (at_once - in_chunks).abs().max().item()
print(f"jamba, generate with prefill_chunk_size=8: largest error of a logit {error:.5f}")
assert error > 1e-3, "changed"
PYTHON
