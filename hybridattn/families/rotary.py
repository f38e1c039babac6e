"""Decoders with GQA, RoPE, RMSNorm and SwiGLU: Llama, and families that differ from it by a setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..checks import check_bool, check_number, refuse
from .config import ModelConfig
from .heads import task_from_hf
from .layout import Layout
from .reading import has_lm_head, integer, refuse_others, token_ids
from .rope import rope_frequencies

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "rope_interleaved": (None, False),
    "qk_norm": (None, False),
    "use_qk_norm": (None, False),
    "clip_qkv": (None,),
    "no_rope_layers": (None, []),
    "attention_multiplier": (None,),
    "embedding_multiplier": (None, 1),
    "residual_multiplier": (None, 1),
    "logits_scaling": (None, 1),
    "logit_scale": (None, 1),
}
LAYOUT = Layout(
    prefix="model.",
    top={"embed.weight": "embed_tokens.weight", "final_norm.weight": "norm.weight"},
    head={"lm_head.weight": "lm_head.weight"},
    layer="layers.{}.",
    parts={
        "mixer_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
        "softmax": "self_attn",
    },
    ignored=re.compile(r"(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$"),
)


def read_config(
    hf: dict[str, Any],
    family: str,
    *,
    neutral: Mapping[str, tuple[Any, ...]] | None = None,
    defaults: Mapping[str, Any] | None = None,
    attention_bias: bool,
    output_bias: bool,
    qk_norm: bool = False,
    sliding_window: int = 0,
) -> ModelConfig:
    """The ModelConfig of `hf`. ConfigError on bad values.

    neutral: settings, beside the common ones, that must have one of these values. defaults: what the family's
    transformers class assumes for keys that are missing.
    """
    refuse_others(hf, family, {**_NEUTRAL, **(neutral or {})})
    kinds = set(hf.get("layer_types") or [])
    if kinds - {"sliding_attention" if sliding_window else "full_attention"}:
        raise refuse(
            "layer_types", sorted(kinds), f"one kind of attention for all layers of model_type {family}"
        )
    given = {**(defaults or {}), **{key: value for key, value in hf.items() if value is not None}}
    heads = integer(given, "num_attention_heads")
    kv_heads = integer(given, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise refuse("num_key_value_heads", kv_heads, f"a divisor of num_attention_heads ({heads})")
    hidden = integer(given, "hidden_size")
    if "head_dim" not in given and hidden % heads:
        raise refuse(
            "hidden_size", hidden, f"a multiple of num_attention_heads ({heads}) when head_dim is not given"
        )
    head_dim = integer(given, "head_dim", hidden // heads)
    if head_dim % 2:
        raise refuse("head_dim", head_dim, "an even integer, since RoPE turns pairs")
    positions = integer(given, "max_position_embeddings", 2048)
    frequencies, attention_factor = rope_frequencies(given, head_dim, positions)
    return ModelConfig(
        family=family,
        vocab_size=integer(given, "vocab_size"),
        hidden_size=hidden,
        num_layers=integer(given, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=integer(given, "intermediate_size"),
        norm_eps=check_number("rms_norm_eps", given.get("rms_norm_eps", 1e-6), above=True),
        rope_inv_freq=frequencies,
        rope_attention_factor=attention_factor,
        attention_bias=attention_bias,
        output_bias=output_bias,
        qk_norm=qk_norm,
        sliding_window=sliding_window,
        mlp_bias=check_bool("mlp_bias", given.get("mlp_bias", False)),
        lm_head=has_lm_head(hf),
        tie_embeddings=check_bool("tie_word_embeddings", given.get("tie_word_embeddings", False)),
        max_positions=positions,
        bos_token_id=hf.get("bos_token_id"),
        eos_token_ids=token_ids(hf.get("eos_token_id")),
        task=task_from_hf(hf),
        hf=hf,
    )
