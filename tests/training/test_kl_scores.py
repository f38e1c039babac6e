"""KL scores of an aligned model against their definitions, and the plan made of them."""

import numpy as np
import pytest
import tiny

from hybridattn import evaluate, plan, select
from hybridattn.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_scores_agree_with_their_definitions(aligned, data):
    some = data.take(slice(0, 3))
    teacher = tiny.teacher()
    replace = select.score(aligned, some, "kl_replace", progress=False)
    restore = select.score(aligned, some, "kl_restore", progress=False)
    linear = evaluate.kl(aligned.to_hybrid([]), teacher, some).kl
    assert restore.base_kl == pytest.approx(linear, rel=1e-3)
    assert replace.all_linear_kl == pytest.approx(linear, rel=1e-3)
    assert replace.base_kl == pytest.approx(0, abs=1e-6)
    for layer in range(3):
        alone = evaluate.kl(aligned.to_hybrid(set(range(3)) - {layer}), teacher, some)
        assert replace.per_sequence[layer] == pytest.approx(alone["per_sequence"], rel=1e-3, abs=1e-6)
        kept = evaluate.kl(aligned.to_hybrid([layer]), teacher, some).kl
        assert restore.values[layer] == pytest.approx(linear - kept, rel=1e-2, abs=1e-5)
    assert replace.additivity_gap == pytest.approx(linear - replace.values.sum(), rel=1e-3)


def test_gate_scores_are_slopes_and_integrate_to_the_kl(aligned, data):
    some = data.take(slice(0, 2))
    alphas = tuple((np.arange(20) + 0.5) / 20)
    scores = select.score(aligned, some, "kl_gate", alpha=alphas, progress=False)
    assert scores.sum_single == pytest.approx(scores.all_linear_kl, rel=0.02)
    one = select.score(aligned, some, "kl_gate", progress=False)
    assert one.options == {"alpha": [0.5]} and one.per_sequence.shape == (3, 2)
    assert (aligned.gates == 1).all()  # the probe's own gates are untouched
    with pytest.raises(ConfigError, match=r"alpha is 1\.0"):
        select.score(aligned, some, "kl_gate", alpha=1.0)
    with pytest.raises(ConfigError, match="options of kl_replace is 'alpha'; allowed: none"):
        select.score(aligned, some, "kl_replace", alpha=0.25)


def test_scores_to_plan_to_hybrid(aligned, data, tmp_path):
    scores = select.score(aligned, data.take(slice(0, 4)), "kl_restore", progress=False)
    scores.save(tmp_path / "scores.json")
    made = plan.make(select.LayerScores.load(tmp_path / "scores.json"), k=1)
    hybrid = aligned.to_hybrid(made)
    assert hybrid.plan == made and made.softmax_layers == (int(scores.values.argmax()),)
    assert set(select.topk_stability(scores, 1)) == {"jaccard", "low", "high", "inclusion", "sequences"}
