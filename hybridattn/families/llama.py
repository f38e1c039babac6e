"""Llama decoders (Llama 2 and 3, SmolLM and SmolLM2, TinyLlama): GQA, RoPE, RMSNorm, SwiGLU."""

from __future__ import annotations

import re
from typing import Any

from ..config import ModelConfig, check_bool, check_int, check_number, refuse
from ..errors import ConfigError
from ..rope import rope_frequencies

# Settings that change what a model computes; any other value than these would be silently wrong.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "pretraining_tp": (None, 1),
    "sliding_window": (None,),
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


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `LlamaForCausalLM` config, with that class's defaults. ConfigError on bad values."""
    for key, allowed in _NEUTRAL.items():
        if key in hf and hf[key] not in allowed:
            raise refuse(
                key,
                hf[key],
                " or ".join("null" if value is None else str(value) for value in allowed)
                + " for model_type llama",
            )

    def integer(key: str, default: int | None = None) -> int:
        value = hf.get(key)
        return check_int(key, default if value is None else value)

    heads = integer("num_attention_heads")
    kv_heads = integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise refuse("num_key_value_heads", kv_heads, f"a divisor of num_attention_heads ({heads})")
    hidden = integer("hidden_size")
    if hf.get("head_dim") is None and hidden % heads:
        raise refuse(
            "hidden_size", hidden, f"a multiple of num_attention_heads ({heads}) when head_dim is not given"
        )
    head_dim = integer("head_dim", hidden // heads)
    if head_dim % 2:
        raise refuse("head_dim", head_dim, "an even integer, since RoPE turns pairs")
    positions = integer("max_position_embeddings", 2048)
    frequencies, attention_factor = rope_frequencies(hf, head_dim, positions)
    bias = check_bool("attention_bias", hf.get("attention_bias", False))
    return ModelConfig(
        family="llama",
        vocab_size=integer("vocab_size"),
        hidden_size=hidden,
        num_layers=integer("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=integer("intermediate_size"),
        norm_eps=check_number("rms_norm_eps", hf.get("rms_norm_eps", 1e-6), above=True),
        rope_inv_freq=frequencies,
        rope_attention_factor=attention_factor,
        attention_bias=bias,
        output_bias=bias,  # this family has both or neither
        mlp_bias=check_bool("mlp_bias", hf.get("mlp_bias", False)),
        tie_embeddings=check_bool("tie_word_embeddings", hf.get("tie_word_embeddings", False)),
        max_positions=positions,
        bos_token_id=hf.get("bos_token_id"),
        eos_token_ids=_token_ids(hf.get("eos_token_id")),
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
