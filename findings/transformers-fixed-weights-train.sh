#!/bin/sh
# Expected: a parameter that the module makes with requires_grad=False stays fixed after
# save_pretrained and from_pretrained.
# Happens: in transformers 5 it comes back trainable, as every parameter does: the flag is set in
# the class, and loading replaces the parameter.
# Matters: fixed projections, random features and frozen positions are moved by the optimizer after
# a reload, not before it.
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
from transformers import PretrainedConfig, PreTrainedModel


class Config(PretrainedConfig):
    model_type = "random-features"


class Features(PreTrainedModel):
    config_class = Config

    def __init__(self, config):
        super().__init__(config)
        self.directions = torch.nn.Parameter(torch.ones(4, 4), requires_grad=False)
        self.output = torch.nn.Linear(4, 1)
        self.post_init()

    def forward(self, x):
        return self.output(torch.cos(x @ self.directions))


print("transformers", transformers.__version__, "torch", torch.__version__)
model = Features(Config())
model.save_pretrained("model")
loaded = Features.from_pretrained("model")
moved = {}
for name, each in (("made", model), ("loaded", loaded)):
    optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
    each(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    moved[name] = float((each.directions - 1).abs().max())
    print(f"{name}: requires_grad {each.directions.requires_grad}, moved by one step {moved[name]:.1e}")
assert moved["made"] == 0 and moved["loaded"] > 0 and loaded.directions.requires_grad, "changed"
PYTHON
