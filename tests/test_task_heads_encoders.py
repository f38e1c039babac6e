"""Heads of tasks on encoders: the head of the family, and segments in every stage."""

import json

import numpy as np
import pytest
import tiny
from golden.recipe import FAMILY_MODELS
from task_examples import HEADS, accuracy, encoder, pairs

from hybridattn import Model, radlads, select
from hybridattn._core import KLScorer
from hybridattn.tasks import Examples, add_head, finetune, predict

pytestmark = pytest.mark.usefixtures("one_thread")


def test_an_encoder_has_the_head_of_its_family():
    """BERT's: the first token, a dense layer with tanh, a classifier with a bias."""
    model, data = encoder(num_labels=3), pairs(4).data
    weights = {name: array.astype(float) for name, array in model.arrays().items()}
    assert "transform.weight" not in weights and "lm_head.bias" not in weights
    for i, (start, stop) in enumerate(data.windows):
        hidden = model.hidden(data.tokens[None, start:stop], segments=data.segments[None, start:stop])
        pooled = np.tanh(hidden[0, 0] @ weights["pooler.weight"].T + weights["pooler.bias"])
        wanted = pooled @ weights["classifier.weight"].T + weights["classifier.bias"]
        np.testing.assert_allclose(predict(model, pairs(4))[i], wanted, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2", "gpt_neox", "qwen3"])
@pytest.mark.parametrize("kind", HEADS)
def test_heads_of_every_family_are_saved(family, kind, tmp_path):
    """With the family's own head as its transformers class, with another head as a model of this package."""
    base = Model.from_pretrained(FAMILY_MODELS / family)
    heads = {"own": {"kind": kind}, "other": {"kind": kind, "pool": "mean", "bias": kind != "span"}}
    for name, options in heads.items():
        model = add_head(base, **options)
        model.save_pretrained(tmp_path / name)
        again = Model.from_pretrained(tmp_path / name)
        assert again.model_config == model.model_config
        tiny.assert_same_weights(tiny.weights(again), tiny.weights(model))
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["model_type"] == (family if name == "own" else "hybridattn")


def test_segments_reach_every_stage(tmp_path):
    """Fine-tuning learns what only they say; scores, step 2 and the teacher's cache see them too."""
    teacher, train = encoder(), pairs(64)
    finetune(teacher, train, steps=60, batch_size=16, lr=3e-3, progress=False)
    held = pairs(32, 7)
    assert accuracy(teacher, held) > 0.95
    assert (
        accuracy(teacher, Examples.of([held.data.tokens[a:b] for a, b in held.data.windows], held.labels))
        < 0.8
    )
    probe = radlads.align(teacher, tiny.MIXERS[0], train.data, 5, 16, progress=False)
    hybrid = probe.to_hybrid([0])
    p, q = (
        logits - np.log(np.exp(logits).sum(1, keepdims=True))
        for logits in (predict(model, held).astype(float) for model in (teacher, hybrid))
    )
    wanted = (np.exp(p) * (p - q)).sum(1)
    scores = select.score(probe, held.data, "kl_replace", progress=False)
    np.testing.assert_allclose(scores.per_sequence[1], wanted, rtol=1e-3, atol=1e-6)
    kl, _ = KLScorer(probe).gate_gradient(
        held.data.tokens, held.data.windows, np.array([1, 0], np.float32), segments=held.data.segments
    )
    np.testing.assert_allclose(kl, wanted, rtol=1e-3, atol=1e-6)
    found = [
        radlads.distill(
            hybrid.copy(), teacher, held.data, 2, 32, micro_batch=32, cache_teacher=cache, progress=False
        ).losses
        for cache in (None, tmp_path / "cache.npy")
    ]
    assert found[0][0, 0] == pytest.approx(wanted.mean(), rel=1e-3, abs=1e-6)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
    wrong = Examples.of([[1, 2]], [0], [[0, 9]])
    with pytest.raises(ValueError, match="segment is 9, allowed are 0 to 1"):
        predict(teacher, wrong)
