#!/bin/sh
# Expected: from_pretrained(folder, gguf_file=...) reads the whole model, or says what it cannot
# read.
# Happens: rope.scaling.type and rope.scaling.factor are dropped: the model is loaded with plain
# rotary angles, and nothing is printed.
# Matters: checking a GGUF export of a long-context model by loading it back gives other logits, and
# one looks for the fault in one's own converter.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    transformers==5.24.0 tokenizers==0.23.3 huggingface_hub==2.4.0 safetensors==0.8.0 \
    torch==2.13.0 numpy==2.4.6 gguf==0.19.0 accelerate==1.15.0
venv/bin/python -I - <<'PYTHON'
import os

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy, torch, transformers
from gguf import GGUFWriter, RopeScalingType
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
         "model.layers": "blk"}


def write(model, path, factor):
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_vocab_size(config.vocab_size)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.head_dim)
    if factor:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(factor)
    for key, tensor in model.state_dict().items():
        array = tensor.numpy()
        if "q_proj" in key or "k_proj" in key:  # GGUF pairs neighbouring rows of a head
            heads = array.reshape(config.num_attention_heads, 2, config.head_dim // 2, -1)
            array = heads.swapaxes(1, 2).reshape(array.shape)
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        writer.add_tensor(key, numpy.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


tokens = torch.arange(2, 50)[None]
error = {}
for factor in (None, 4.0):
    torch.manual_seed(0)
    scaling = {"rope_type": "linear", "factor": factor} if factor else {"rope_type": "default"}
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.3, rope_parameters={"rope_theta": 10000.0, **scaling})).eval()
    write(model, "model.gguf", factor)
    read = AutoModelForCausalLM.from_pretrained(".", gguf_file="model.gguf").eval()
    with torch.no_grad():
        error[factor] = float((read(tokens).logits - model(tokens).logits).abs().max())
    print(f"scaling {factor}: read as {read.config.rope_parameters}, largest logit error {error[factor]:.1e}")
print("transformers", transformers.__version__)
assert error[None] < 1e-4 and error[4.0] > 0.1 and read.config.rope_parameters["rope_type"] == "default", "changed"
PYTHON
