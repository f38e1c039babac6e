"""Results and models compare with ==, can be pickled, deep-copied and sent to another process."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from dataclasses import replace

import numpy as np
import pytest

import hybridattn as ha
from hybridattn import testing
from hybridattn.results.equality import same

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def job():
    teacher, data = testing.tiny_model(layers=4, intermediate_size=64), testing.tiny_text(4)
    probe = ha.align(teacher, {"kind": "gated_delta"}, data, steps=3, batch_size=2, progress=False)
    scores = ha.score(probe, data, "kl_gate", progress=False)
    plan = ha.plan.make(scores, k=2)
    return teacher, data, probe, scores, plan, probe.to_hybrid(plan)


def results(job):
    teacher, data, probe, scores, plan, hybrid = job
    weighted = replace(data, weights=np.ones(len(data.tokens)))
    kinds = [data, weighted, scores, plan, probe.train_result, ha.evaluate.kl(hybrid, teacher, data)]
    return [*kinds, ha.evaluate.perplexity(hybrid, data), ha.evaluate.compare({"a": hybrid}, data, teacher)]


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))], ids=["copy", "pickle"]
)
def test_results(job, twin):
    found = results(job)
    for i, result in enumerate(found):
        assert twin(result) == result
        assert [j for j, other in enumerate(found) if other == result] == [i]
        assert result != 3 and result is not None


def test_unequal_in_one_number(job):
    _, data, probe, scores, _, _ = job
    rows = scores.per_sequence.copy()
    rows[0, 0] += 1e-12
    assert replace(scores, per_sequence=rows) != scores
    assert replace(scores, base_kl=float("nan")) == replace(scores, base_kl=float("nan")) != scores
    assert replace(data, label="other") != data
    losses = probe.train_result.losses[:-1]
    assert replace(probe.train_result, losses=losses) != probe.train_result
    with pytest.raises(TypeError, match="unhashable"):
        hash(scores)


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (np.zeros(2), np.zeros(2), True),
        (np.zeros(2), np.zeros(2, np.float32), False),
        (np.zeros(2), [0.0, 0.0], False),
        (np.array([np.nan]), np.array([np.nan]), True),
        ({"x": np.ones(1)}, {"x": np.ones(1)}, True),
        ({"x": 1}, {"y": 1}, False),
        ([float("nan")], [float("nan")], True),
        ([1, 2], (1, 2), False),
        ([1], [1, 2], False),
        (np.array(["a"]), np.array(["a"]), True),
    ],
)
def test_same(a, b, equal):
    assert same(a, b) is equal


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "q8_0"])
@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"]
)
def test_models(job, twin, dtype):
    """Weights of any type, gates, plan, order, tokenizer and history."""
    _, _, probe, _, _, hybrid = job
    for model in (probe, hybrid):
        model = model.astype(dtype) if dtype != "float32" else model
        model.gates[0] = 0.25
        model.softmax_order = (2, 1, 0, 3)
        made = twin(model)
        testing.assert_models_close(made, model, "bits")
        assert made.plan == model.plan and made.train_result == model.train_result
        assert made.softmax_order == (2, 1, 0, 3) and made.stored().keys() == model.stored().keys()
        assert made.tokenizer.encode("a b") == model.tokenizer.encode("a b")
        assert made.model_config == model.model_config
        made.arrays()["final_norm.weight"][0] += 1
        assert made.arrays()["final_norm.weight"][0] != model.arrays()["final_norm.weight"][0]
        model.gates[0] = 1.0


def nll(sent):
    model, tokens = sent
    return model.nll(tokens)


def test_another_process(job):
    _, data, _, _, _, hybrid = job
    tokens = data.tokens[None, :32]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (found,) = pool.map(nll, [(hybrid, tokens)])
    assert found.tobytes() == hybrid.nll(tokens).tobytes()
