"""Scores on unusual text and probes: windows that overlap or differ in length, weights that are 0, weights
that are no numbers, layers of different mixers, stored probes.
"""

import numpy as np
import pytest
import tiny

from hybridattn import evaluate, plan, rankings, select
from hybridattn.data.tokens import TokenData
from hybridattn.errors import ConfigError, DataError, HybridAttnError
from hybridattn.model.model import Model
from hybridattn.radlads.teacher import final_hidden
from hybridattn.select import scoring

LAYERS = 4
KL_SCORES = ("kl_replace", "kl_restore", "kl_gate", "kl_greedy_add", "kl_greedy_remove", "kl_joint")


@pytest.fixture(scope="module")
def teacher():
    return tiny.teacher(seed=2, layers=LAYERS, intermediate_size=64)


@pytest.fixture(scope="module")
def probe(teacher):
    return teacher.to_probe(tiny.MIXERS[0])


def score(probe, data, method, **options):
    return select.score(probe, data, method, progress=False, **options)


@pytest.mark.parametrize("method", [*KL_SCORES, "mse", "perplexity"])
def test_overlapping_windows_score_as_if_side_by_side(probe, method):
    tokens = tiny.text_data(32).tokens
    starts = np.arange(0, 96, 16)
    over = TokenData(tokens, np.stack([starts, starts + 32], axis=1))
    joined = np.concatenate([tokens[a:b] for a, b in over.windows])
    apart = TokenData(joined, np.stack([np.arange(6) * 32, np.arange(6) * 32 + 32], axis=1))
    assert np.array_equal(score(probe, over, method).per_sequence, score(probe, apart, method).per_sequence)


def test_windows_laid_apart_keep_weights_and_segments():
    data = tiny.text_data(32)
    n = len(data.tokens)
    windows = [[8, 24], [0, 16]]
    over = TokenData(data.tokens, windows, "x", np.arange(n), np.arange(n) % 2)
    apart = over.apart()
    assert apart.windows.tolist() == [[0, 16], [16, 32]] and apart.label == "x"
    wanted = [*range(8, 24), *range(16)]
    assert apart.weights.tolist() == wanted and apart.segments.tolist() == [i % 2 for i in wanted]
    assert np.array_equal(apart.tokens, data.tokens[wanted])
    assert apart.apart() is apart
    twice = TokenData(data.tokens, [[0, 16], [16, 32], [0, 16]])
    assert twice.apart() is twice  # the same window twice has the same states


def test_states_of_overlapping_windows_are_refused(teacher):
    over = TokenData(tiny.text_data(32).tokens, [[0, 48], [24, 72]])
    with pytest.raises(DataError, match=r"windows \[0, 48\] and \[24, 72\] overlap"):
        final_hidden(teacher, over)


@pytest.fixture(scope="module")
def unequal():
    """One window of 96 tokens and twelve of 4."""
    short = [[96 + 4 * i, 100 + 4 * i] for i in range(12)]
    return TokenData(tiny.text_data(32).tokens, [[0, 96], *short])


@pytest.mark.parametrize("method", ["kl_replace", "kl_restore", "kl_gate", "kl_greedy_add", "kl_joint"])
def test_windows_count_by_their_tokens(teacher, probe, unequal, method, tmp_path):
    scores = score(probe, unequal, method)
    linear = evaluate.kl(probe.to_hybrid([]), teacher, unequal)
    assert scores.all_linear_kl == pytest.approx(linear.kl, rel=1e-4)
    if method in ("kl_replace", "kl_restore"):
        layers = [0] if method == "kl_restore" else [1, 2, 3]
        one = evaluate.kl(probe.to_hybrid(layers), teacher, unequal).kl
        wanted = linear.kl - one if method == "kl_restore" else one
        assert scores.values[0] == pytest.approx(wanted, rel=1e-3)
        assert scores.values[0] != pytest.approx(scores.per_sequence[0].mean(), rel=1e-2)
    if method == "kl_greedy_add":
        base = evaluate.kl(probe.to_hybrid(scores.top(1)), teacher, unequal).kl
        assert scores.base_kl == pytest.approx(base, rel=1e-4)
    scores.save(tmp_path / "scores.json")
    again = select.LayerScores.load(tmp_path / "scores.json")
    assert np.array_equal(again.values, scores.values) and np.array_equal(again.stderr, scores.stderr, True)


def test_a_part_of_the_windows_keeps_their_tokens(probe, unequal):
    scores = score(probe, unequal, "kl_replace")
    part = scores.part(slice(3))
    assert part.tokens.tolist() == [95.0, 3.0, 3.0]
    wanted = scores.per_sequence[:, :3] @ part.tokens / part.tokens.sum()
    assert part.values == pytest.approx(wanted)
    found = rankings.above(scores, 0, 1)
    assert found["mean"] == pytest.approx(scores.values[0] - scores.values[1])
    rows = rankings.by_budget(scores, 2, [3, 13])
    assert rows[0]["jaccard"] == rankings.jaccard(part.top(2), scores.top(2))


def test_windows_of_one_length_and_answers_count_alike(probe, unequal):
    assert score(probe, tiny.text_data(32).take(slice(0, 3)), "kl_gate").tokens is None
    weighted = TokenData(unequal.tokens, unequal.windows, "answers", np.ones(len(unequal.tokens)))
    assert score(probe, weighted, "kl_gate").tokens is None


