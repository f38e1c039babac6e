"""One checkpoint, any budget: softmax layers chosen at load and run time, policies, elastic distillation."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

import hybridattn as ha
from hybridattn import elastic
from hybridattn.errors import ConfigError
from hybridattn.radlads import steps
from hybridattn.radlads.steps import sampler

ORDER = (2, 0, 1)


@pytest.fixture
def model():
    probe = tiny.teacher().to_probe({"kind": "window_linear", "window": 4, "sinks": 1})
    scores = ha.LayerScores("kl_replace", np.array([[2.0], [1.0], [3.0]]))
    return elastic.make(probe, scores)


@pytest.fixture
def tokens():
    return np.random.default_rng(3).integers(4, 60, (1, 24)).astype(np.int32)


def test_order_comes_from_the_scores(model):
    assert model.softmax_order == ORDER
    assert model.copy().softmax_order == ORDER


@pytest.mark.parametrize("k", range(4))
def test_every_budget_is_that_hybrid(model, tokens, k, tmp_path):
    """At run time, at load and as a hybrid of its own: the same numbers."""
    expected = model.to_hybrid(ORDER[:k]).logits(tokens)
    model.set_softmax_layers(k)
    assert np.array_equal(model.logits(tokens), expected)
    assert [int(g) for g in model.gates] == [int(i in ORDER[:k]) for i in range(3)]
    model.save_pretrained(tmp_path)
    again = ha.Model.from_pretrained(tmp_path)
    assert again.softmax_order == ORDER
    assert np.array_equal(again.logits(tokens), expected)
    loaded = ha.Model.from_pretrained(tmp_path, softmax_layers=k)
    assert all(len(specs) == 1 for specs in loaded.layers)
    assert np.array_equal(loaded.logits(tokens), expected)


def test_generate_by_policy(model, tokens):
    prompt = tokens[0].tolist()
    seen = []

    def policy(given, length):
        seen.append(length)
        return 1

    before = model.gates.copy()
    got = model.generate(prompt, max_new_tokens=5, softmax_layers=policy)
    assert seen == [len(prompt) + 5]
    assert got == model.to_hybrid(ORDER[:1]).generate(prompt, max_new_tokens=5)
    assert np.array_equal(model.gates, before)
    assert model.generate(prompt, max_new_tokens=5, softmax_layers=[1]) == model.to_hybrid([1]).generate(
        prompt, max_new_tokens=5
    )


def test_policies(model):
    policy = elastic.by_length((0, 3), (10, 2), (100, 0))
    assert [policy(model, n) for n in (1, 9, 10, 99, 100, 5000)] == [3, 3, 2, 2, 0, 0]
    sizes = [elastic.cache_bytes(model, k, 200) for k in range(4)]
    assert sizes == sorted(sizes)
    assert [elastic.by_memory(size)(model, 200) for size in sizes] == [0, 1, 2, 3]
    assert elastic.by_memory(1)(model, 200) == 0
    halves = [elastic.cache_bytes(model, k, 200, "f16") for k in range(4)]
    assert 2 * halves[3] == sizes[3] and halves == sorted(halves)
    assert [elastic.by_memory(size, "f16")(model, 200) for size in halves] == [0, 1, 2, 3]
    for k, size in enumerate(sizes):
        cache = ha.Cache(model.to_hybrid(ORDER[:k]))
        cache.reserve([200])
        assert cache.nbytes == size


def test_scores_without_one_order_are_refused(model):
    with pytest.raises(ConfigError, match="method is 'smart'"):
        elastic.make(model, ha.LayerScores("smart", np.zeros((3, 2))))


def test_distill_over_budgets(model, tmp_path):
    """Both mixers of a layer learn, gates come back, and a resumed run is the same run."""
    teacher = tiny.teacher()
    data = tiny.text_data(seq_len=20, max_tokens=400)
    whole = model.copy()
    options = dict(elastic=(0, 1, 3), progress=False, lr_mixers=1e-2)
    ha.distill(whole, teacher, data, 6, 1, **options)
    assert np.array_equal(whole.gates, model.gates)
    before, after = model.arrays(), whole.arrays()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {"layers.1.softmax.q_proj.weight", "layers.1.window_linear.q_proj.weight"} <= moved

    stopped = []

    draw = sampler

    def stopping(*arguments):
        inner = draw(*arguments)

        def before_step(step):
            if step == 4 and not stopped:
                stopped.append(step)
                raise KeyboardInterrupt
            inner(step)

        return before_step

    path = tmp_path / "run.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "sampler", stopping)
        with pytest.raises(KeyboardInterrupt):
            ha.distill(model.copy(), teacher, data, 6, 1, checkpoint=path, **options)
    parts = model.copy()
    ha.distill(parts, teacher, data, 6, 1, checkpoint=path, **options)
    assert stopped
    for name, array in parts.arrays().items():
        assert np.array_equal(array, after[name]), name


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda m: m.set_softmax_layers(4), "softmax_layers"),
        (lambda m: m.set_softmax_layers([3]), "0 to 2"),
        (lambda m: m.set_softmax_layers([1.7]), "0 to 2"),
        (lambda m: m.set_softmax_layers(2.0), "a number of layers, or the layers"),
        (lambda m: m.set_softmax_layers("1"), "a number of layers, or the layers"),
        (lambda m: m.to_hybrid([0]).set_softmax_layers([1]), "layer 0"),
        (lambda m: tiny.teacher().set_softmax_layers(1), "softmax_order"),
        (lambda m: elastic.by_length((5, 1)), "from 0 tokens"),
        (lambda m: elastic.by_memory(0), "limit"),
        (lambda m: elastic.order_of([0, 0, 1], 3), "softmax_order"),
        (lambda m: sampler(m, (), 0), "elastic"),
    ],
)
def test_refused(model, act, message):
    with pytest.raises(ConfigError, match=message):
        act(model)
