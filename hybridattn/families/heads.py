"""The heads of tasks in Hugging Face checkpoints: which class there is says which head, `id2label` how
many labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..checks import check_int, refuse
from .config import ModelConfig, TaskHead
from .reading import class_name, stem

_CLASS = {
    "classify": "ForSequenceClassification",
    "regress": "ForSequenceClassification",
    "span": "ForQuestionAnswering",
}
# Families whose classifiers are called in another way than their language models in transformers.
_CLASSIFIER = {"Gemma3": "Gemma3Text"}
# Families whose question answering models keep an older name of the decoder in transformers.
_TRANSFORMER = ("llama", "qwen2", "qwen3")


@dataclass(frozen=True, kw_only=True)
class FamilyHead:
    """The head of a family's sequence classifiers in transformers: the names of its layers, and pool, pooler
    and bias as in `TaskHead`.
    """

    pooler_name: str
    classifier_name: str
    pool: str
    pooler: str
    bias: bool

    def name(self, config: ModelConfig, internal: str) -> str | None:
        """The name in a file of a parameter of the model's head; None for any other parameter."""
        part, _, rest = internal.partition(".")
        if config.task is None or part not in ("pooler", "classifier"):
            return None
        if part == "pooler":
            return f"{self.pooler_name}.{rest}"
        return f"{'qa_outputs' if config.task.kind == 'span' else self.classifier_name}.{rest}"

    def computes(self, task: TaskHead) -> bool:
        """Whether transformers' class of the family has this head."""
        if task.kind == "span":
            return task.bias
        return (task.pool, task.pooler, task.bias) == (self.pool, self.pooler, self.bias)


DECODER = FamilyHead(
    pooler_name="pooler.dense", classifier_name="score", pool="last", pooler="none", bias=False
)


def task_from_hf(hf: dict[str, Any], head: FamilyHead = DECODER) -> TaskHead | None:
    """The head of a config whose class is a sequence classifier or a question answering model; else None.

    head: how the family's classifier reads a sequence. A classifier is a regression when its problem_type
    says so, or when it has one label and says nothing. ConfigError on bad values.
    """
    name = class_name(hf)
    if name.endswith(_CLASS["span"]):
        return TaskHead(kind="span", num_labels=2, pool=head.pool, bias=True)
    if not name.endswith(_CLASS["classify"]):
        return None
    labels = hf.get("id2label")
    count = check_int("num_labels", hf.get("num_labels", 2) if labels is None else len(labels))
    problem = hf.get("problem_type")
    if problem not in (None, "regression", "single_label_classification"):
        raise refuse("problem_type", problem, "null, regression or single_label_classification")
    regress = problem == "regression" or (problem is None and count == 1)
    return TaskHead(
        kind="regress" if regress else "classify",
        num_labels=count,
        pool=head.pool,
        pooler=head.pooler,
        bias=head.bias,
    )


def task_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of config.json that say what `task_from_hf` reads. Label names that are there are kept."""
    task, hf = config.task, config.hf
    if task is None:
        return {}
    begin = stem(hf)
    found: dict[str, Any] = {"architectures": [_CLASSIFIER.get(begin, begin) + _CLASS[task.kind]]}
    if task.kind != "span":
        labels = hf.get("id2label")
        if not isinstance(labels, dict) or len(labels) != task.num_labels:
            labels = {str(i): f"LABEL_{i}" for i in range(task.num_labels)}
        found["id2label"] = labels
        found["label2id"] = {label: int(i) for i, label in labels.items()}
        found["problem_type"] = "regression" if task.kind == "regress" else "single_label_classification"
    return found


def span_base(family: str, prefix: str) -> str:
    """What stands before the names of a family's question answering models, `prefix` unless it is older."""
    return "transformer." if family in _TRANSFORMER else prefix