@pytest.mark.parametrize("method", [*KL_SCORES, "mse"])
def test_a_mixer_that_gives_no_numbers_is_not_ranked(teacher, method):
    broken = teacher.to_probe(tiny.MIXERS[0])
    broken.arrays()["layers.1.window_linear.o_proj.weight"][0, 0] = np.nan
    data = tiny.text_data(32).take(slice(0, 2))
    with pytest.raises(HybridAttnError, match=f"{method}: nan for window 0 with .*; allowed: a number"):
        score(broken, data, method)


def test_the_window_without_weight_is_named(probe):
    text = tiny.text_data(32)
    data = TokenData.concat([text] * (2 * scoring.SLICE_TOKENS // text.num_tokens + 1), "long")
    weights = np.ones(len(data.tokens), np.float32)
    last = len(data) - 1
    weights[slice(*data.windows[last])] = 0.0
    assert data.num_tokens > scoring.SLICE_TOKENS  # the core sees it in another part than the first
    with pytest.raises(DataError, match=f"weights are 0 on all tokens of window {last} but its first"):
        score(probe, TokenData(data.tokens, data.windows, "x", weights), "kl_gate")


@pytest.mark.parametrize("dtype", [None, "float16", "q8_0"])
@pytest.mark.parametrize("kind", ["window_linear", "gated_delta", "retention"])
def test_perplexity_does_not_depend_on_the_linear_mixer(teacher, kind, dtype):
    data = tiny.text_data(32).take(slice(0, 2))
    probe = teacher.to_probe({"kind": kind})
    stored = teacher.astype(dtype) if dtype else teacher
    wanted = score(stored.to_probe({"kind": "linear"}), data, "perplexity").values
    found = score(probe.astype(dtype) if dtype else probe, data, "perplexity").values
    assert found == pytest.approx(wanted, rel=1e-5)


def test_layers_of_different_mixers_make_a_plan(teacher):
    kinds = ("window_linear", "gated_delta", "gated_delta", "gated_delta")
    mixed = Model(teacher.model_config, [[{"kind": "softmax"}, {"kind": kind}] for kind in kinds])
    arrays, given = mixed.arrays(), teacher.arrays()
    for name in arrays.keys() & given.keys():
        arrays[name][...] = given[name]
    mixed.gates[:] = 1.0
    mixed.init_mixers(seed=0)
    scores = score(mixed, tiny.text_data(32).take(slice(0, 2)), "kl_replace")
    assert scores.mixer == {}
    hybrid = mixed.to_hybrid(plan.make(scores, k=1))
    assert sum(layer == [{"kind": "softmax"}] for layer in hybrid.layers) == 1


@pytest.mark.parametrize("k", [2.0, "2", 0, LAYERS])
@pytest.mark.parametrize("method", ["kl_joint", "kl_greedy_add", "kl_restore_distilled"])
def test_k_is_checked_before_the_work(probe, method, k):
    data = tiny.text_data(32)
    options = {"train": data.take(slice(9, 12))} if method == "kl_restore_distilled" else {}
    with pytest.raises(ConfigError, match=f"k is {k!r}; allowed: 1 to {LAYERS - 1}"):
        score(probe, data.take(slice(0, 2)), method, k=k, **options)


def test_numbers_of_numpy_are_numbers(probe, tmp_path):
    scores = score(
        probe, tiny.text_data(32).take(slice(0, 2)), "kl_joint", k=np.int64(2), steps=2, lr=np.float32(0.5)
    )
    scores.save(tmp_path / "scores.json")
    assert select.LayerScores.load(tmp_path / "scores.json").options["k"] == 2


def test_candidates_train_on_overlapping_windows(probe):
    tokens = tiny.text_data(32).tokens
    train = TokenData(tokens, [[i, i + 32] for i in range(400, 800, 16)])
    data = tiny.text_data(32).take(slice(0, 2))
    found = score(probe, data, "kl_restore_distilled", train=train, steps=(2,), k=1)
    # the same text laid side by side
    again = score(probe, data, "kl_restore_distilled", train=train.apart(), steps=(2,), k=1)
    assert np.array_equal(found.per_sequence, again.per_sequence)


def test_every_pass_of_the_teacher_is_counted(probe, monkeypatch):
    data, train = tiny.text_data(32).take(slice(0, 2)), tiny.text_data(32).take(slice(9, 30))
    ran = []
    real = Model.forward_windows

    def counted(self, tokens, windows, *rest):
        ran.append(int((windows[:, 1] - windows[:, 0]).sum()))
        return real(self, tokens, windows, *rest)

    monkeypatch.setattr(Model, "forward_windows", counted)
    scores = score(probe, data, "kl_restore_distilled", train=train, steps=(2, 4), k=1)
    rungs = scores.options["rungs"]
    steps = sum(rung["steps"] * (rung["candidates"] + 1) for rung in rungs) * 32
    read = sum(rung["candidates"] + 1 for rung in rungs) * data.num_tokens
    assert scores.cost["forwards"] * data.num_tokens == pytest.approx(3 * steps + read + sum(ran))
