"""Gemma 3 text decoders: most layers see a window and turn by frequencies of their own, every sixth sees all;
norms before and behind mixer and MLP and on every head of q and k, GELU in the MLP's gate, scaled embeddings.

Their norms are zero-centred, as Qwen3.5's are (see `qwen3_5`). Checked against the modelling file of
transformers 5.24.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..checks import check_bool, check_int, refuse
from . import rotary
from .config import MAX_LAYERS, ModelConfig
from .layout import Layout
from .reading import integer, text_part
from .rope import rope_frequencies

__all__ = ["LAYOUT", "config_from_hf"]

MODEL_TYPE = "gemma3_text"
FULL, SLIDING = "full_attention", "sliding_attention"
_ROPE = ("rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq")
_OWN = (*_ROPE, "layer_types", "sliding_window")
_READ = (
    *_OWN,
    "hidden_activation",
    "query_pre_attn_scalar",
    "sliding_window_pattern",
    "_sliding_window_pattern",
)
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "hidden_act": (None, "gelu_pytorch_tanh"),
    "hidden_activation": (None, "gelu_pytorch_tanh"),
    "use_bidirectional_attention": (None, False),
}
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}
_THETA = {FULL: 1000000.0, SLIDING: 10000.0}

LAYOUT = Layout(
    prefix="model.",
    top=rotary.LAYOUT.top,
    head=rotary.LAYOUT.head,
    layer=rotary.LAYOUT.layer,
    parts={
        "mixer_norm": "input_layernorm",
        "mixer_post_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "mlp_post_norm": "post_feedforward_layernorm",
        "softmax": "self_attn",
    },
    zero_centred=re.compile(
        r"final_norm\.weight|layers\.\d+\.((mixer|mlp)(_post)?_norm|softmax\.[qk]_norm)\.weight"
    ),
    other_prefixes=("model.language_model.", "language_model.model."),
    ignored=re.compile(r"(^|\.)rotary_emb\.\w*inv_freq$|^(model\.)?(vision_tower|multi_modal_projector)\."),
)


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `Gemma3ForCausalLM` config, with that class's defaults, or of the text part of a
    `Gemma3ForConditionalGeneration` one. ConfigError on bad values, and for attention scores that are not
    divided by the root of head_dim.
    """
    hf = text_part(hf, MODEL_TYPE, "Gemma3ForCausalLM")
    kinds, ropes = _kinds(hf), _ropes(hf)
    bias = check_bool("attention_bias", hf.get("attention_bias") or False)
    config = rotary.read_config(
        {**{key: value for key, value in hf.items() if key not in _OWN}, "rope_parameters": ropes[FULL]},
        "gemma3",
        neutral=_NEUTRAL,
        defaults=_DEFAULTS,
        attention_bias=bias,
        output_bias=bias,
        qk_norm=True,
        read=_READ,
    )
    scalar = hf.get("query_pre_attn_scalar", 256)
    if scalar != config.head_dim:
        raise refuse("query_pre_attn_scalar", scalar, f"head_dim ({config.head_dim})")
    own, factor = rope_frequencies({"rope_parameters": ropes[SLIDING]}, config.head_dim, config.max_positions)
    if factor != 1.0:
        raise refuse(f"rope_parameters of {SLIDING}", ropes[SLIDING], "a type that leaves scores as they are")
    local = tuple(layer for layer, kind in enumerate(kinds) if kind == SLIDING)
    window = hf.get("sliding_window", 4096)
    return replace(
        config,
        block="sandwich",
        mlp="geglu_tanh",
        embed_scale=float(np.float32(config.hidden_size**0.5)),
        local_layers=local,
        local_window=0 if window is None or not local else check_int("sliding_window", window),
        local_inv_freq=own if local else (),
        hf=hf,
    )


def _kinds(hf: Mapping[str, Any]) -> list[str]:
    layers = check_int("num_hidden_layers", hf.get("num_hidden_layers", 26), 1, MAX_LAYERS)
    kinds = hf.get("layer_types")
    if kinds is None:
        every = integer(hf, "sliding_window_pattern", integer(hf, "_sliding_window_pattern", 6))
        return [SLIDING if (i + 1) % every else FULL for i in range(layers)]
    if not isinstance(kinds, list) or not set(map(str, kinds)) <= {FULL, SLIDING}:
        raise refuse("layer_types", kinds, f"null, or {FULL} and {SLIDING}")
    if len(kinds) != layers:
        raise refuse("layer_types", kinds, f"null, or the kinds of {layers} layers")
    return kinds


def _ropes(hf: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters of both kinds of layers: from rope_parameters, an object a kind, or from the keys that
    were before it, in which scaling is that of layers that see all.
    """
    given, scaling = hf.get("rope_parameters"), hf.get("rope_scaling")
    for key, value in (("rope_parameters", given), ("rope_scaling", scaling)):
        if value is not None and not isinstance(value, Mapping):
            raise refuse(key, value, "null or an object")
    own: dict[str, dict[str, Any]] = {}
    for kind, base in ((FULL, "rope_theta"), (SLIDING, "rope_local_base_freq")):
        part = (given or {}).get(kind)
        if part is not None and not isinstance(part, Mapping):
            raise refuse(f"rope_parameters of {kind}", part, "null or an object")
        theta = _THETA[kind] if hf.get(base) is None else hf[base]
        own[kind] = {"rope_type": "default", "rope_theta": theta, **(part or {})}
    more = sorted(str(key) for key in (given or {}).keys() - {FULL, SLIDING})
    if more:
        raise refuse("rope_parameters", given, f"an object for {FULL} and one for {SLIDING}")
    own[FULL].update(scaling or {})
    return own
