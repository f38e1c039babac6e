"""Tensor names of GGUF files and of Hugging Face checkpoints, both ways.

Sources: the tensor names of the GGUF specification and, of Qwen3.5's linear layers, of llama.cpp.
"""

from __future__ import annotations

import re

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_PART = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Qwen3.5: another name for the norm before the MLP, and the linear layers.
_QWEN35 = {
    "post_attention_norm": "post_attention_layernorm",
    "attn_qkv": "linear_attn.in_proj_qkv",
    "attn_gate": "linear_attn.in_proj_z",
    "ssm_beta": "linear_attn.in_proj_b",
    "ssm_alpha": "linear_attn.in_proj_a",
    "ssm_conv1d": "linear_attn.conv1d",
    "ssm_norm": "linear_attn.norm",
    "ssm_out": "linear_attn.out_proj",
}
# Whole names, since they end in neither .weight nor .bias or in another one.
_QWEN35_WHOLE = {"ssm_a": "linear_attn.A_log", "ssm_dt.bias": "linear_attn.dt_bias"}
# Gemma 3: norms behind mixer and MLP too.
_GEMMA3 = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
# Bamba.
_BAMBA = {
    "ffn_norm": "pre_ff_layernorm",
    "ffn_gate": "feed_forward.gate_proj",
    "ffn_up": "feed_forward.up_proj",
    "ffn_down": "feed_forward.down_proj",
    "ssm_in": "mamba.in_proj",
    "ssm_conv1d": "mamba.conv1d",
    "ssm_norm": "mamba.norm",
    "ssm_out": "mamba.out_proj",
}
_BAMBA_WHOLE = {"ssm_a": "mamba.A_log", "ssm_d": "mamba.D", "ssm_dt.bias": "mamba.dt_bias"}
_BAMBA_TOP = {"output_norm.weight": "model.final_layernorm.weight"}
# architecture: names at the top, in a layer, and whole ones, beside those that all have
_OWN: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {
    "qwen35": ({}, _QWEN35, _QWEN35_WHOLE),
    "gemma3": ({}, _GEMMA3, {}),
    "granitehybrid": (_BAMBA_TOP, _BAMBA, _BAMBA_WHOLE),
}
_LAYER = re.compile(r"blk\.(\d+)\.(.+)")


def to_hf(name: str, architecture: str = "llama") -> str:
    """The Hugging Face name. An unknown tensor keeps its own, so that loading refuses it by that name."""
    match = _LAYER.fullmatch(name)
    top, own, whole_names = _OWN.get(architecture, ({}, {}, {}))
    if match is None:
        return {**_TOP, **top}.get(name, name)
    parts, whole = {**_PART, **own}, whole_names.get(match[2])
    stem, _, end = match[2].rpartition(".")
    if whole is None and (stem not in parts or end not in ("weight", "bias")):
        return name
    return f"model.layers.{match[1]}.{whole or f'{parts[stem]}.{end}'}"


def from_hf(name: str, architecture: str = "llama") -> str:
    """The GGUF name of a tensor that `to_hf` gives. KeyError for any other."""
    top, own, whole = _OWN.get(architecture, ({}, {}, {}))
    for theirs, ours in {**_TOP, **top}.items():
        if ours == name:
            return theirs
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    if match is None:
        raise KeyError(name)
    parts = {ours: theirs for theirs, ours in _PART.items()}
    parts |= {ours: theirs for theirs, ours in own.items()}
    for theirs, ours in whole.items():
        if ours == match[2]:
            return f"blk.{match[1]}.{theirs}"
    stem, _, end = match[2].rpartition(".")
    return f"blk.{match[1]}.{parts[stem]}.{end}"
