"""GPT-NeoX decoders (Pythia): mixer and MLP side by side, RoPE on a part of each head, LayerNorm, GELU."""

from __future__ import annotations

import re
from typing import Any

from ..checks import check_bool, check_number, refuse
from .config import ModelConfig
from .heads import task_from_hf
from .keys import check_keys, words
from .layout import Joined, Layout
from .reading import activation, has_lm_head, head_size, integer, special_tokens
from .rope import rope_frequencies, rope_parameters

LAYOUT = Layout(
    prefix="gpt_neox.",
    top={
        "embed.weight": "embed_in.weight",
        "final_norm.weight": "final_layer_norm.weight",
        "final_norm.bias": "final_layer_norm.bias",
    },
    head={"lm_head.weight": "embed_out.weight"},
    layer="layers.{}.",
    parts={
        "mixer_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
        **{
            f"softmax.{name}_proj": Joined("attention.query_key_value", i, 3, by_head=True)
            for i, name in enumerate("qkv")
        },
        "softmax.o_proj": "attention.dense",
        "mlp.up_proj": "mlp.dense_h_to_4h",
        "mlp.down_proj": "mlp.dense_4h_to_h",
    },
    ignored=re.compile(r"(^|\.)attention\.(bias|masked_bias|rotary_emb\.inv_freq)$"),
)


_READ = words(
    "attention_bias hidden_act hidden_size intermediate_size layer_norm_eps "
    "max_position_embeddings num_attention_heads num_hidden_layers rope_parameters rope_scaling "
    "rope_theta partial_rotary_factor rotary_emb_base rotary_pct use_parallel_residual "
    "vocab_size is_decoder"
)


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `GPTNeoXForCausalLM` config, with that class's defaults. ConfigError on bad values."""
    check_keys(hf, "gpt_neox", _READ, {"is_causal": (None, True)})
    vocab_size = integer(hf, "vocab_size", 50432)
    hidden, heads = integer(hf, "hidden_size", 6144), integer(hf, "num_attention_heads", 64)
    head_dim, positions = (
        head_size("hidden_size", hidden, "num_attention_heads", heads),
        integer(hf, "max_position_embeddings", 2048),
    )
    frequencies, factor = rope_frequencies(_rope(hf), head_dim, positions, partial=0.25)
    bias = check_bool("attention_bias", hf.get("attention_bias", True))
    parallel = check_bool("use_parallel_residual", hf.get("use_parallel_residual", True))
    return ModelConfig(
        family="gpt_neox",
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_layers=integer(hf, "num_hidden_layers", 44),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=head_dim,
        intermediate_size=integer(hf, "intermediate_size", 24576),
        norm_eps=check_number("layer_norm_eps", hf.get("layer_norm_eps", 1e-5), above=True),
        rope_inv_freq=frequencies,
        rope_attention_factor=factor,
        attention_bias=bias,
        output_bias=bias,
        mlp_bias=True,
        norm="layer",
        block="parallel" if parallel else "pre",
        mlp=activation(hf, "hidden_act", "gelu"),
        lm_head=has_lm_head(hf),
        tie_embeddings=check_bool("tie_word_embeddings", hf.get("tie_word_embeddings", False)),
        max_positions=positions,
        **special_tokens(hf, vocab_size),
        task=task_from_hf(hf),
        hf=hf,
    )


def _rope(hf: dict[str, Any]) -> dict[str, Any]:
    """The config with RoPE's keys as other families have them. This one's own names are rotary_emb_base and
    rotary_pct; `rope_parameters` counts more, and transformers does not look at rope_theta and
    partial_rotary_factor beside them. ConfigError where these say something else than what counts.
    """
    own = {
        "rope_theta": 10000.0 if hf.get("rotary_emb_base") is None else hf["rotary_emb_base"],
        "partial_rotary_factor": 0.25 if hf.get("rotary_pct") is None else hf["rotary_pct"],
    }
    rope = {**hf, **own}
    counts = rope_parameters(rope)
    for key, name in (("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct")):
        if hf.get(key) not in (None, counts[key]):
            raise refuse(key, hf[key], f"{counts[key]}, as {name} or rope_parameters have it, or null")
    return rope
