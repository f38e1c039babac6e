"""What a selector costs, in passes of the teacher."""

import json

import numpy as np
import pytest
from scored import LAYERS, K, score

from hybridattn import KLScorer, select


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


def test_cost_is_saved_and_old_files_load(probe, data, tmp_path):
    scores = score(probe, data, "kl_gate")
    scores.save(tmp_path / "s.json")
    assert select.LayerScores.load(tmp_path / "s.json").cost == scores.cost
    content = json.loads((tmp_path / "s.json").read_text())
    del content["cost"]  # as files were before costs were counted
    (tmp_path / "s.json").write_text(json.dumps(content))
    assert select.LayerScores.load(tmp_path / "s.json").cost == {}
