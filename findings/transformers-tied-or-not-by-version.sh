#!/bin/sh
# Expected: tie_word_embeddings: true in config.json ties the output layer to the embeddings, in
# each version.
# Happens: if the file holds both tensors and they differ, 4.57 ties them and drops lm_head
# silently, 5.24 leaves them apart (with a line in the log) though model.config still says tied: one
# folder, two models.
# Matters: converters and merges leave such folders behind; perplexity measured by one version does
# not hold for the other.
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
cat > heads.py <<'PYTHON'
import json, sys

sys.path[:0] = sys.argv[1:]
import torch, transformers
from transformers import LlamaConfig, LlamaForCausalLM

if not sys.argv[1:]:
    sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4)
    LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False)).save_pretrained("model")
    with open("model/config.json") as file:
        config = json.load(file)
    with open("model/config.json", "w") as file:
        json.dump({**config, "tie_word_embeddings": True}, file)
model = LlamaForCausalLM.from_pretrained("model")
same = torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
print("transformers", transformers.__version__, "| config says tied:", model.config.tie_word_embeddings,
      "| output layer is the embedding:", same)
assert model.config.tie_word_embeddings and same == bool(sys.argv[1:]), "changed"
PYTHON
venv/bin/python -s heads.py
venv/bin/python -s heads.py old
