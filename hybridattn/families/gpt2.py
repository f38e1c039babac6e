"""GPT-2 decoders: learned positions, LayerNorm, GELU; q, k and v in one matrix, all matrices [in, out]."""

from __future__ import annotations

import re
from typing import Any

from ..checks import check_bool, check_number
from .config import ModelConfig
from .heads import task_from_hf
from .keys import check_keys, with_aliases, words
from .layout import Joined, Layout
from .reading import activation, has_lm_head, head_size, integer, special_tokens

_NEUTRAL = {
    "is_causal": (None, True),
    "scale_attn_weights": (None, True),
    "scale_attn_by_inverse_layer_idx": (None, False),
}
_READ = words("activation_function n_embd n_head n_inner n_layer n_positions layer_norm_epsilon vocab_size")
_ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}

LAYOUT = Layout(
    prefix="transformer.",
    top={
        "embed.weight": "wte.weight",
        "positions.weight": "wpe.weight",
        "final_norm.weight": "ln_f.weight",
        "final_norm.bias": "ln_f.bias",
    },
    head={"lm_head.weight": "lm_head.weight"},
    layer="h.{}.",
    parts={
        "mixer_norm": "ln_1",
        "mlp_norm": "ln_2",
        **{
            f"softmax.{name}_proj.weight": Joined("attn.c_attn.weight", i, 3, transposed=True)
            for i, name in enumerate("qkv")
        },
        **{f"softmax.{name}_proj.bias": Joined("attn.c_attn.bias", i, 3) for i, name in enumerate("qkv")},
        "softmax.o_proj.weight": Joined("attn.c_proj.weight", transposed=True),
        "softmax.o_proj.bias": "attn.c_proj.bias",
        "mlp.up_proj.weight": Joined("mlp.c_fc.weight", transposed=True),
        "mlp.up_proj.bias": "mlp.c_fc.bias",
        "mlp.down_proj.weight": Joined("mlp.c_proj.weight", transposed=True),
        "mlp.down_proj.bias": "mlp.c_proj.bias",
    },
    ignored=re.compile(r"(^|\.)attn\.(bias|masked_bias)$"),  # the causal mask
)


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `GPT2LMHeadModel` config, with that class's defaults. ConfigError on bad values."""
    hf = with_aliases(hf, _ALIASES)
    check_keys(hf, "gpt2", _READ, _NEUTRAL)
    vocab_size = integer(hf, "vocab_size", 50257)
    hidden, heads = integer(hf, "n_embd", 768), integer(hf, "n_head", 12)
    positions = integer(hf, "n_positions", 1024)
    return ModelConfig(
        family="gpt2",
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_layers=integer(hf, "n_layer", 12),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=head_size("n_embd", hidden, "n_head", heads),
        intermediate_size=integer(hf, "n_inner", 4 * hidden),
        norm_eps=check_number("layer_norm_epsilon", hf.get("layer_norm_epsilon", 1e-5), above=True),
        rope_inv_freq=(),
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        norm="layer",
        mlp=activation(hf, "activation_function", "gelu_new"),
        positions=positions,
        lm_head=has_lm_head(hf),
        tie_embeddings=check_bool("tie_word_embeddings", hf.get("tie_word_embeddings", True)),
        max_positions=positions,
        **special_tokens(hf, vocab_size),
        task=task_from_hf(hf),
        hf=hf,
    )
