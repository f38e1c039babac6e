"""Every selector on a tiny model: against its definition by brute force, its cost, and what it leaves
untouched.
"""

import itertools
import json

import numpy as np
import pytest
import tiny

from hybridattn import Cache, Distiller, KLScorer, evaluate, measure, plan, radlads, select
from hybridattn.errors import ConfigError, DataError, PlanError
from hybridattn.select import candidates, distilled, joint
from hybridattn.select.scoring import Scoring

LAYERS, K = 5, 2


@pytest.fixture(scope="module")
def probe():
    teacher = tiny.teacher(seed=3, layers=LAYERS)
    made = radlads.align(teacher, tiny.MIXERS[0], tiny.text_data(32), 20, 2, progress=False)
    made.gates[:] = 0.25  # no selector may depend on them, or change them
    return made


@pytest.fixture(scope="module")
def data():
    return tiny.text_data(32).take(slice(0, 6))


@pytest.fixture(scope="module")
def train():
    return tiny.text_data(32).take(slice(10, 40))


@pytest.fixture(scope="module")
def set_kl(probe, data):
    """KL of every set of softmax layers: the ground truth."""
    scorer = KLScorer(probe)

    def kl(layers):
        gates = np.zeros(LAYERS, np.float32)
        gates[list(layers)] = 1
        return float(scorer.kl(data.tokens, data.windows, gates).mean())

    sets = [s for k in range(LAYERS + 1) for s in itertools.combinations(range(LAYERS), k)]
    return {s: kl(s) for s in sets}


def score(probe, data, method, **options):
    return select.score(probe, data, method, progress=False, **options)


@pytest.fixture(autouse=True)
def untouched(probe):
    """Weights and gates, bit for bit, around every test."""
    before, gates = tiny.weights(probe), np.array(probe.gates)
    yield
    tiny.assert_same_weights(before, tiny.weights(probe))
    assert np.array(probe.gates).tobytes() == gates.tobytes()


# --- cost ---


@pytest.mark.parametrize(("method", "most"), [
    ("kl_replace", LAYERS / 2 + 2),
    ("kl_restore", LAYERS / 2 + 3),
    ("kl_gate", 5),
    ("kl_joint", 3 * 24 + 2),  # the teacher, and the all-linear KL that the objective is a share of
    ("mse", 1),
    ("perplexity", LAYERS / 2 + 2),
])  # fmt: skip
def test_cost_in_passes_of_the_teacher(probe, data, method, most):
    scores = score(probe, data, method, **({"k": K} if method == "kl_joint" else {}))
    assert 1 <= scores.cost["forwards"] <= most
    total = scores.cost["forwards"] + scores.cost["reference_forwards"]
    assert total == pytest.approx(select.expected_forwards(method, LAYERS, K), abs=0.6)


