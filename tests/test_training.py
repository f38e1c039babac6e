"""RADLADS on tiny models and real words: the loss falls, equal ways give equal results, scores and
measures hold together.
"""

import json
import math
import threading
import time

import numpy as np
import pytest
import tiny

from hybridattn import evaluate, measure, plan, radlads, select, stats
from hybridattn._core import Cache, Distiller
from hybridattn.data.tokens import TokenData
from hybridattn.errors import ConfigError, DataError, HybridAttnError
from hybridattn.evaluate.text import spans
from hybridattn.radlads import teacher as teacher_cache

pytestmark = pytest.mark.usefixtures("one_thread")

MIXERS = pytest.mark.parametrize("mixer", tiny.MIXERS, ids=lambda mixer: mixer["kind"])


@pytest.fixture(scope="module")
def data():
    return tiny.text_data(seq_len=48)


@pytest.fixture(scope="module", params=tiny.MIXERS, ids=lambda mixer: mixer["kind"])
def aligned(request, data):
    lr = {"window_linear": 3e-2, "gated_delta": 3e-3}[request.param["kind"]]
    return radlads.align(tiny.teacher(), request.param, data, steps=40, batch_size=4, lr=lr, progress=False)


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
    assert evaluate.kl(hybrid, teacher, heldout)["mean"] < before["mean"]
    assert hybrid.train_result is result


def test_finetuning_lowers_the_perplexity(data):
    hybrid = tiny.teacher().to_probe(tiny.MIXERS[0]).to_hybrid([1])
    before = evaluate.perplexity(hybrid, data)
    result = radlads.finetune(
        hybrid, data, steps=60, batch_size=4, lr_mixers=3e-3, lr_rest=3e-3, progress=False
    )
    assert fell(result.curve, 0.8)
    assert evaluate.perplexity(hybrid, data)["ppl"] < 0.5 * before["ppl"]


# --- teacher cache ---


def distill_cached(data, path, teacher=None, **options):
    hybrid = tiny.teacher().to_probe(tiny.MIXERS[0]).to_hybrid([1])
    result = radlads.distill(
        hybrid,
        teacher or tiny.teacher(),
        data,
        steps=5,
        batch_size=2,
        cache_teacher=path,
        progress=False,
        **options,
    )
    return tiny.weights(hybrid), result.losses


def test_cached_teacher_equals_computed_teacher(tmp_path, data):
    computed, losses = distill_cached(data, None)
    for _ in range(2):  # filled, then reused
        cached, cached_losses = distill_cached(data, tmp_path / "hidden.npy")
        assert np.allclose(cached_losses, losses, rtol=1e-5)
        assert all(np.allclose(cached[name], computed[name], atol=1e-5) for name in computed)


def test_cache_is_reused_only_when_it_fits(tmp_path, monkeypatch, data):
    filled = []
    original = teacher_cache._fill
    monkeypatch.setattr(teacher_cache, "_fill", lambda *args: (filled.append(1), original(*args)))
    path = tmp_path / "hidden.npy"
    for change, count in (
        ({}, 1),
        ({}, 1),
        ({"teacher": tiny.teacher(seed=1)}, 2),
        ({"seed": 1}, 3),
        ({"seed": 1}, 3),
    ):
        distill_cached(data, path, **change)
        assert len(filled) == count
    path.write_bytes(path.read_bytes()[:-100])
    distill_cached(data, path, seed=1)
    assert len(filled) == 4


def test_an_interrupted_cache_goes_on(tmp_path, monkeypatch, data):
    teacher, windows = tiny.teacher(), data.windows
    monkeypatch.setattr(teacher_cache, "SLICE_TOKENS", 100)
    whole = teacher_cache.open_cache(tmp_path / "a.npy", teacher, data.tokens, windows, progress=False)
    calls = []
    forward = type(teacher).forward_windows

    def stop_later(self, tokens, some, out, segments):
        calls.append(len(some))
        if len(calls) == 3:
            raise KeyboardInterrupt
        forward(self, tokens, some, out, segments)

    monkeypatch.setattr(type(teacher), "forward_windows", stop_later)
    with pytest.raises(KeyboardInterrupt):
        teacher_cache.open_cache(tmp_path / "b.npy", teacher, data.tokens, windows, progress=False)
    again = teacher_cache.open_cache(tmp_path / "b.npy", teacher, data.tokens, windows, progress=False)
    assert np.array_equal(again, whole)
    assert sum(calls) - calls[2] == len(windows)  # what was filled before was not filled again


