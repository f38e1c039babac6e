#!/bin/sh
# Expected: config.rope_theta = 500000, the keyword rope_theta of from_pretrained and the key in
# config.json set the base of the rotary angles, as they did in version 4.
# Happens: in version 5 all three are taken without a word, but theta stays what rope_parameters
# says; and rope_scaling added to a saved config.json, to extend the context, puts theta back to
# 10000.
# Matters: recipes for long context are these lines; the model runs with other angles than its
# config shows, or has lost those it was trained with.
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

import json

import torch, transformers
from transformers import AutoConfig, Qwen3Config, Qwen3ForCausalLM

sizes = dict(vocab_size=8, hidden_size=32, intermediate_size=8, num_hidden_layers=1, num_attention_heads=4,
             num_key_value_heads=4, head_dim=8)
trained = Qwen3Config(**sizes, rope_theta=1000000.0)
trained.save_pretrained("model")
with open("model/config.json") as file:
    saved = json.load(file)


def base(config):
    return round(float(Qwen3ForCausalLM(config).model.rotary_emb.inv_freq[1]) ** -4)  # theta ** -(2 / 8)


def edited(**keys):
    with open("model/config.json", "w") as file:
        json.dump({**saved, **keys}, file)
    return AutoConfig.from_pretrained("model")


assigned = Qwen3Config(**sizes, rope_theta=1000000.0)
assigned.rope_theta = 500000.0
keyword = AutoConfig.from_pretrained("model", rope_theta=500000.0)
in_file = edited(rope_theta=500000.0)
extended = edited(rope_scaling={"rope_type": "linear", "factor": 4.0})
print("transformers", transformers.__version__)
for name, config in (("attribute", assigned), ("keyword", keyword), ("key in config.json", in_file)):
    print(f"{name}: config.rope_theta {getattr(config, 'rope_theta', 'not there')}, the model's theta {base(config)}")
print("rope_scaling added to config.json:", saved["rope_parameters"], "->", extended.rope_parameters)
assert abs(base(trained) - 1000000) < 1000 and base(assigned) == base(keyword) == base(in_file) == base(trained), "changed"
assert assigned.rope_theta == 500000.0 and extended.rope_parameters["rope_theta"] == 10000.0, "changed"
PYTHON