def test_the_count_by_hand(probe, data):
    """Prefixes are shared: a flip of all layers runs L (L + 1) / 2 layers beyond the base, not L L."""
    rows = data.num_tokens
    scorer = KLScorer(probe)
    assert scorer.layer_passes == 0
    scorer.kl(data.tokens, data.windows, np.zeros(LAYERS, np.float32))
    assert scorer.layer_passes == 2 * LAYERS * rows  # the teacher and the hybrid
    scorer = KLScorer(probe)
    scorer.flip(data.tokens, data.windows, np.ones(LAYERS, np.float32), list(range(LAYERS)))
    assert scorer.layer_passes == (LAYERS + LAYERS * (LAYERS + 1) // 2) * rows  # the base is the teacher
    hidden = np.zeros((len(data.tokens), 32), np.float32)
    scorer.gate_gradient(data.tokens, data.windows, np.ones(LAYERS, np.float32), hidden)
    assert scorer.layer_passes == (LAYERS + LAYERS * (LAYERS + 1) // 2 + 3 * LAYERS) * rows


@pytest.mark.parametrize("method", ["kl_greedy_add", "kl_greedy_remove"])
def test_greedy_cost(probe, data, method):
    cost = score(probe, data, method, k=K).cost
    estimate = select.expected_forwards(method, LAYERS, K)
    assert cost["forwards"] + cost["reference_forwards"] == pytest.approx(estimate, rel=0.25)


# --- searches ---


def test_greedy_add_is_greedy(probe, data, set_kl):
    picked = []
    for _ in range(3):
        rest = set(range(LAYERS)) - set(picked)
        picked.append(min(rest, key=lambda layer: set_kl[tuple(sorted([*picked, layer]))]))
    scores = score(probe, data, "kl_greedy_add", k=3)
    assert scores.options["order"][:3] == picked and scores.top(3) == sorted(picked)
    assert scores.base_kl == pytest.approx(set_kl[tuple(sorted(picked))], rel=1e-3)
    assert scores.all_linear_kl == pytest.approx(set_kl[()], rel=1e-3)
    made = plan.make(scores, k=3)
    assert made.softmax_layers == tuple(sorted(picked)) and "search" in made.how["rule"]


def test_greedy_remove_is_greedy(probe, data, set_kl):
    kept = list(range(LAYERS))
    while len(kept) > K:
        kept.remove(min(kept, key=lambda layer: set_kl[tuple(i for i in kept if i != layer)]))
    scores = score(probe, data, "kl_greedy_remove", k=K)
    assert scores.top(K) == kept
    assert sorted(scores.options["order"]) == list(range(LAYERS))


def test_what_a_layer_is_worth_beside_the_set(probe, data, set_kl):
    scores = score(probe, data, "kl_greedy_add", k=K)
    kept = set(scores.top(K))
    for layer in range(LAYERS):
        other = tuple(sorted(kept ^ {layer}))
        change = set_kl[other] - set_kl[tuple(sorted(kept))]
        assert scores.values[layer] == pytest.approx(change if layer in kept else -change, abs=1e-4)


def test_swaps_end_where_no_exchange_helps(probe, data, set_kl):
    """From the worst start there is; what swaps return has no better neighbour."""
    from hybridattn.select import greedy

    worst = max(itertools.combinations(range(LAYERS), K), key=lambda s: set_kl[s])
    task = Scoring(probe, data, "swaps", progress=False)
    found = greedy._finish(task, list(worst), lambda gain: list(range(LAYERS)), 20, np.zeros(1))
    kept = tuple(sorted(found.options["order"][:K]))
    assert found.options["swaps"] and set_kl[kept] < set_kl[worst]
    for out in kept:
        for into in set(range(LAYERS)) - set(kept):
            assert set_kl[tuple(sorted({*kept, into} - {out}))] >= set_kl[kept] - 1e-5
    one = greedy._finish(task, list(worst), lambda gain: list(range(LAYERS)), 1, np.zeros(1))
    assert len(one.options["swaps"]) == 1


def test_joint_gates_choose_a_good_set(probe, data, set_kl):
    scores = score(probe, data, "kl_joint", k=K)
    kls = sorted(set_kl[s] for s in itertools.combinations(range(LAYERS), K))
    assert set_kl[tuple(scores.top(K))] <= kls[2] + 1e-6  # of the ten sets, one of the best three
    assert scores.values.sum() == pytest.approx(K, abs=0.5)
    assert scores.options["steps"] == len(scores.options["kl_by_step"]) == 24
    assert scores.base_kl == pytest.approx(set_kl[tuple(scores.top(K))], rel=1e-3)


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_penalty_slope(progress):
    gates = np.random.default_rng(0).random(7)
    slope = joint.penalty_slope(gates, 3, progress)
    for i in range(7):
        step = np.eye(7)[i] * 1e-6
        change = joint.penalty(gates + step, 3, progress) - joint.penalty(gates - step, 3, progress)
        assert slope[i] == pytest.approx(change / 2e-6, rel=1e-5, abs=1e-8)


# --- restore, distilled ---

STEPS = (1, 2, 4)


def test_distilled_candidates_are_distilled_hybrids(probe, data, train):
    scores = score(probe, data, "kl_restore_distilled", k=K, train=train, steps=(2,), lr_mixers=1e-2)
    with Scoring(probe, data, "x", progress=False).teacher() as teacher:
        for layer in (0, 3):
            found = []
            for kept in ([], [layer]):
                hybrid = probe.to_hybrid(kept)
                radlads.distill(hybrid, teacher, train, 2, 1, lr_mixers=1e-2, progress=False)
                found.append(np.array(evaluate.kl(hybrid, teacher, data)["per_sequence"]))
            assert scores.per_sequence[layer] == pytest.approx(found[0] - found[1], rel=1e-2, abs=1e-4)


def test_halving_drops_and_settles(probe, data, train):
    scores = score(probe, data, "kl_restore_distilled", k=K, train=train, steps=STEPS)
    rungs = scores.options["rungs"]
    assert rungs[0]["candidates"] == LAYERS
    assert all(b["candidates"] <= K + (a["candidates"] - K + 1) // 2 for a, b in itertools.pairwise(rungs))
    assert rungs[-1]["top"] == scores.top(K)
    assert scores.options["settled"] == (len(rungs) > 1 and rungs[-1]["top"] == rungs[-2]["top"])
    assert scores.cost["forwards"] > 1


def test_survivors():
    rows = np.array([[5.0, 5.2, 4.8], [4.0, 4.1, 3.9], [3.9, 4.2, 3.9], [1.0, 1.1, 1.2], [0.9, 0.0, 0.0]])
    # of the three beyond k at most two go on; layer 2 is not clearly below layer 1, layer 3 is
    assert distilled.survivors(rows, [0, 1, 2, 3, 4], 2) == [0, 1, 2]
    assert distilled.survivors(rows[:, :1], [0, 1, 2, 3, 4], 2) == [0, 1, 2, 3]  # one sequence: no telling


def test_finished_candidates_are_not_done_again(probe, data, train, tmp_path, monkeypatch):
    folder = tmp_path / "work"
    options = {"k": K, "train": train, "steps": STEPS, "folder": folder}
    first = score(probe, data, "kl_restore_distilled", **options)
    files = sorted(folder.rglob("steps-*/*.json"))
    assert len(files) == sum(r["candidates"] + 1 for r in first.options["rungs"])
    files[0].unlink()
    done = []
    distill = radlads.distill
    monkeypatch.setattr(radlads, "distill", lambda *a, **k: done.append(a[3]) or distill(*a, **k))
    again = score(probe, data, "kl_restore_distilled", **options)
    assert len(done) == 1
    assert again.per_sequence.tobytes() == first.per_sequence.tobytes()
    assert again.options == first.options and again.cost == first.cost
    with pytest.raises(DataError, match=r"\.json: of another probe, text or settings"):
        score(probe, data, "kl_restore_distilled", **{**options, "batch_size": 2})
    files[1].write_text("{")
    with pytest.raises(DataError, match=r"layer-001\.json: not "):
        score(probe, data, "kl_restore_distilled", **options)


def test_shards_and_their_merge(probe, data, train, tmp_path):
    options = {"k": K, "train": train, "steps": STEPS}
    alone = score(probe, data, "kl_restore_distilled", **options)
    options["folder"] = tmp_path
    turns, waiting = 0, 1
    while waiting and turns < 10:
        turns += 1
        waiting = 0
        for index in (0, 1):
            try:
                both = score(probe, data, "kl_restore_distilled", shard=(index, 2), **options)
            except select.Unfinished as error:
                waiting += 1
                assert f"shard {index}/2 is done with" in str(error)
    assert 1 < turns < 10
    merged = score(probe, data, "kl_restore_distilled", **options)
    for one in (both, merged):
        assert one.per_sequence.tobytes() == alone.per_sequence.tobytes()
        assert one.options["order"] == alone.options["order"]


def test_bad_distilled_requests(probe, data, train, tmp_path):
    with pytest.raises(DataError, match="train is None"):
        score(probe, data, "kl_restore_distilled")
    with pytest.raises(ConfigError, match=r"steps is \[2, 1\]"):
        score(probe, data, "kl_restore_distilled", train=train, steps=(2, 1))
    with pytest.raises(ConfigError, match=r"shard is '2/2'"):
        score(probe, data, "kl_restore_distilled", train=train, shard=(2, 2), folder=tmp_path)
    with pytest.raises(ConfigError, match="without a folder"):
        score(probe, data, "kl_restore_distilled", train=train, shard=(0, 2))


def test_candidate_files_are_plain_json(tmp_path):
    kept = candidates.Candidates(tmp_path, "facts")
    kept.put(3, 8, np.array([0.1, 0.2]), 1.5, 10.0)
    content = json.loads((tmp_path / "steps-000008" / "layer-003.json").read_text())
    assert content["per_sequence"] == [0.1, 0.2] and content["layer"] == 3
    assert candidates.Candidates(tmp_path, "facts").get(3, 8)["per_sequence"].tolist() == [0.1, 0.2]
    assert candidates.Candidates(tmp_path, "facts").get(3, 9) is None


# --- baselines ---


def test_mse_is_what_step_one_trains(probe, data):
    absolute = score(probe, data, "mse", relative=False)
    losses = Distiller(probe.copy(), None, "align").run(
        data.tokens, data.windows[:, None], np.zeros((len(data), 2), np.float32), 0, len(data)
    )
    assert pytest.approx(losses, rel=1e-4) == absolute.per_sequence.T
    relative = score(probe, data, "mse")
    silent = probe.copy()
    for name, array in silent.arrays().items():
        if ".window_linear.o_proj." in name:
            array[...] = 0.0
    assert score(silent, data, "mse").per_sequence == pytest.approx(1.0)
    zero = score(silent, data, "mse", relative=False).per_sequence
    assert relative.per_sequence == pytest.approx(absolute.per_sequence / zero, rel=1e-5)


def test_perplexity_is_the_loss_without_the_mixer(probe, data):
    scores = score(probe, data, "perplexity")
    base = evaluate.perplexity(probe.to_hybrid(range(LAYERS)), data)["nll"]
    for layer in (0, 4):
        teacher = probe.to_hybrid(range(LAYERS))
        for name, array in teacher.arrays().items():
            if f"layers.{layer}.softmax.o_proj" in name:
                array[...] = 0.0
        assert scores.values[layer] == pytest.approx(
            evaluate.perplexity(teacher, data)["nll"] - base, abs=1e-3
        )


def test_weights_reach_every_kl_score(probe, data):
    """Only the second half of each window counts: the scores are those of these tokens."""
    weights = np.zeros(len(data.tokens), np.float32)
    for start, stop in data.windows:
        weights[(start + stop) // 2 : stop] = 1.0
    half = type(data)(data.tokens, data.windows, "half", weights)
    scorer = KLScorer(probe)
    ones = np.ones(LAYERS, np.float32)
    for method in ("kl_replace", "kl_restore", "kl_gate"):
        assert not np.allclose(
            score(probe, half, method).values, score(probe, data, method).values, rtol=1e-3
        )
    _, rows = scorer.flip(data.tokens, data.windows, ones, [1], None, weights)
    assert score(probe, half, "kl_replace").per_sequence[1] == pytest.approx(rows[0], rel=1e-5)
    for bad, message in ((-1.0, r"weights\[3\] is not a finite"), (np.nan, r"weights\[3\]")):
        wrong = weights.copy()
        wrong[3] = bad
        with pytest.raises(ValueError, match=message):
            scorer.kl(data.tokens, data.windows, ones, None, wrong)
    with pytest.raises(ValueError, match="weights are 0 on all tokens of window 0 but its first"):
        scorer.kl(data.tokens, data.windows, ones, None, np.zeros_like(weights))


def smart_by_brute_force(values, k):
    layers, end = len(values), len(values) // k
    first = max(range(end), key=lambda i: values[i])
    last = max(range(layers - end, layers), key=lambda i: values[i])
    mean = (last - first) / (k - 1)
    fits = [
        s
        for s in itertools.combinations(range(first, last + 1), k)
        if s[0] == first and s[-1] == last and all(abs(b - a - mean) < 1 for a, b in itertools.pairwise(s))
    ]
    return max(fits, key=lambda s: sum(values[i] for i in s))


@pytest.mark.parametrize("k", [2, 3, 4, 5, 8])
def test_smart_is_the_best_near_even_set(k):
    for seed in range(5):
        values = np.random.default_rng(seed).normal(size=14).tolist()
        assert plan.smart(values, k) == smart_by_brute_force(values, k)
    assert plan.smart([1.0, 3.0, 2.0], 1) == (1,) and plan.smart([1.0, 2.0], 0) == ()


def test_fixed_patterns(probe):
    scores = score(probe, None, "first_last")
    assert plan.make(scores, k=3).softmax_layers == tuple(scores.top(3))
    assert scores.top(3) == [0, 1, 4]
    assert plan.first_last(6, 4).softmax_layers == (0, 1, 4, 5)
    assert plan.first_last(6, 0).softmax_layers == () and plan.first_last(2, 2).softmax_layers == (0, 1)


def test_unknown_options_are_named(probe, data):
    with pytest.raises(ConfigError, match=r"options of kl_replace is 'swaps'; allowed: none"):
        score(probe, data, "kl_replace", swaps=2)
    with pytest.raises(ConfigError, match="k is 5; allowed: 1 to 4"):
        score(probe, data, "kl_greedy_add", k=5)


def test_cost_is_saved_and_old_files_load(probe, data, tmp_path):
    scores = score(probe, data, "kl_gate")
    scores.save(tmp_path / "s.json")
    assert select.LayerScores.load(tmp_path / "s.json").cost == scores.cost
    content = json.loads((tmp_path / "s.json").read_text())
    del content["cost"]  # as files were before costs were counted
    (tmp_path / "s.json").write_text(json.dumps(content))
    assert select.LayerScores.load(tmp_path / "s.json").cost == {}


# --- budgets ---

COSTS = {
    "all_softmax": {"ms_per_token": 20.0, "cache_bytes": 1000},
    "all_linear": {"ms_per_token": 10.0, "cache_bytes": 200},
}


@pytest.mark.parametrize(("budget", "k"), [
    ({"ms_per_token": 14.1}, 2),
    ({"ms_per_token": 10.0}, 0),
    ({"ms_per_token": 99.0}, 5),
    ({"cache_bytes": 700}, 3),
    ({"cache_bytes": 700, "ms_per_token": 12.5}, 1),
])  # fmt: skip
def test_budgets(budget, k, tmp_path):
    scores = select.LayerScores("kl_gate", np.arange(5.0)[:, None])
    made = plan.make(scores, **budget, costs=COSTS)
    assert made.softmax_layers == tuple(range(5 - k, 5))
    made.save(tmp_path / "p.json")
    assert plan.Plan.load(tmp_path / "p.json").how["costs"] == COSTS and made.how["budget"] == budget


def test_budgets_that_cannot_be(probe):
    scores = select.LayerScores("kl_gate", np.arange(5.0)[:, None])
    with pytest.raises(PlanError, match="ms_per_token is 9; allowed: 10 or more, what all linear takes"):
        plan.make(scores, ms_per_token=9.0, costs=COSTS)
    with pytest.raises(PlanError, match="costs is None"):
        plan.make(scores, cache_bytes=9.0)
    with pytest.raises(PlanError, match="cache_bytes and k or ratio"):
        plan.make(scores, k=2, cache_bytes=900, costs=COSTS)
    with pytest.raises(PlanError, match="costs hold no ms_per_token"):
        plan.make(scores, ms_per_token=9.0, costs={})
    with pytest.raises(PlanError, match="costs are of 4 layers; allowed: 5"):
        plan.make(scores, ms_per_token=12.0, costs={**COSTS, "num_layers": 4})
    window = select.LayerScores("kl_gate", np.arange(5.0)[:, None], mixer={"kind": "window", "window": 64})
    with pytest.raises(PlanError, match=r"costs are of mixer .*gla"):
        plan.make(window, ms_per_token=12.0, costs={**COSTS, "mixer": {"kind": "gla"}})


def test_a_budget_where_softmax_is_the_faster_kind():
    """At short contexts it may be: then time asks for many softmax layers and memory for few."""
    scores = select.LayerScores("kl_gate", np.arange(5.0)[:, None])
    costs = {
        "all_softmax": {"ms_per_token": 8.0, "cache_bytes": 1000},
        "all_linear": {"ms_per_token": 10.0, "cache_bytes": 0},
    }
    assert plan.make(scores, ms_per_token=9.2, cache_bytes=600, costs=costs).k == 3
    assert plan.make(scores, ms_per_token=9.2, costs=costs).k == 5
    with pytest.raises(PlanError, match=r"keeps ms_per_token 9\.2 and cache_bytes 300 together"):
        plan.make(scores, ms_per_token=9.2, cache_bytes=300, costs=costs)


def test_layer_costs_are_those_of_the_two_models(probe):
    found = measure.layer_costs(probe, 64, decode_tokens=2, repeats=1)
    assert found["machine"] and found["context"] == 64 and found["num_layers"] == LAYERS
    hybrid = probe.to_hybrid(range(LAYERS))
    assert found["all_softmax"]["cache_bytes"] == 64 * Cache(hybrid).bytes_per_token
    assert found["all_linear"]["cache_bytes"] == Cache(probe.to_hybrid([])).nbytes
    assert min(found[kind]["ms_per_token"] for kind in ("all_softmax", "all_linear")) > 0
