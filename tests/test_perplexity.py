"""Perplexity against numbers by hand: a model that knows nothing, and every token scored on its own."""

import math

import numpy as np
import pytest
import tiny

from hybridattn import evaluate
from hybridattn.data.tokens import TokenData


def test_a_model_that_knows_nothing():
    """All weights 0: every token has a probability of 1 / vocabulary, and a token is a byte."""
    model = tiny.teacher()
    for array in model.arrays().values():
        array[...] = 0.0
    text = "one two three\nñandú 四"
    size, words = len(text.encode()), 5
    for options in ({}, {"seq_len": 8}, {"seq_len": 8, "stride": 3}):
        found = evaluate.perplexity(model, text, **options)
        assert found["nll"] == pytest.approx(math.log(257), rel=1e-6)
        assert found.perplexity == pytest.approx(257, rel=1e-5)
        assert found["bits_per_byte"] == pytest.approx(math.log2(257), rel=1e-6)
        assert found.word_perplexity == pytest.approx(257 ** (size / words), rel=1e-4)
        assert found["stderr"] == pytest.approx(0.0, abs=1e-5) or math.isnan(found["stderr"])
    # the end-of-text token between documents is a token of the text, and no byte of it
    found = evaluate.perplexity(model, ["ab", "cd"])
    assert found["bits_per_byte"] == pytest.approx(math.log2(257) * 5 / 4)
    assert "bits_per_byte" not in evaluate.perplexity(model, text, max_tokens=4)


@pytest.mark.parametrize("seq_len, stride", [(16, None), (16, 16), (16, 5), (16, 1), (200, 7)])
def test_every_token_on_its_own(seq_len, stride):
    """-log p of each token from the logits after its context, windows laid out by hand."""
    model, text = tiny.teacher(), tiny.TEXT[:60]
    tokens = model.tokenizer.encode(text)
    total, count = 0.0, 0
    for t in range(1, len(tokens)):
        if stride is None or stride >= seq_len:
            start = t - t % seq_len
            if start == t:  # the first of its window
                continue
        else:  # the first window, `stride` apart, that reaches t
            start = max(0, math.ceil((t + 1 - seq_len) / stride) * stride)
        logits = model.logits(np.array([tokens[start:t]], np.int32))[0, -1].astype(np.float64)
        total += math.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[tokens[t]]
        count += 1
    found = evaluate.perplexity(model, text, seq_len=seq_len, stride=stride)
    assert found["tokens"] == count
    assert found["nll"] == pytest.approx(total / count, rel=1e-5)


def test_standard_error_is_over_windows():
    model = tiny.teacher()
    data = TokenData(np.arange(40, dtype=np.int32), np.array([[0, 10], [10, 20], [20, 40]]))
    each = [model.nll(data.tokens[None, a:b])[0].astype(float) for a, b in data.windows]
    weights = np.array([9, 9, 19.0])
    means = np.array([values.mean() for values in each])
    mean = (weights * means).sum() / weights.sum()
    error = math.sqrt(((weights * (means - mean)) ** 2).sum() * 3 / 2) / weights.sum()
    found = evaluate.perplexity(model, data)
    assert found["nll"] == pytest.approx(mean, rel=1e-6) and found["stderr"] == pytest.approx(error, rel=1e-5)
