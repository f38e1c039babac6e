"""BERT encoders, MiniLM among them."""

from __future__ import annotations

import re
from typing import Any

from ..checks import check_number
from .config import ModelConfig
from .encoder import NEUTRAL, encoder
from .heads import FamilyHead
from .keys import check_keys, words
from .layout import Layout
from .reading import activation, integer

# What BERT and RoBERTa call alike.
EMBEDDINGS = {
    "embed.weight": "embeddings.word_embeddings.weight",
    "positions.weight": "embeddings.position_embeddings.weight",
    "segments.weight": "embeddings.token_type_embeddings.weight",
    "embed_norm.weight": "embeddings.LayerNorm.weight",
    "embed_norm.bias": "embeddings.LayerNorm.bias",
}
PARTS = {
    "softmax.q_proj": "attention.self.query",
    "softmax.k_proj": "attention.self.key",
    "softmax.v_proj": "attention.self.value",
    "softmax.o_proj": "attention.output.dense",
    "mixer_norm": "attention.output.LayerNorm",
    "mlp.up_proj": "intermediate.dense",
    "mlp.down_proj": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
TASK = FamilyHead(
    pooler_name="bert.pooler.dense", classifier_name="classifier", pool="first", pooler="tanh", bias=True
)
LAYOUT = Layout(
    prefix="bert.",
    top=EMBEDDINGS,
    head={
        "transform.weight": "cls.predictions.transform.dense.weight",
        "transform.bias": "cls.predictions.transform.dense.bias",
        "transform_norm.weight": "cls.predictions.transform.LayerNorm.weight",
        "transform_norm.bias": "cls.predictions.transform.LayerNorm.bias",
        "lm_head.weight": "cls.predictions.decoder.weight",
        "lm_head.bias": "cls.predictions.bias",
    },
    other_names={"lm_head.bias": "cls.predictions.decoder.bias"},
    task=TASK,
    layer="encoder.layer.{}.",
    parts=PARTS,
    ignored=re.compile(
        r"(bert\.)?(embeddings\.position_ids|pooler\.dense\.\w+)"
        r"|cls\.predictions\.decoder\.bias|cls\.seq_relationship\.\w+"
    ),
)


_READ = words(
    "hidden_act hidden_size intermediate_size layer_norm_eps max_position_embeddings "
    "num_attention_heads num_hidden_layers type_vocab_size vocab_size"
)


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `BertForMaskedLM`, `BertForPreTraining`, `BertModel`, `BertForSequenceClassification`
    or `BertForQuestionAnswering` config, with those classes' defaults. The pooler is part of classifiers
    only, the next-sentence head of none. ConfigError on bad values.
    """
    return read_config(hf, "bert", TASK)


def read_config(
    hf: dict[str, Any], family: str, head: FamilyHead, position_offset: int = 0, vocab_size: int = 30522
) -> ModelConfig:
    """Of a family with BERT's keys. position_offset: how many rows of the position embeddings go unused."""
    check_keys(hf, family, _READ, NEUTRAL)
    rows = integer(hf, "max_position_embeddings", 512, low=position_offset + 1)
    return encoder(
        hf,
        family,
        head,
        hidden_key="hidden_size",
        hidden=integer(hf, "hidden_size", 768),
        heads_key="num_attention_heads",
        heads=integer(hf, "num_attention_heads", 12),
        vocab_size=integer(hf, "vocab_size", vocab_size),
        num_layers=integer(hf, "num_hidden_layers", 12),
        intermediate_size=integer(hf, "intermediate_size", 3072),
        norm_eps=check_number("layer_norm_eps", hf.get("layer_norm_eps", 1e-12), above=True),
        mlp=activation(hf, "hidden_act", "gelu"),
        positions=rows - position_offset,
        position_offset=position_offset,
        segments=integer(hf, "type_vocab_size", 2),
    )
