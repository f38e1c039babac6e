#!/bin/sh
# Expected: one Bamba checkpoint is one function in transformers 4.57 and 5.24.
# Happens: with mamba_n_groups above 1 the gated norm goes over all channels in 4.57 and group by
# group in 5.24 (as in mamba_ssm): the weights load without a word, the logits differ by their own
# size.
# Matters: a model trained or exported with one version is broken in the other, and only some
# configurations show it.
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
venv/bin/pip install -q --disable-pip-version-check --no-compile --no-deps --target old \
    transformers==4.57.6 tokenizers==0.22.2 huggingface_hub==0.36.2 requests==2.34.2 urllib3==2.8.0 \
    charset-normalizer==3.5.3 idna==3.20 certifi==2026.10.19.post1
cat > groups.py <<'PYTHON'
import os, sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
sys.path[:0] = sys.argv[1:]
import torch, transformers
from transformers import BambaConfig, BambaForCausalLM

sizes = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, mamba_expand=2, mamba_chunk_size=8,
    attn_layer_indices=[1], initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2)
for groups, differ in ((1, False), (2, True)):
    torch.manual_seed(0)
    model = BambaForCausalLM(BambaConfig(**sizes, mamba_n_groups=groups)).eval()
    if sys.argv[1:]:
        weights, saved = torch.load(f"groups{groups}.pt")
        model.load_state_dict(weights)
    with torch.no_grad():
        logits = model(torch.arange(3, 43)[None]).logits
    if not sys.argv[1:]:
        torch.save((model.state_dict(), logits), f"groups{groups}.pt")
        print("transformers", transformers.__version__, "torch", torch.__version__, "groups", groups, "saved")
    else:
        error = float((logits - saved).abs().max() / saved.abs().max())
        print("transformers", transformers.__version__, f"groups {groups}, same weights: logits differ by {error:.1e}")
        assert (error > 0.1) == differ and (error < 1e-4) != differ, "changed"
PYTHON
venv/bin/python -s groups.py
venv/bin/python -s groups.py old
