"""A fresh head on a model that has none, or another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..checks import check_int, refuse
from ..families import layout_of
from ..families.config import TaskHead

if TYPE_CHECKING:
    from ..data.tokens import Tokens, Windows
    from ..model.model import Model

SPREAD = 0.02  # standard deviation of fresh weights, as in BERT and most models since


def add_head(
    model: Model,
    kind: str,
    num_labels: int | None = None,
    *,
    pool: str | None = None,
    pooler: str | None = None,
    bias: bool | None = None,
    seed: int = 0,
) -> Model:
    """A copy of `model` with a fresh head for a task in the place of its LM head.

    kind: "classify", "regress" or "span"; num_labels: by default 2, for "regress" 1. pool: the token that
    stands for a sequence, by default the "last" of a decoder and the "first" of a bidirectional model; pooler
    and bias as in `config.TaskHead`. With the defaults the head is that of the family's sequence classifiers
    and question answering models in transformers. Its weights are normal with a standard deviation of 0.02
    drawn from `seed`, its biases 0, those of a pooler too: one that the file of a BertModel has is not read.
    Encoders of sentences (MiniLM) were trained on the mean over tokens, so pool="mean" suits them. Raises
    ConfigError.
    """
    check_int("seed", seed, 0)
    family, span = layout_of(model.model_config).task, kind == "span"
    task = TaskHead(
        kind=kind,
        num_labels=(1 if kind == "regress" else 2) if num_labels is None else num_labels,
        pool=pool or ("first" if model.model_config.bidirectional else "last"),
        pooler=pooler or ("none" if span else family.pooler),
        bias=(span or family.bias) if bias is None else bias,
    )
    twin = model.with_task(task)
    rng = np.random.default_rng(seed)
    for name, array in twin.arrays(stored=False).items():
        if name.startswith(("pooler.", "classifier.")):
            array[...] = SPREAD * rng.standard_normal(array.shape) if array.ndim == 2 else 0.0
    return twin


def without_padding(model: Model, windows: Windows, tokens: Tokens) -> Windows:
    """The windows of a decoder's classifier without the padding tokens at their ends: it answers at the last
    token that is not pad_token_id, as transformers' classes do, even where that is the end-of-text token.
    """
    task, pad = head_of(model), model.model_config.hf.get("pad_token_id")
    if task.pool != "last" or task.kind == "span" or type(pad) is not int:
        return windows
    kept = windows.copy()
    for row in kept:
        while row[1] - row[0] > 1 and tokens[row[1] - 1] == pad:
            row[1] -= 1
    return kept


def head_of(model: Model) -> TaskHead:
    """The model's head. ConfigError when it has none."""
    task = model.model_config.task
    if task is None:
        raise refuse("task of the model", None, "a model with a head, see add_head")
    return task
