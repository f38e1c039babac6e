"""Qwen3.5 dense text decoders: gated delta layers with a convolution, and softmax layers with an output gate,
norms on q and k, and RoPE on a part of each head.

Their norms are zero-centred: a file has the weight less 1. It is added when a file is read and taken off when
one is written, so the core knows one RMSNorm. Training is the same: gradients are, and weight decay leaves
vectors alone. Checked against the modelling file of transformers 5.24.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..checks import check_bool, check_int, refuse
from ..errors import ConfigError
from . import rotary
from .config import MAX_LAYERS, ModelConfig
from .layout import Joined, Layout
from .reading import integer, text_part

__all__ = ["LAYOUT", "config_from_hf"]

MODEL_TYPE = "qwen3_5_text"
_LINEAR = (
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_key_head_dim",
    "linear_value_head_dim",
    "linear_conv_kernel_dim",
)
_DEFAULTS = dict(zip(_LINEAR, (16, 32, 128, 128, 4), strict=True))
# how the states are held elsewhere, and the layers that guess tokens ahead, which are not read
_READ = (
    *_LINEAR,
    "full_attention_interval",
    "mamba_ssm_dtype",
    "mtp_num_hidden_layers",
    "mtp_use_dedicated_embeddings",
)
_NEUTRAL: dict[str, tuple[Any, ...]] = {"attn_output_gate": (None, True), "mlp_only_layers": (None, [])}


def _group(config: ModelConfig) -> int:
    """Heads that share a key head."""
    spec = next(spec for spec in config.native_layers if spec["kind"] != "softmax")
    return int(spec["heads"] // spec["key_heads"])


def _share(which: int) -> Callable[[ModelConfig], tuple[int, int, int]]:
    """Of q (0), k (1) or v (2) in their joined tensor, in pieces as large as q."""

    def place(config: ModelConfig) -> tuple[int, int, int]:
        wide = _group(config)
        return which, 2 + wide, wide if which == 2 else 1

    return place


LAYOUT = Layout(
    prefix="model.",
    top=rotary.LAYOUT.top,
    head=rotary.LAYOUT.head,
    layer=rotary.LAYOUT.layer,
    parts={
        **rotary.LAYOUT.parts,
        "softmax.q_proj": Joined("self_attn.q_proj", 0, 2, by_head=True),
        "softmax.g_proj": Joined("self_attn.q_proj", 1, 2, by_head=True),
    },
    linear={
        "gated_delta": "linear_attn",
        **{f"gated_delta.{part}_proj": Joined("linear_attn.in_proj_qkv", share=_share(i))
           for i, part in enumerate("qkv")},
        **{f"gated_delta.{part}_conv": Joined("linear_attn.conv1d", share=_share(i), depthwise=True)
           for i, part in enumerate("qkv")},
        "gated_delta.g_proj": "linear_attn.in_proj_z",
        "gated_delta.b_proj": "linear_attn.in_proj_b",
        "gated_delta.a_proj": "linear_attn.in_proj_a",
        "gated_delta.o_proj": "linear_attn.out_proj",
    },
    zero_centred=re.compile(r"final_norm\.weight|layers\.\d+\.(mixer_norm|mlp_norm|softmax\.[qk]_norm)\.weight"),
    other_prefixes=("model.language_model.",),
    ignored=re.compile(r"(^|\.)rotary_emb\.inv_freq$|^mtp\.|^(model\.)?visual\."),
)  # fmt: skip


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `Qwen3_5ForCausalLM` config, with that class's defaults, or of the text part of a
    `Qwen3_5ForConditionalGeneration` one. ConfigError on bad values, and for heads of a linear layer whose
    keys are wider than their values or less wide.
    """
    hf = text_part(hf, MODEL_TYPE, "Qwen3_5ForCausalLM")
    kinds = _kinds(hf)
    bias = check_bool("attention_bias", hf.get("attention_bias") or False)
    config = rotary.read_config(
        {key: value for key, value in hf.items() if key != "layer_types"},
        "qwen3_5",
        neutral=_NEUTRAL,
        defaults={"head_dim": 256, "num_key_value_heads": 4, "max_position_embeddings": 32768},
        attention_bias=bias,
        output_bias=bias,
        qk_norm=True,
        partial=0.25,
        read=_READ,
    )
    linear = _linear(hf)
    native = tuple({"kind": "softmax"} if kind == "full_attention" else dict(linear) for kind in kinds)
    return replace(config, attention_gate=True, native_layers=native, hf=hf)


def _kinds(hf: dict[str, Any]) -> list[str]:
    layers = check_int("num_hidden_layers", hf.get("num_hidden_layers", 32), 1, MAX_LAYERS)
    kinds = hf.get("layer_types")
    if kinds is None:
        every = integer(hf, "full_attention_interval", 4)
        return ["linear_attention" if (i + 1) % every else "full_attention" for i in range(layers)]
    if not isinstance(kinds, list) or not set(map(str, kinds)) <= {"full_attention", "linear_attention"}:
        raise refuse("layer_types", kinds, "null, or full_attention and linear_attention")
    if len(kinds) != layers:
        raise refuse("layer_types", kinds, f"null, or the kinds of {layers} layers")
    return kinds


def _linear(hf: dict[str, Any]) -> dict[str, Any]:
    """The spec of a linear layer."""
    keys, heads, dim, wide, taps = (integer(hf, name, _DEFAULTS[name]) for name in _LINEAR)
    if heads % keys:
        raise refuse("linear_num_key_heads", keys, f"a divisor of linear_num_value_heads ({heads})")
    if dim != wide:
        raise ConfigError(
            f"linear_key_head_dim is {dim} and linear_value_head_dim is {wide}; allowed: one number for both"
        )
    shape = {"heads": heads, "key_heads": keys, "head_dim": dim}
    return {"kind": "gated_delta", "conv": taps, "bias": 0, "qk_norm": 0, **shape}
