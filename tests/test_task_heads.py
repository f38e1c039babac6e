"""Heads of tasks, end to end on tiny models: fine-tuning learns, and a fine-tuned classifier is converted,
scored and distilled on its own logits.
"""

import numpy as np
import pytest
import tiny
from task_examples import HEADS, accuracy, examples, labels, sequences

from hybridattn import Model, evaluate, plan, radlads, select
from hybridattn._core import Distiller, KLScorer
from hybridattn.data.tokens import TokenData
from hybridattn.errors import CheckpointError, ConfigError, DataError
from hybridattn.families.config import TaskHead
from hybridattn.tasks import Examples, add_head, finetune, predict

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def teacher():
    model = add_head(tiny.teacher(), "classify", seed=1)
    result = finetune(model, examples(), steps=80, batch_size=16, lr=3e-3, progress=False)
    assert result.curve[-8:].mean() < 0.2 * result.curve[:4].mean()
    return model


@pytest.fixture(scope="module")
def probe(teacher):
    return radlads.align(
        teacher, tiny.MIXERS[1], examples(256).data, steps=20, batch_size=16, lr=3e-3, progress=False
    )


def test_fine_tuning_learns(teacher):
    assert accuracy(add_head(tiny.teacher(), "classify", seed=1), examples(64, 7)) < 0.8
    assert accuracy(teacher, examples(64, 7)) > 0.95


@pytest.mark.parametrize("method", ["kl_replace", "kl_restore", "kl_gate", "kl_greedy_add"])
def test_scores_are_of_the_task(teacher, probe, method):
    data = examples(24, 3).data
    scores = select.score(probe, data, method, progress=False)
    assert scores.measure == "task_kl" and scores.per_sequence.shape == (3, 24)
    if method == "kl_replace":
        log_p, log_q = (
            logits - np.log(np.exp(logits).sum(1, keepdims=True))
            for logits in (predict(model, examples(24, 3)) for model in (teacher, probe.to_hybrid([0, 2])))
        )
        kl = (np.exp(log_p) * (log_p - log_q)).sum(1)
        np.testing.assert_allclose(scores.per_sequence[1], kl, rtol=1e-3, atol=1e-5)


def test_distillation_on_the_logits_of_the_task(teacher, probe):
    scores = select.score(probe, examples().data, "kl_gate", progress=False)
    hybrid = probe.to_hybrid(plan.make(scores, k=1))
    assert hybrid.model_config.task == teacher.model_config.task
    before = evaluate.kl(hybrid, teacher, examples(48, 5).data)
    result = radlads.distill(
        hybrid,
        teacher,
        examples(512).data,
        60,
        16,
        lr_mixers=3e-3,
        lr_rest=3e-3,
        micro_batch=16,
        progress=False,
    )
    after = evaluate.kl(hybrid, teacher, examples(48, 5).data)
    assert result.curve[-8:].mean() < 0.6 * result.curve[:4].mean()
    assert before["measure"] == "task_kl" and after.kl < before.kl
    assert accuracy(hybrid, examples(64, 7)) > 0.8


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", HEADS)
def test_every_task_trains_and_is_saved(kind, bidirectional, tmp_path):
    base = tiny.teacher()
    if bidirectional:
        from dataclasses import replace

        base = Model(replace(base.model_config, bidirectional=True), tokenizer=base.tokenizer)
        tiny.randomize(base, 0)
    model = add_head(base, **HEADS[kind])
    made = sequences(32)
    data = Examples.of(made, labels(kind, made))
    result = finetune(model, data, steps=40, batch_size=16, lr=3e-3, progress=False)
    assert result.curve[-4:].mean() < 0.6 * result.curve[:2].mean()
    logits = predict(model, made)
    one_by_one = [predict(model, [tokens])[0] for tokens in made]
    for together, alone in zip(logits, one_by_one, strict=True):
        np.testing.assert_allclose(together, alone, atol=2e-4)
    if bidirectional:
        return
    for name, saved in (("plain", model), ("hybrid", model.to_probe(tiny.MIXERS[1]).to_hybrid([1]))):
        saved.save_pretrained(tmp_path / name)
        again = Model.from_pretrained(tmp_path / name)
        assert again.model_config == model.model_config
        tiny.assert_same_weights(tiny.weights(again), tiny.weights(saved))


