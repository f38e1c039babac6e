"""Made-up examples of each kind of task head."""

import numpy as np
import pytest
from golden.recipe import FAMILY_MODELS

from hybridattn import Model
from hybridattn.tasks import Examples, add_head, predict

pytestmark = pytest.mark.usefixtures("one_thread")

HEADS = {
    "classify": {"kind": "classify", "num_labels": 3},
    "regress": {"kind": "regress", "num_labels": 2, "pool": "mean", "pooler": "tanh", "bias": True},
    "span": {"kind": "span"},
}


def sequences(count: int, seed: int = 0) -> list[np.ndarray]:
    """Random letters, 6 to 14 of them; the first one is 0 or 1."""
    rng = np.random.default_rng(seed)
    made = [rng.integers(2, 20, rng.integers(6, 15)) for _ in range(count)]
    for tokens in made:
        tokens[0] = rng.integers(2)
    return made


def examples(count: int = 64, seed: int = 0) -> Examples:
    """The class is the first letter, which the last token has to look up."""
    made = sequences(count, seed)
    return Examples.of(made, [tokens[0] for tokens in made])


def labels(kind: str, made: list[np.ndarray]) -> list:
    if kind == "classify":
        return [int(tokens[0]) for tokens in made]
    if kind == "regress":
        return [[tokens[0], -1.0] for tokens in made]
    return [[1, len(tokens) - 2] for tokens in made]


def accuracy(model: Model, data: Examples) -> float:
    return float((predict(model, data).argmax(axis=1) == data.labels).mean())


def encoder(kind: str = "classify", **options) -> Model:
    return add_head(Model.from_pretrained(FAMILY_MODELS / "bert"), kind, **options)


def pairs(count: int, seed: int = 0) -> Examples:
    """The class is where the second part begins, which only the segments say."""
    rng = np.random.default_rng(seed)
    made = [rng.integers(3, 60, rng.integers(8, 15)) for _ in range(count)]
    labels = rng.integers(0, 2, count)
    segments = [np.arange(len(m)) >= (3 if label else len(m)) for m, label in zip(made, labels, strict=True)]
    return Examples.of(made, labels, [segment.astype(np.int32) for segment in segments])
