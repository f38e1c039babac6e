"""Plans within a budget of memory or time."""

import numpy as np
import pytest
from scored import LAYERS

from hybridattn import Cache, measure, plan, select
from hybridattn.errors import PlanError

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