def test_resumed_run_equals_an_uninterrupted_one(tmp_path):
    options = {"steps": 12, "batch_size": 8, "lr": 1e-3, "progress": False}
    whole, seen = add_head(tiny.teacher(), "classify"), []
    wanted = finetune(
        whole, examples(), callback=lambda step, _: seen.append(step), callback_steps=5, **options
    )
    assert seen == [5, 10, 12]
    stopped = add_head(tiny.teacher(), "classify")

    def stop(step, model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(stopped, examples(), callback=stop, callback_steps=5, checkpoint=tmp_path / "c", **options)
    fresh = add_head(tiny.teacher(), "classify")
    found = finetune(fresh, examples(), checkpoint=tmp_path / "c", **options)
    tiny.assert_same_weights(tiny.weights(fresh), tiny.weights(whole))
    assert np.array_equal(found.losses[5:], wanted.losses[5:])


def test_windows_in_any_order_keep_their_labels(tmp_path):
    data, options = examples(32), {"steps": 8, "batch_size": 8, "lr": 1e-3, "progress": False}
    wanted, found = (add_head(tiny.teacher(), "classify") for _ in range(2))
    finetune(wanted, data, **options)
    # the same examples where the stream has them the other way round
    turned = Examples.of([data.data.tokens[a:b] for a, b in data.data.windows[::-1]]).data
    turned = Examples(TokenData(turned.tokens, turned.windows[::-1]), data.labels)
    finetune(found, turned, checkpoint=tmp_path / "c", **options)
    tiny.assert_same_weights(tiny.weights(found), tiny.weights(wanted))
    # other labels are another run
    with pytest.raises(CheckpointError, match="labels"):
        other = Examples(turned.data, 1 - data.labels)
        finetune(add_head(tiny.teacher(), "classify"), other, checkpoint=tmp_path / "c", **options)


def test_weights_of_tokens_in_distillation():
    """Weights of 0 and 1 leave the tokens with weight alone: the loss is that of the scorer."""
    data = tiny.text_data(seq_len=32, max_tokens=256)
    weights = np.random.default_rng(0).integers(0, 2, len(data.tokens)).astype(np.float32)
    weighted = TokenData(data.tokens, data.windows, "some", weights)
    hybrid = tiny.teacher().to_probe(tiny.MIXERS[1]).to_hybrid([0])
    kl = KLScorer(hybrid, tiny.teacher()).kl(data.tokens, data.windows, weights=weights)
    count = np.array([weights[start + 1 : stop].sum() for start, stop in data.windows])
    result = radlads.distill(hybrid, tiny.teacher(), weighted, 20, len(data), lr_mixers=1e-3, progress=False)
    assert result.losses[0, 0] == pytest.approx((kl * count).sum() / count.sum(), rel=1e-4)
    assert result.curve[-4:].mean() < result.curve[:2].mean()


def test_models_without_a_head_are_compared_by_hidden_states():
    from dataclasses import replace

    base = tiny.teacher()
    model = Model(replace(base.model_config, lm_head=False, bidirectional=False))
    tiny.randomize(model, 0)
    probe = model.to_probe(tiny.MIXERS[1])
    data = examples(16).data
    with pytest.raises(ValueError, match="no LM head"):
        model.logits(data.tokens[None, :5])
    with pytest.raises(ValueError, match="finetune needs"):
        Distiller(model, stage="finetune")
    scores = select.score(probe, data, "kl_replace", progress=False)
    assert scores.measure == "hidden"
    hybrid = probe.to_hybrid([1, 2])
    for i, (start, stop) in enumerate(data.windows[:3]):
        t, s = (m.hidden(data.tokens[None, start:stop])[0].astype(float) for m in (model, hybrid))
        wanted = (((t - s) ** 2).sum(1) / (t**2).sum(1)).mean()
        assert scores.per_sequence[0, i] == pytest.approx(wanted, rel=1e-3)
    result = radlads.distill(hybrid, model, data, 30, 16, lr_mixers=3e-3, lr_rest=1e-3, progress=False)
    assert result.curve[-4:].mean() < 0.8 * result.curve[:2].mean()


def test_bad_examples_are_named():
    made = sequences(3)
    classify, span = TaskHead(kind="classify"), TaskHead(kind="span")
    with pytest.raises(DataError, match="sequences is empty"):
        Examples.of([])
    with pytest.raises(DataError, match="sequence 1 has"):
        Examples.of([[1, 2], [3]])
    for wrong in ([0, 1], [[[0]]] * 3, 1):
        with pytest.raises(DataError, match=r"labels has shape .* each of 3 sequences"):
            Examples.of(made, wrong)
        with pytest.raises(DataError, match=r"labels has shape .* each of 3 sequences"):
            Examples(Examples.of(made).data, wrong)
    with pytest.raises(DataError, match="label of sequence 2 is 2; allowed: 0 to 1"):
        Examples.of(made, [0, 1, 2]).targets(classify)
    with pytest.raises(DataError, match="label of sequence 1 is nan"):
        Examples.of(made, [0.0, np.nan, 1.0]).targets(TaskHead(kind="regress", num_labels=1))
    with pytest.raises(DataError, match=r"label of sequence 0 is \[ *2 +99\]"):
        Examples.of(made, [[2, 99], [0, 0], [0, 1]]).targets(span)
    with pytest.raises(DataError, match="segments of sequence 0"):
        Examples.of(made, segments=[[0], [1], [2]])
    with pytest.raises(ConfigError, match="task of the model"):
        finetune(tiny.teacher(), Examples.of(made, [0, 1, 0]))
    with pytest.raises(ConfigError, match="num_labels of a span"):
        add_head(tiny.teacher(), "span", 3)


def test_the_trainer_checks_labels_too():
    model = add_head(tiny.teacher(), "classify")
    data = examples(2).data
    with pytest.raises(ValueError, match="LM head"):
        KLScorer(model).evaluate(data.tokens, data.windows)
    windows, lr = data.windows[None], np.full((1, 2), 1e-3, np.float32)
    trainer = Distiller(model, stage="finetune")
    with pytest.raises(ValueError, match=r"labels\[0, 1\] is 2, allowed are 0 to 1"):
        trainer.run(data.tokens, windows, lr, 0, 1, labels=np.array([[[0], [2]]], np.int32))
    with pytest.raises(ValueError, match="needs them"):
        trainer.run(data.tokens, windows, lr, 0, 1)
    with pytest.raises(ValueError, match="task 'classify' and 'none'"):
        Distiller(tiny.teacher(), model, stage="distill")
    with pytest.raises(ValueError, match="compared by sequence"):
        KLScorer(model).kl(data.tokens, data.windows, weights=np.ones(len(data.tokens), np.float32))


def test_threads_do_not_change_a_trained_head():
    from hybridattn._core import get_num_threads, set_num_threads

    found, before = [], get_num_threads()
    for threads in (1, 2):
        set_num_threads(threads)
        model = add_head(tiny.teacher(), "classify", pooler="relu", pool="mean", bias=True)
        finetune(model, examples(32), steps=3, batch_size=32, lr=1e-3, progress=False)
        found.append(tiny.weights(model))
    set_num_threads(before)
    tiny.assert_same_weights(*found)


@pytest.mark.parametrize("ids", [[5, 6, 7, 8, 2], [5, 6, 7, 8, 2, 2, 2], [5, 2, 7, 8, 2]])
def test_a_decoder_answers_before_its_padding(ids):
    """transformers pools at the last token that is not pad_token_id, even when that is the end of text."""
    model = add_head(tiny.teacher(), "classify", num_labels=2, seed=3)
    bare = list(ids)
    while bare[-1] == 2:
        bare.pop()
    model.model_config.hf["pad_token_id"] = 2
    padded, plain = predict(model, [np.array(ids)]), predict(model, [np.array(bare)])
    assert np.allclose(padded, plain, atol=1e-5)
    model.model_config.hf["pad_token_id"] = None
    assert not np.allclose(predict(model, [np.array(ids)]), plain, atol=1e-5)


@pytest.mark.parametrize("ids", [[2, 2], [2, 2, 2, 2]])
def test_a_text_of_nothing_but_padding_is_answered_at_its_first_token(ids):
    """As transformers does."""
    model = add_head(tiny.teacher(), "classify", num_labels=2, seed=3)
    model.model_config.hf["pad_token_id"] = 2
    found = predict(model, [np.array(ids)])
    model.model_config.hf["pad_token_id"] = 5
    assert np.allclose(found, predict(model, [np.array([2, 5])]), atol=1e-5)
