"""Likelihood of continuations: against the plain nll of prompt and continuation read as one sequence."""

import numpy as np
import pytest
import tiny

from hybridattn import likelihood
from hybridattn.errors import ConfigError, DataError

RNG = np.random.default_rng(5)


@pytest.fixture(params=["softmax", "window_linear", "gated_delta"])
def model(request):
    """A teacher, and all-linear models."""
    teacher = tiny.teacher()
    return teacher if request.param == "softmax" else teacher.to_probe({"kind": request.param}).to_hybrid([])


def drawn(*lengths):
    return [RNG.integers(0, 250, n).tolist() for n in lengths]


def plain(model, prompt, choice):
    """(log p, greedy), with nothing kept and nothing shared."""
    tokens = np.array([[*prompt, *choice]], np.int32)
    best = model.logits(tokens)[0].argmax(axis=1)[len(prompt) - 1 : -1]
    return -model.nll(tokens)[0, len(prompt) - 1 :].astype(np.float64).sum(), best.tolist() == choice


@pytest.mark.parametrize("common", [0, 10, 50])
def test_scores_are_those_of_whole_sequences(model, common):
    (start,) = drawn(common)
    prompts = [start + tail for tail in drawn(1, 7, 23, 4, 12)]
    choices = [drawn(1, 1), drawn(3, 1, 9), drawn(2), drawn(1), drawn(5, 5)]
    best = int(model.logits(np.array([prompts[3]], np.int32))[0, -1].argmax())
    choices[3] = [[best], [best, 3]]
    found = likelihood.continuations(model, prompts, choices, batch_size=3)
    assert [len(row) for row in found] == [2, 3, 1, 2, 2] and found[3][0].greedy
    for prompt, row, scores in zip(prompts, choices, found, strict=True):
        for choice, score in zip(row, scores, strict=True):
            want, greedy = plain(model, prompt, choice)
            assert score.logprob == pytest.approx(want, rel=1e-4, abs=1e-3)
            assert (score.greedy, score.tokens) == (greedy, len(choice))


def test_a_common_beginning_is_read_once(monkeypatch):
    model, read = tiny.teacher(), []
    (start,) = drawn(100)
    real = likelihood.prefill
    monkeypatch.setattr(likelihood, "prefill", lambda m, p, c: read.append(sum(map(len, p))) or real(m, p, c))
    likelihood.continuations(model, [start + [i, i] for i in range(4)], [[[1], [2, 3]]] * 4)
    assert read == [100, 8]
    likelihood.continuations(model, [start, start], [[[1]], [[2]]])  # a token of each prompt is left
    assert read[2:] == [99, 2]


def test_pairs_of_text():
    tokenizer = tiny.tokenizer()
    ids = tokenizer.encode
    assert likelihood.encode_pair(tokenizer, "Is it?", " yes") == (ids("Is it?"), ids(" yes"))
    assert likelihood.encode_pair(tokenizer, "Is it?  ", "yes") == (ids("Is it?"), ids("  yes"))
    assert likelihood.encode_pair(tokenizer, "", "yes") == ([tiny.EOS], ids("yes"))
    tokenizer.eos_token_id = None
    with pytest.raises(DataError, match="bos_token_id is None"):
        likelihood.encode_pair(tokenizer, " ", "yes")


def test_bad_requests():
    model = tiny.teacher(max_position_embeddings=32)
    for prompts, choices, message in (
        ([[1]], [], "choices has 0 rows; allowed: 1"),
        ([[1], []], [[[1]], [[1]]], "prompt 1 or a choice of it is empty"),
        ([[1]], [[[1], []]], "prompt 0 or a choice of it is empty"),
        ([[1] * 30], [[[1] * 4]], "have 34 tokens; allowed: 33"),
    ):
        with pytest.raises(DataError, match=message):
            likelihood.continuations(model, prompts, choices)
    for size in (0, -1, 1.5):
        with pytest.raises(ConfigError, match=f"batch_size is {size}; allowed: an integer of at least 1"):
            likelihood.continuations(model, [[1]], [[[1]]], batch_size=size)
    assert likelihood.fit(model, list(range(40)), 4) == list(range(12, 40))
    assert likelihood.fit(model, [1, 2], 4) == [1, 2]
    assert likelihood.fit(model, list(range(40)), 4, 10) == list(range(34, 40))
    with pytest.raises(DataError, match="10 tokens are to be read after the prompt; allowed: 9"):
        likelihood.fit(model, [1, 2], 10, 10)
    with pytest.raises(DataError, match="32 tokens are to be read after the prompt; allowed: 31"):
        likelihood.fit(model, [1, 2], 32)
