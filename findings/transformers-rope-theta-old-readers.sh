#!/bin/sh
# Expected: a folder saved by transformers 5 means the same to 4.57, which opens it without an
# error, a warning or a missing key.
# Happens: version 5 writes rope_theta inside rope_parameters only; 4.57 does not look there and
# takes 10000 for 1000000 (Qwen3): the weights are whole, the logits are others.
# Matters: servers and evaluation images stay on version 4 for long; the model answers, only worse
# with every token of context.
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
cat > logits.py <<'PYTHON'
import sys

sys.path[:0] = sys.argv[1:]
import torch, transformers
from transformers import Qwen3Config, Qwen3ForCausalLM

if not sys.argv[1:]:
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, initializer_range=0.5,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})).save_pretrained("model")
model, report = Qwen3ForCausalLM.from_pretrained("model", output_loading_info=True)
with torch.no_grad():
    logits = model.eval()(torch.arange(2, 50)[None]).logits
print("transformers", transformers.__version__, "| rope_theta as read:",
      getattr(model.config, "rope_theta", None) or model.config.rope_parameters["rope_theta"],
      "| keys missing or not used:", sum(len(keys) for keys in report.values()))
if not sys.argv[1:]:
    torch.save(logits, "logits.pt")
else:
    saved = torch.load("logits.pt")
    error = float((logits - saved).abs().max() / saved.abs().max())
    print(f"largest difference of logits, relative to the largest logit: {error:.2f}")
    assert model.config.rope_theta == 10000 and not any(report.values()) and error > 0.05, "changed"
PYTHON
venv/bin/python -s logits.py
venv/bin/python -s logits.py old
