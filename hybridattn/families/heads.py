"""The heads of tasks in Hugging Face checkpoints: which class there is says which head, `id2label` how
many labels.
"""

from __future__ import annotations

import re
from typing import Any

from ..config import ModelConfig, TaskHead, check_int

_CLASS = {
    "classify": "ForSequenceClassification",
    "regress": "ForSequenceClassification",
    "span": "ForQuestionAnswering",
}
# transformers keeps an older name of the decoder inside these classes' question answering models
_TRANSFORMER = ("llama", "qwen2")


def task_from_hf(
    hf: dict[str, Any], *, pool: str = "last", pooler: str = "none", bias: bool = False
) -> TaskHead | None:
    """The head of a config whose class is a sequence classifier or a question answering model; else None.

    pool, pooler, bias: how the family's classifier reads a sequence. A classifier is a regression when its
    problem_type says so, or when it has one label and says nothing. ConfigError on bad values.
    """
    names = hf.get("architectures") or []
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    if name.endswith(_CLASS["span"]):
        return TaskHead(kind="span", num_labels=2, bias=True)
    if not name.endswith(_CLASS["classify"]):
        return None
    labels = hf.get("id2label")
    count = check_int("num_labels", hf.get("num_labels", 2) if labels is None else len(labels))
    problem = hf.get("problem_type")
    regress = problem == "regression" or (problem is None and count == 1)
    return TaskHead(
        kind="regress" if regress else "classify", num_labels=count, pool=pool, pooler=pooler, bias=bias
    )


def task_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of config.json that say what `task_from_hf` reads. Label names that are there are kept."""
    task, hf = config.task, config.hf
    if task is None:
        return {}
    names = hf.get("architectures") or [hf.get("model_type", "model").capitalize()]
    stem = re.sub(r"(For[A-Z]\w*|LMHeadModel|Model)$", "", names[0])
    found: dict[str, Any] = {"architectures": [stem + _CLASS[task.kind]]}
    if task.kind != "span":
        labels = hf.get("id2label")
        if not isinstance(labels, dict) or len(labels) != task.num_labels:
            labels = {str(i): f"LABEL_{i}" for i in range(task.num_labels)}
        found["id2label"] = labels
        found["label2id"] = {label: int(i) for i, label in labels.items()}
        found["problem_type"] = "regression" if task.kind == "regress" else "single_label_classification"
    return found


def is_decoder_head(task: TaskHead) -> bool:
    """Whether transformers' class of a decoder computes this head."""
    if task.kind == "span":
        return task.bias
    return task.pool == "last" and task.pooler == "none" and not task.bias


def decoder_name(config: ModelConfig, hf_name: str) -> str:
    """The name, in a decoder with a task, of what is called `hf_name` in one without."""
    if config.task is not None and config.task.kind == "span" and config.family in _TRANSFORMER:
        return re.sub(r"^model\.", "transformer.", hf_name)
    return hf_name


def head_name(config: ModelConfig, internal_name: str) -> str | None:
    """The name of a parameter of a decoder's head; None for any other parameter."""
    part, _, rest = internal_name.partition(".")
    if config.task is None or part not in ("pooler", "classifier"):
        return None
    if part == "pooler":
        return f"pooler.dense.{rest}"
    return f"{'qa_outputs' if config.task.kind == 'span' else 'score'}.{rest}"
