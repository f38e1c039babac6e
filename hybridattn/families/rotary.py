"""Decoders with GQA, RoPE, RMSNorm and SwiGLU: Llama, and families that differ from it by a setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig, check_bool, check_int, check_number, refuse
from ..errors import ConfigError
from ..rope import rope_frequencies
from .heads import task_from_hf

# Settings that change what a model computes; any other value than these would be silently wrong.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "pretraining_tp": (None, 1),
    "quantization_config": (None,),
    "rope_interleaved": (None, False),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "qk_norm": (None, False),
    "use_qk_norm": (None, False),
    "clip_qkv": (None,),
    "num_local_experts": (None, 0, 1),
    "num_experts": (None, 0, 1),
    "n_routed_experts": (None, 0),
    "no_rope_layers": (None, []),
    "attention_multiplier": (None,),
    "embedding_multiplier": (None, 1),
    "residual_multiplier": (None, 1),
    "logits_scaling": (None, 1),
    "logit_scale": (None, 1),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
}

_TOP = {
    "embed.weight": "model.embed_tokens.weight",
    "final_norm.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
# The prefix inside a layer; other mixers keep their own kind's name.
_PART = {"mixer_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm", "softmax": "self_attn"}
_LAYER = re.compile(r"layers\.(\d+)\.([a-z0-9_]+)\.(.+)")


def read_config(
    hf: dict[str, Any],
    family: str,
    *,
    neutral: Mapping[str, tuple[Any, ...]] | None = None,
    defaults: Mapping[str, Any] | None = None,
    attention_bias: bool,
    output_bias: bool,
    sliding_window: int = 0,
) -> ModelConfig:
    """The ModelConfig of `hf`. ConfigError on bad values.

    neutral: settings, beside the common ones, that must have one of these values. defaults: what the family's
    transformers class assumes for keys that are missing.
    """
    for key, allowed in {**_NEUTRAL, **(neutral or {})}.items():
        if key in hf and hf[key] not in allowed:
            raise refuse(
                key,
                hf[key],
                " or ".join("null" if value is None else str(value) for value in allowed)
                + f" for model_type {family}",
            )
    kinds = set(hf.get("layer_types") or [])
    if kinds - {"sliding_attention" if sliding_window else "full_attention"}:
        raise refuse(
            "layer_types", sorted(kinds), f"one kind of attention for all layers of model_type {family}"
        )
    given = {**(defaults or {}), **{key: value for key, value in hf.items() if value is not None}}

    def integer(key: str, default: int | None = None) -> int:
        return check_int(key, given.get(key, default))

    heads = integer("num_attention_heads")
    kv_heads = integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise refuse("num_key_value_heads", kv_heads, f"a divisor of num_attention_heads ({heads})")
    hidden = integer("hidden_size")
    if "head_dim" not in given and hidden % heads:
        raise refuse(
            "hidden_size", hidden, f"a multiple of num_attention_heads ({heads}) when head_dim is not given"
        )
    head_dim = integer("head_dim", hidden // heads)
    if head_dim % 2:
        raise refuse("head_dim", head_dim, "an even integer, since RoPE turns pairs")
    positions = integer("max_position_embeddings", 2048)
    frequencies, attention_factor = rope_frequencies(given, head_dim, positions)
    return ModelConfig(
        family=family,
        vocab_size=integer("vocab_size"),
        hidden_size=hidden,
        num_layers=integer("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=integer("intermediate_size"),
        norm_eps=check_number("rms_norm_eps", given.get("rms_norm_eps", 1e-6), above=True),
        rope_inv_freq=frequencies,
        rope_attention_factor=attention_factor,
        attention_bias=attention_bias,
        output_bias=output_bias,
        sliding_window=sliding_window,
        mlp_bias=check_bool("mlp_bias", given.get("mlp_bias", False)),
        tie_embeddings=check_bool("tie_word_embeddings", given.get("tie_word_embeddings", False)),
        max_positions=positions,
        bos_token_id=hf.get("bos_token_id"),
        eos_token_ids=_token_ids(hf.get("eos_token_id")),
        task=task_from_hf(hf),
        hf=hf,
    )


def _token_ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def hf_name(internal_name: str) -> str:
    """`layers.3.softmax.q_proj.weight` -> `model.layers.3.self_attn.q_proj.weight`, and so on.

    Linear mixers, which no Hugging Face model has, keep their kind: `model.layers.3.gated_delta.A_log`.
    """
    if internal_name in _TOP:
        return _TOP[internal_name]
    match = _LAYER.fullmatch(internal_name)
    if match is None:
        raise ConfigError(
            f"parameter name is {internal_name!r}; allowed: {', '.join(_TOP)} or layers.N.PART.NAME"
        )
    layer, part, rest = match.groups()
    return f"model.layers.{layer}.{_PART.get(part, part)}.{rest}"
