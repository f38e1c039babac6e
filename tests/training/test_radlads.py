"""RADLADS on tiny models and real words: the loss falls, and equal ways give equal results."""

import numpy as np
import pytest
import tiny

from hybridattn import evaluate, radlads, stats

pytestmark = pytest.mark.usefixtures("one_thread")

MIXERS = pytest.mark.parametrize("mixer", tiny.MIXERS, ids=lambda mixer: mixer["kind"])


def fell(curve, share):
    """The mean of the last fifth is below `share` of the mean of the first fifth."""
    n = max(1, len(curve) // 5)
    return curve[-n:].mean() < share * curve[:n].mean()


def test_align_loss_falls_in_every_layer(aligned):
    losses = aligned.train_result.losses
    assert losses.shape == (40, 3) and np.isfinite(losses).all()
    # window_linear trains its feature maps and gates only, and starts close: there is less to win
    share = {"window_linear": 0.995, "gated_delta": 0.95}[aligned.layers[0][1]["kind"]]
    assert all(fell(column, share) for column in losses.T)
    assert aligned.train_result.tokens_per_second > 0


def test_align_changes_linear_mixers_only(aligned, data):
    teacher = tiny.teacher()
    for name, array in teacher.arrays().items():
        assert np.array_equal(aligned.arrays()[name], array), name
    start = teacher.to_probe(aligned.layers[0][1]).arrays()
    changed = {name for name, array in aligned.arrays().items() if not np.array_equal(array, start[name])}
    assert changed and all(f".{aligned.layers[0][1]['kind']}." in name for name in changed)


def test_alignment_brings_the_all_linear_model_closer(aligned, data):
    before = tiny.teacher().to_probe(aligned.layers[0][1]).to_hybrid([])
    teacher = tiny.teacher()
    found = [evaluate.kl(model, teacher, data)["per_sequence"] for model in (before, aligned.to_hybrid([]))]
    difference, stderr = stats.paired(*found)
    assert difference > 2 * stderr


@MIXERS
def test_layerwise_equals_all_at_once(mixer, data):
    options = {"steps": 6, "batch_size": 2, "progress": False}
    together = radlads.align(tiny.teacher(), mixer, data, **options)
    one_by_one = radlads.align(tiny.teacher(), mixer, data, layerwise=True, **options)
    tiny.assert_same_weights(tiny.weights(one_by_one), tiny.weights(together))
    assert np.array_equal(one_by_one.train_result.losses, together.train_result.losses)


def test_same_seed_same_model(data):
    options = {"mixer": tiny.MIXERS[1], "data": data, "steps": 4, "batch_size": 2, "progress": False}
    first = tiny.weights(radlads.align(tiny.teacher(), seed=3, **options))
    tiny.assert_same_weights(first, tiny.weights(radlads.align(tiny.teacher(), seed=3, **options)))
    other = tiny.weights(radlads.align(tiny.teacher(), seed=4, **options))
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_micro_batches_give_the_gradient_of_the_whole(data):
    def train(micro_batch):
        hybrid = tiny.teacher().to_probe(tiny.MIXERS[0]).to_hybrid([1])
        result = radlads.distill(hybrid, tiny.teacher(), data, 3, 4, micro_batch=micro_batch, progress=False)
        return tiny.weights(hybrid), result.losses

    (one, losses_one), (four, losses_four) = train(1), train(4)
    assert np.array_equal(train(0)[1], losses_four)  # 0: as many as make up 512 tokens, here all
    assert np.allclose(losses_one, losses_four, rtol=1e-4)
    assert all(np.allclose(one[name], four[name], atol=1e-4) for name in one)


@pytest.mark.parametrize("mixer", tiny.MIXERS, ids=lambda m: m["kind"])
def test_recomputing_trains_the_same_model(mixer, data):
    teacher, results = tiny.teacher(), []
    for recompute in (False, True):
        hybrid = teacher.to_probe(mixer).to_hybrid([1])
        found = radlads.distill(
            hybrid, teacher, data, 2, 3, micro_batch=2, recompute=recompute, progress=False
        )
        tuned = radlads.finetune(hybrid, data, 2, 3, recompute=recompute, progress=False)
        results.append((tiny.weights(hybrid), found.losses.tolist(), tuned.losses.tolist()))
    tiny.assert_same_weights(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]


def test_distillation_lowers_the_kl(aligned, data):
    teacher = tiny.teacher()
    train, heldout = data.split(8)
    hybrid = aligned.to_hybrid([1])
    before = evaluate.kl(hybrid, teacher, heldout)
    result = radlads.distill(
        hybrid, teacher, train, steps=60, batch_size=4, lr_mixers=2e-3, lr_rest=1e-3, schedule="cosine",
        lr_final=1e-4, progress=False,
    )  # fmt: skip
    assert result.losses.shape == (60, 1) and fell(result.curve, 0.9)
    assert evaluate.kl(hybrid, teacher, heldout).kl < before.kl
    assert hybrid.train_result is result


def test_finetuning_lowers_the_perplexity(data):
    hybrid = tiny.teacher().to_probe(tiny.MIXERS[0]).to_hybrid([1])
    before = evaluate.perplexity(hybrid, data)
    result = radlads.finetune(
        hybrid, data, steps=60, batch_size=4, lr_mixers=3e-3, lr_rest=3e-3, progress=False
    )
    assert fell(result.curve, 0.8)
    assert evaluate.perplexity(hybrid, data).perplexity < 0.5 * before.perplexity
