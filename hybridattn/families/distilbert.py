"""DistilBERT encoders: BERT of half the layers, without segments."""

from __future__ import annotations

import re
from typing import Any

from .config import ModelConfig
from .encoder import NEUTRAL, encoder
from .heads import FamilyHead
from .keys import check_keys, with_aliases, words
from .layout import Layout
from .reading import activation, integer

TASK = FamilyHead(
    pooler_name="pre_classifier", classifier_name="classifier", pool="first", pooler="relu", bias=True
)
LAYOUT = Layout(
    prefix="distilbert.",
    top={
        "embed.weight": "embeddings.word_embeddings.weight",
        "positions.weight": "embeddings.position_embeddings.weight",
        "embed_norm.weight": "embeddings.LayerNorm.weight",
        "embed_norm.bias": "embeddings.LayerNorm.bias",
    },
    head={
        "transform.weight": "vocab_transform.weight",
        "transform.bias": "vocab_transform.bias",
        "transform_norm.weight": "vocab_layer_norm.weight",
        "transform_norm.bias": "vocab_layer_norm.bias",
        "lm_head.weight": "vocab_projector.weight",
        "lm_head.bias": "vocab_projector.bias",
    },
    task=TASK,
    layer="transformer.layer.{}.",
    parts={
        "softmax.q_proj": "attention.q_lin",
        "softmax.k_proj": "attention.k_lin",
        "softmax.v_proj": "attention.v_lin",
        "softmax.o_proj": "attention.out_lin",
        "mixer_norm": "sa_layer_norm",
        "mlp.up_proj": "ffn.lin1",
        "mlp.down_proj": "ffn.lin2",
        "mlp_norm": "output_layer_norm",
    },
    ignored=re.compile(r"(distilbert\.)?embeddings\.position_ids"),
)


_READ = words("activation dim hidden_dim max_position_embeddings n_heads n_layers vocab_size")
_ALIASES = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `DistilBertForMaskedLM`, `DistilBertModel`, `DistilBertForSequenceClassification` or
    `DistilBertForQuestionAnswering` config, with those classes' defaults.

    `sinusoidal_pos_embds` says how the position embeddings were started; they are weights all the same.
    ConfigError on bad values.
    """
    hf = with_aliases(hf, _ALIASES)
    check_keys(hf, "distilbert", _READ, NEUTRAL)
    return encoder(
        hf,
        "distilbert",
        TASK,
        hidden_key="dim",
        hidden=integer(hf, "dim", 768),
        heads_key="n_heads",
        heads=integer(hf, "n_heads", 12),
        vocab_size=integer(hf, "vocab_size", 30522),
        num_layers=integer(hf, "n_layers", 6),
        intermediate_size=integer(hf, "hidden_dim", 3072),
        norm_eps=1e-12,
        mlp=activation(hf, "activation", "gelu"),
        positions=integer(hf, "max_position_embeddings", 512),
    )
