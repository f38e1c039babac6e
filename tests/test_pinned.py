"""Figures of one small job, pinned with the package's own fixture: a change of any result shows here first,
with its size in standard errors.
"""

import pytest
import tiny

import hybridattn as ha

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("mixer", tiny.MIXERS, ids=lambda mixer: mixer["kind"])
def test_a_small_job(hybrid_regression, mixer):
    teacher, data = tiny.teacher(layers=4), tiny.text_data(48)
    train, held_out = data.split(8)
    probe = ha.align(teacher, mixer, train, steps=16, batch_size=2, progress=False)
    hybrid_regression.losses(probe.train_result, "losses of step 1")
    for method in ("kl_replace", "kl_gate"):
        scores = ha.score(probe, held_out, method, progress=False)
        hybrid = probe.to_hybrid(hybrid_regression.layers(scores, 2, f"layers by {method}"))
    result = ha.distill(hybrid, teacher, train, steps=12, batch_size=2, progress=False)
    hybrid_regression.losses(result, "losses of step 2")
    hybrid_regression.kl(hybrid, teacher, held_out)
    hybrid_regression.perplexity(hybrid, held_out)
    hybrid_regression.text(hybrid, "The miller ", max_new_tokens=16)
