"""Plans: which layers, how they are saved, what is refused."""

import itertools
import json

import numpy as np
import pytest

from hybridattn import plan
from hybridattn.errors import PlanError
from hybridattn.select import LayerScores


def scores(values, method="kl_gate", **options):
    rows = np.asarray(values, float)[:, None] + np.array([[-0.1, 0.0, 0.1]])
    return LayerScores(method, rows, 0.5, 0.6, 1.0, "recall", {"kind": "gated_delta"}, options)


def test_uniform_is_the_papers_set_at_a_quarter():
    assert plan.uniform(28, 7).softmax_layers == (3, 7, 11, 15, 19, 23, 27)
    assert plan.uniform(30, 8).softmax_layers == (2, 6, 10, 14, 17, 21, 25, 29)
    assert plan.uniform(4, 0).softmax_layers == ()
    assert plan.uniform(4, 4).softmax_layers == (0, 1, 2, 3)


@pytest.mark.parametrize(("layers", "k"), [(7, 3), (30, 11), (12, 5), (5, 1)])
def test_uniform_spaces_evenly(layers, k):
    chosen = plan.uniform(layers, k).softmax_layers
    gaps = np.diff([-1, *chosen])
    assert len(chosen) == k and chosen[-1] == layers - 1
    assert gaps.max() - gaps.min() <= 1


def test_random_is_reproducible_nested_and_varied():
    sets = [set(plan.random(30, k, seed=5).softmax_layers) for k in range(31)]
    assert all(a < b for a, b in itertools.pairwise(sets))
    assert plan.random(30, 8, seed=5) == plan.random(30, 8, seed=5)
    assert len({plan.random(30, 8, seed=s).softmax_layers for s in range(10)}) == 10


def test_make_takes_the_highest_and_breaks_ties_downwards():
    made = plan.make(scores([0.1, 0.5, 0.3, 0.5, 0.1, 0.1]), k=2)
    assert made.softmax_layers == (1, 3)
    assert plan.make(scores([0.0] * 6), k=2).softmax_layers == (0, 1)
    assert made.linear_layers == (0, 2, 4, 5)
    assert (made.k, made.ratio, made.mixer) == (2, 2 / 6, {"kind": "gated_delta"})
    assert made.how["text"] == "recall" and len(made.how["scores"]) == 6


def test_make_by_ratio_rounds_half_up():
    assert [plan.make(scores(range(10)), ratio=r).k for r in (0.0, 0.25, 0.33, 1.0)] == [0, 3, 3, 10]


def test_make_of_the_baselines():
    none = np.zeros((28, 0))
    assert plan.make(LayerScores("uniform", none), k=7) == plan.uniform(28, 7)
    assert plan.make(LayerScores("random", none, options={"seed": 3}), k=7) == plan.random(28, 7, seed=3)


def test_save_and_load(tmp_path):
    made = plan.make(scores([0.1, 0.5, 0.3, 0.5]), ratio=0.5)
    made.save(tmp_path / "plan.json")
    assert plan.Plan.load(tmp_path / "plan.json") == made
    assert [f.name for f in tmp_path.iterdir()] == ["plan.json"]
    assert json.loads((tmp_path / "plan.json").read_text())["method"] == "kl_gate"


def test_nan_in_how_stays_valid_json(tmp_path):
    one = LayerScores("kl_replace", np.ones((4, 1)))  # one sequence: no standard error
    plan.make(one, k=1).save(tmp_path / "plan.json")
    json.loads((tmp_path / "plan.json").read_text(), parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize(("change", "message"), [
    ({"format": "other"}, "format is 'other'"),
    ({"softmax_layers": [3, 1]}, "ascending"),
    ({"softmax_layers": [1, 9]}, "allowed: 0 to 3"),
    ({"softmax_layers": [1.5]}, "whole numbers"),
    ({"softmax_layers": "1"}, "softmax_layers is '1'"),
    ({"num_layers": None}, "num_layers is None"),
    ({"num_layers": True}, "num_layers is True"),
])  # fmt: skip
def test_load_refuses_by_file_and_field(tmp_path, change, message):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**plan.uniform(4, 2).to_dict(), **change}))
    with pytest.raises(PlanError, match=message) as error:
        plan.Plan.load(path)
    assert str(path) in str(error.value)


def test_load_refuses_what_is_not_json(tmp_path):
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(PlanError, match="not JSON"):
        plan.Plan.load(tmp_path / "p.json")
    (tmp_path / "p.json").write_text("[1]")
    with pytest.raises(PlanError, match="format is 'list'"):
        plan.Plan.load(tmp_path / "p.json")


@pytest.mark.parametrize("call", [
    lambda: plan.make(scores([1, 2]), k=3),
    lambda: plan.make(scores([1, 2])),
    lambda: plan.make(scores([1, 2]), k=1, ratio=0.5),
    lambda: plan.make(scores([1, 2]), ratio=1.5),
    lambda: plan.uniform(4, -1),
    lambda: plan.random(4, 5),
    lambda: plan.explicit(4, [4]),
])  # fmt: skip
def test_bad_budgets(call):
    with pytest.raises(PlanError):
        call()
