"""GPT-NeoX decoders (Pythia): mixer and MLP side by side, RoPE on a part of each head, LayerNorm, GELU."""

from __future__ import annotations

import re
from typing import Any

from ..checks import check_bool, check_number
from .config import ModelConfig
from .heads import task_from_hf
from .layout import Joined, Layout
from .reading import activation, has_lm_head, head_size, integer, refuse_others, token_ids
from .rope import rope_frequencies

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


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `GPTNeoXForCausalLM` config, with that class's defaults. ConfigError on bad values."""
    refuse_others(hf, "gpt_neox", {})
    hidden, heads = integer(hf, "hidden_size", 6144), integer(hf, "num_attention_heads", 64)
    head_dim, positions = (
        head_size("hidden_size", hidden, "num_attention_heads", heads),
        integer(hf, "max_position_embeddings", 2048),
    )
    old = {"rope_theta": hf.get("rotary_emb_base"), "partial_rotary_factor": hf.get("rotary_pct")}
    rope = {**{key: value for key, value in old.items() if value is not None}, **hf}
    frequencies, factor = rope_frequencies(rope, head_dim, positions, partial=0.25)
    bias = check_bool("attention_bias", hf.get("attention_bias", True))
    parallel = check_bool("use_parallel_residual", hf.get("use_parallel_residual", True))
    return ModelConfig(
        family="gpt_neox",
        vocab_size=integer(hf, "vocab_size", 50432),
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
        bos_token_id=hf.get("bos_token_id"),
        eos_token_ids=token_ids(hf.get("eos_token_id")),
        task=task_from_hf(hf),
        hf=hf,
    )