def test_two_runs_fill_a_cache_once(tmp_path, monkeypatch, data):
    teacher, filled, found = tiny.teacher(), [], []
    original = teacher_cache._fill

    def slowly(*args):
        filled.append(1)
        both.wait(timeout=60)  # the other run has come to the door
        original(*args)

    def run():
        if filled:
            both.wait(timeout=60)
        found.append(
            teacher_cache.open_cache(
                tmp_path / "hidden.npy", teacher, data.tokens, data.windows, progress=False
            )
        )

    both = threading.Barrier(2)
    monkeypatch.setattr(teacher_cache, "_fill", slowly)
    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    while not filled:
        time.sleep(0.01)
    threads[1].start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(filled) == 1 and np.array_equal(*found)


def test_a_cache_killed_at_its_start_is_made_anew(tmp_path, monkeypatch, data):
    def killed(*_, **__):
        raise KeyboardInterrupt

    path, teacher = tmp_path / "hidden.npy", tiny.teacher()
    for name, where in (
        ("_write_note", teacher_cache),
        ("open_memmap", np.lib.format),
        ("_fill", teacher_cache),
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(where, name, killed)
            teacher_cache.open_cache(path, teacher, data.tokens, data.windows, progress=False)
    found = teacher_cache.open_cache(path, teacher, data.tokens, data.windows, progress=False)
    assert np.abs(found[: data.windows[-1, 1]]).max(axis=1).min() > 0.0


def test_cache_refuses_foreign_files_and_overlaps(tmp_path, data):
    (tmp_path / "mine.npy").write_bytes(b"precious")
    with pytest.raises(DataError, match=r"mine\.npy: exists"):
        distill_cached(data, tmp_path / "mine.npy")
    assert (tmp_path / "mine.npy").read_bytes() == b"precious"
    overlapping = TokenData(data.tokens, [[0, 48], [24, 72]])
    with pytest.raises(DataError, match=r"\[0, 48\] and \[24, 72\] overlap"):
        distill_cached(overlapping, tmp_path / "other.npy")


# --- scores ---


def test_scores_agree_with_their_definitions(aligned, data):
    some = data.take(slice(0, 3))
    teacher = tiny.teacher()
    replace = select.score(aligned, some, "kl_replace", progress=False)
    restore = select.score(aligned, some, "kl_restore", progress=False)
    linear = evaluate.kl(aligned.to_hybrid([]), teacher, some)["mean"]
    assert restore.base_kl == pytest.approx(linear, rel=1e-3)
    assert replace.all_linear_kl == pytest.approx(linear, rel=1e-3)
    assert replace.base_kl == pytest.approx(0, abs=1e-6)
    for layer in range(3):
        alone = evaluate.kl(aligned.to_hybrid(set(range(3)) - {layer}), teacher, some)
        assert replace.per_sequence[layer] == pytest.approx(alone["per_sequence"], rel=1e-3, abs=1e-6)
        kept = evaluate.kl(aligned.to_hybrid([layer]), teacher, some)["mean"]
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


# --- evaluation and cost ---


def test_plain_perplexity_is_the_mean_nll(data):
    model = tiny.teacher()
    found = evaluate.perplexity(model, data, batch_size=3)
    by_hand = [model.nll(data.tokens[None, start:stop]).astype(float).sum() for start, stop in data.windows]
    assert found["tokens"] == data.num_tokens - len(data)
    assert found["nll"] == pytest.approx(sum(by_hand) / found["tokens"], rel=1e-5)
    assert found["ppl"] == pytest.approx(math.exp(found["nll"]))


@pytest.mark.parametrize(
    ("n", "seq_len", "stride"), [(50, 16, 16), (50, 16, 5), (49, 16, 16), (10, 16, 4), (33, 16, 16)]
)
def test_spans_count_every_token_once(n, seq_len, stride):
    windows, first = spans(n, seq_len, stride)
    counted = [t for (start, stop), skip in zip(windows, first) for t in range(start + skip, stop)]
    left_out = set(range(n)) - set(counted)
    assert len(counted) == len(set(counted))
    assert left_out == ({0} if stride < seq_len else set(range(0, n, seq_len)))
    assert (windows[:, 1] - windows[:, 0] <= seq_len).all()


def test_sliding_perplexity_has_more_context(data):
    model = tiny.teacher()
    radlads.finetune(model, data, steps=40, batch_size=4, lr_mixers=3e-3, lr_rest=3e-3, progress=False)
    plain, sliding = (
        evaluate.perplexity(model, tiny.TEXT, seq_len=32, stride=stride) for stride in (None, 8)
    )
    assert sliding["tokens"] == len(model.tokenizer.encode(tiny.TEXT)) - 1
    assert sliding["ppl"] < plain["ppl"]
    bits = sliding["nll"] / math.log(2)
    assert sliding["bits_per_byte"] == pytest.approx(bits, rel=1e-3)  # one token is one byte here
    assert sliding["word_ppl"] > sliding["ppl"]


def test_evaluate_refuses_by_name(data):
    model = tiny.teacher()
    for options, message in (
        ({"seq_len": 1}, "seq_len is 1"),
        ({"seq_len": 257}, "seq_len is 257; allowed: 2 to the model's 256 positions"),
        ({"seq_len": 32, "stride": 33}, "stride is 33"),
    ):
        with pytest.raises(ConfigError, match=message):
            evaluate.perplexity(model, tiny.TEXT, **options)
    with pytest.raises(ConfigError, match="seq_len is 32; allowed: 48"):
        evaluate.perplexity(model, data, seq_len=32)


def test_measure(aligned):
    hybrid = aligned.to_hybrid([0])
    found = measure.latency(hybrid, (16, 64), decode_tokens=2, repeats=2)
    assert list(found["prefill"]) == list(found["decode"]) == list(found["cache_bytes"]) == [16, 64]
    assert min([*found["prefill"].values(), *found["decode"].values()]) > 0
    json.dumps(found)
    sizes = [Cache(aligned.to_hybrid(range(n))).bytes_per_token for n in range(4)]
    assert sizes == [n * 2 * 4 * 2 * 8 for n in range(4)]  # linear layers hold nothing per token
    with pytest.raises(ConfigError, match="lengths is 500"):
        measure.latency(hybrid, (500,))


# --- bad requests and failures ---


def test_training_options_are_checked(data):
    for options, message in (
        ({"betas": (0.9, 1.0)}, "betas is"),
        ({"micro_batch": -1}, "micro_batch is -1"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"warmup_steps": 3}, "warmup_steps is 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            radlads.align(tiny.teacher(), tiny.MIXERS[0], data, 2, 2, progress=False, **options)
    with pytest.raises(TypeError, match="batchsize"):
        radlads.align(tiny.teacher(), tiny.MIXERS[0], data, 2, 2, batchsize=3)


def test_another_vocabulary_is_refused(data):
    other = tiny.teacher(vocab_size=300).to_probe(tiny.MIXERS[0]).to_hybrid([0])
    with pytest.raises(ConfigError, match="vocab_size of the hybrid is 300; allowed: 257"):
        radlads.distill(other, tiny.teacher(), data, 1, 1)


def test_a_loss_that_is_nan_ends_the_run(data):
    hybrid = tiny.teacher().to_probe(tiny.MIXERS[0]).to_hybrid([1])
    hybrid.arrays()["embed.weight"][:] = np.nan
    with pytest.raises(HybridAttnError, match="finetune: the loss at step 1 is not finite"):
        radlads.finetune(hybrid, data, steps=2, batch_size=1, progress=False)


def test_progress_shows_loss_and_speed(data, capsys):
    radlads.align(tiny.teacher(), tiny.MIXERS[0], data, steps=3, batch_size=2)
    shown = capsys.readouterr().err
    assert "align" in shown and "loss=" in shown and "tok/s" in shown


def test_distiller_trains_what_its_stage_says():
    probe = tiny.teacher().to_probe(tiny.MIXERS[0])
    mixers = {name for name, _, group in probe.parameter_info() if group == "mixer"}
    aligns = set(Distiller(probe, None, stage="align").trainable())
    assert aligns < mixers and all(".window_linear." in name for name in aligns)
    assert all(
        name.startswith("layers.1.") for name in Distiller(probe, None, stage="align", layers=[1]).trainable()
    )
    hybrid = probe.to_hybrid([0])
    assert Distiller(hybrid, tiny.teacher(), stage="distill").trainable() == list(hybrid.arrays())
