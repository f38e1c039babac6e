"""Tiny random models, a byte tokenizer and a short text, for tests that train and generate in seconds."""

from pathlib import Path

import numpy as np

from hybridattn import _core
from hybridattn.data.tokens import TokenData
from hybridattn.model.model import Model
from hybridattn.pipeline.execute import REGISTERED
from hybridattn.testing import assert_same_weights, randomize, tiny_model
from hybridattn.testing import byte_tokenizer as tokenizer
from hybridattn.testing.models import EOS

__all__ = [
    "EOS",
    "MIXERS",
    "TEXT",
    "assert_same_weights",
    "randomize",
    "teacher",
    "text_data",
    "tokenizer",
    "weights",
]
TEXT = (Path(__file__).parent / "data" / "mill.txt").read_text(encoding="utf-8")
MIXERS = ({"kind": "window_linear", "window": 8, "sinks": 2}, {"kind": "gated_delta"})


def teacher(
    seed: int = 0, layers: int = 3, tied: bool = True, bidirectional: bool = False, **changes
) -> Model:
    """A softmax model of random weights; changes: keys of its config.json, which may make it of another
    family that has the same keys as Llama.
    """
    return tiny_model(
        seed=seed, layers=layers, bidirectional=bidirectional, tie_word_embeddings=tied, **changes
    )


def text_data(seq_len: int = 32, max_tokens: int | None = None) -> TokenData:
    return TokenData.from_text(TEXT, tokenizer(), seq_len, max_tokens)


def weights(model: Model) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.arrays().items()}


def built_in_mixers():
    """{kind: what it is}, without those that a test or a page of the docs registered in this process."""
    kinds = _core.mixers().items()
    return {k: about for k, about in kinds if about["summary"] != REGISTERED and not k.startswith("test_")}
