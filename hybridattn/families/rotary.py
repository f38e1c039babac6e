"""Decoders with GQA, RoPE, RMSNorm and SwiGLU: Llama, and families that differ from it by a setting."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..checks import check_bool, check_int, check_number, refuse
from .config import MAX_LAYERS, ModelConfig
from .heads import task_from_hf
from .keys import check_keys, words
from .layout import Layout
from .reading import has_lm_head, integer, special_tokens
from .rope import rope_frequencies

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "is_causal": (None, True),
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
_READ = words(
    "attention_bias head_dim hidden_size intermediate_size layer_types max_position_embeddings "
    "max_window_layers mlp_bias num_attention_heads num_hidden_layers num_key_value_heads "
    "original_max_position_embeddings partial_rotary_factor rms_norm_eps rope_parameters "
    "rope_scaling rope_theta sliding_window use_sliding_window vocab_size"
)
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
    mlp_bias: bool = False,
    sliding_window: int = 0,
    partial: float | None = None,
    read: Iterable[str] = (),
) -> ModelConfig:
    """The ModelConfig of `hf`. ConfigError on bad values.

    neutral: settings, beside the common ones, that must have one of these values. defaults: what the family's
    transformers class assumes for keys that are missing. partial: the share of a head that turns where the
    config does not say, of families of which not all does. read: keys beside the common ones that the family
    reads itself.
    """
    check_keys(hf, family, _READ | frozenset(read), {**_NEUTRAL, **(neutral or {})})
    window = "sliding_attention" if sliding_window else "full_attention"
    kinds = hf.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or any(kind != window for kind in kinds)):
        raise refuse("layer_types", kinds, f"null, or {window} for all layers of model_type {family}")
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
    vocab_size = integer(given, "vocab_size")
    frequencies, attention_factor = rope_frequencies(given, head_dim, positions, partial)
    return ModelConfig(
        family=family,
        vocab_size=vocab_size,
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
        mlp_bias=mlp_bias,
        lm_head=has_lm_head(hf),
        tie_embeddings=check_bool("tie_word_embeddings", given.get("tie_word_embeddings", False)),
        max_positions=positions,
        **special_tokens(hf, vocab_size),
        task=task_from_hf(hf),
        hf=hf,
    )


def one_window(hf: Mapping[str, Any], family: str) -> tuple[dict[str, Any], int]:
    """(the config without layer_types, the window of every layer, 0 for none) of a family whose layers may
    differ: those from max_window_layers on have the window, or those that `layer_types` names, and none
    has it without use_sliding_window. ConfigError where some layers have it and others not, and where
    `layer_types` names layers with a window that there is not, which transformers cannot run either.
    """
    rest = {key: value for key, value in hf.items() if key != "layer_types"}
    window, kinds = hf.get("sliding_window", 4096), hf.get("layer_types")
    if not check_bool("use_sliding_window", hf.get("use_sliding_window") or False) or window is None:
        given = kinds or []
        if not isinstance(given, list) or any(kind != "full_attention" for kind in given):
            raise refuse("layer_types", kinds, "null, or full_attention for all layers, without a window")
        return rest, 0
    layers = integer(hf, "num_hidden_layers")
    if kinds is None:
        first = integer(hf, "max_window_layers", 28, low=0)
        has = [layer >= first for layer in range(min(layers, MAX_LAYERS))]
    elif isinstance(kinds, list) and len(kinds) == layers:
        has = [kind == "sliding_attention" for kind in kinds]
    else:
        raise refuse("layer_types", kinds, f"null, or the kinds of {layers} layers")
    if any(has) and not all(has):
        raise refuse(
            "use_sliding_window",
            True,
            f"false for model_type {family}, or a window in all layers; {sum(has)} of {layers} have one",
        )
    return rest, check_int("sliding_window", window) if any(has) else 0
