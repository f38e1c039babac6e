"""RoBERTa encoders: BERT whose positions start behind the padding token's, and a head of its own."""

from __future__ import annotations

import re
from typing import Any

from ..checks import refuse
from .bert import EMBEDDINGS, PARTS, read_config
from .config import ModelConfig
from .heads import FamilyHead
from .layout import Layout
from .reading import activation, has_lm_head, integer

TASK = FamilyHead(
    pooler_name="classifier.dense",
    classifier_name="classifier.out_proj",
    pool="first",
    pooler="tanh",
    bias=True,
)
LAYOUT = Layout(
    prefix="roberta.",
    top=EMBEDDINGS,
    head={
        "transform.weight": "lm_head.dense.weight",
        "transform.bias": "lm_head.dense.bias",
        "transform_norm.weight": "lm_head.layer_norm.weight",
        "transform_norm.bias": "lm_head.layer_norm.bias",
        "lm_head.weight": "lm_head.decoder.weight",
        "lm_head.bias": "lm_head.bias",
    },
    other_names={"lm_head.bias": "lm_head.decoder.bias"},
    task=TASK,
    layer="encoder.layer.{}.",
    parts=PARTS,
    ignored=re.compile(r"(roberta\.)?(embeddings\.position_ids|pooler\.dense\.\w+)|lm_head\.decoder\.bias"),
)


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `RobertaForMaskedLM`, `RobertaModel`, `RobertaForSequenceClassification` or
    `RobertaForQuestionAnswering` config, with those classes' defaults.

    Its head has a GELU whatever hidden_act is, so that another one is refused. ConfigError on bad values.
    """
    if has_lm_head(hf) and activation(hf, "hidden_act", "gelu") != "gelu":
        raise refuse("hidden_act", hf["hidden_act"], "gelu for a RobertaForMaskedLM")
    return read_config(hf, "roberta", TASK, integer(hf, "pad_token_id", 1, low=0) + 1, 50265)
