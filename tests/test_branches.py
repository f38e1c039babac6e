"""The two branches of window_linear: one switched off, and hidden in a share of the steps."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from hybridattn import _core, evaluate, radlads
from hybridattn.errors import CheckpointError, ConfigError
from hybridattn.radlads.window_dropout import hides

pytestmark = pytest.mark.usefixtures("one_thread")
LINEAR = {"kind": "window_linear", "window": 8, "sinks": 2}
OPTIONS = {"steps": 6, "batch_size": 2, "progress": False}


@pytest.fixture(scope="module")
def data():
    return tiny.text_data(seq_len=48, max_tokens=48 * 12)


def with_weights_of(model, spec):
    """A model of other mixers with the weights of `model` by place."""
    other = tiny.teacher().to_probe(spec).to_hybrid([1])
    pairs = zip(other.arrays().values(), model.arrays().values(), strict=True)
    for to, source in pairs:
        to[...] = source
    return other


def stirred(spec=LINEAR):
    """A hybrid whose linear part counts."""
    model = tiny.teacher().to_probe(spec).to_hybrid([1])
    for name, array in model.arrays().items():
        if name.endswith("window_linear.gate"):
            array[...] = 0.5
    return model


def grads(model, data, branch):
    """Gradients of step 2 on two windows."""
    model.set_branch(branch)
    trainer = _core.Distiller(model, tiny.teacher(), "distill")
    found = np.zeros(trainer.arena("weights").shape, np.float32)
    loss = trainer.gradients(data.tokens, data.windows[None, :2], 0, 2, found)
    return loss, found


@pytest.mark.parametrize("spec", [LINEAR, {**LINEAR, "rope_features": 1}, {**LINEAR, "sinks": 0}])
def test_a_hidden_window_is_a_window_of_one_token(spec, data):
    model = stirred(spec)
    narrow = with_weights_of(model, {**spec, "window": 1})
    (loss, found), (want_loss, want) = grads(model, data, "linear"), grads(narrow, data, "both")
    assert loss == want_loss != grads(model, data, "both")[0]
    np.testing.assert_array_equal(found, want)


def test_softmax_alone_is_the_window_mixer(data):
    model = stirred()
    window = tiny.teacher().to_probe({"kind": "window", "window": 8, "sinks": 2}).to_hybrid([1])
    model.set_branch("softmax")
    tokens = data.tokens[None, :48]
    np.testing.assert_allclose(model.logits(tokens), window.logits(tokens), rtol=1e-5, atol=1e-5)
    model.set_branch("both")
    assert np.abs(model.logits(tokens) - window.logits(tokens)).max() > 1e-3


def test_gradients_of_softmax_alone_are_those_of_differences(data):
    model = stirred()
    found = grads(model, data, "softmax")[1]
    trainer = _core.Distiller(model, tiny.teacher(), "distill")
    weights = trainer.arena("weights").numpy()
    rng = np.random.default_rng(3)
    direction = (found * (rng.random(found.shape) < 0.5)).astype(np.float32)
    step = np.float32(1e-3 / np.linalg.norm(direction))
    sides = []
    for sign in (1, -1):
        weights += sign * step * direction
        sides.append(trainer.gradients(data.tokens, data.windows[None, :2], 0, 2, np.zeros_like(found)))
        weights -= sign * step * direction
    assert (sides[0] - sides[1]) / (2 * float(step)) == pytest.approx(float(found @ direction), rel=2e-2)


def test_what_the_linear_branch_is_worth_by_layer(data):
    teacher, model = tiny.teacher(), stirred()
    found = evaluate.branches(model, teacher, data)
    assert found.both == evaluate.kl(model, teacher, data).kl
    assert found.worth == found.softmax - found.both != 0
    assert list(found.by_layer) == [0, 2]
    model.set_branch("softmax", 2)
    assert found.by_layer[2] == evaluate.kl(model, teacher, data).kl
    model.set_branch("both")
    assert evaluate.branches(model, teacher, data, by_layer=False).by_layer == {}
    with pytest.raises(ConfigError, match="window_linear"):
        evaluate.branches(teacher, teacher, data)


def test_dropout_draws_the_same_steps_everywhere_and_leaves_both_branches(data, monkeypatch):
    seen = []
    plain = type(tiny.teacher()).set_branch
    monkeypatch.setattr(
        type(tiny.teacher()),
        "set_branch",
        lambda self, name, layer=None: (seen.append(name), plain(self, name)),
    )
    radlads.align(tiny.teacher(), LINEAR, data, window_dropout=0.5, seed=4, **OPTIONS)
    want = ["linear" if hides(4, step, 0.5) else "both" for step in range(6)]
    assert seen == [*want, "both"]
    assert len(set(want)) == 2
    assert np.mean([hides(0, step, 0.3) for step in range(2000)]) == pytest.approx(0.3, abs=0.04)


def trained(data, threads=1, **options):
    _core.set_num_threads(threads)
    try:
        probe = radlads.align(tiny.teacher(), LINEAR, data, **OPTIONS, **options)
        hybrid = probe.to_hybrid([1])
        radlads.distill(hybrid, tiny.teacher(), data, **OPTIONS, **options)
    finally:
        _core.set_num_threads(1)
    return hybrid.arrays()


def test_dropout_changes_what_is_learned_and_0_nothing(data):
    half = trained(data, window_dropout=0.5)
    tiny.assert_same_weights(half, trained(data, threads=3, window_dropout=0.5))
    plain = trained(data)
    tiny.assert_same_weights(plain, trained(data, window_dropout=0.0))
    name = "layers.0.window_linear.gate"
    assert not np.array_equal(half[name], plain[name])


def test_an_interrupted_run_with_dropout_goes_on_bit_for_bit(data, tmp_path):
    straight = radlads.align(tiny.teacher(), LINEAR, data, window_dropout=0.5, **OPTIONS)
    options = {**OPTIONS, "checkpoint": tmp_path / "state", "checkpoint_steps": 2, "window_dropout": 0.5}

    class Stop(Exception):
        pass

    plain = type(tiny.teacher()).set_branch
    calls = []

    def counted(self, name, layer=None):
        plain(self, name, layer)
        calls.append(name)
        if len(calls) == 5:  # in front of the fifth step
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tiny.teacher()), "set_branch", counted)
        with pytest.raises(Stop):
            radlads.align(tiny.teacher(), LINEAR, data, **options)
    with pytest.raises(CheckpointError, match="window_dropout"):
        radlads.align(tiny.teacher(), LINEAR, data, **{**options, "window_dropout": 0.0})
    resumed = radlads.align(tiny.teacher(), LINEAR, data, **options)
    tiny.assert_same_weights(straight.arrays(), resumed.arrays())


def test_what_is_refused(data):
    with pytest.raises(ConfigError, match=r"window_dropout is 1\.5"):
        radlads.align(tiny.teacher(), LINEAR, data, window_dropout=1.5, **OPTIONS)
    with pytest.raises(ConfigError, match="0 for a model without window_linear"):
        radlads.align(tiny.teacher(), {"kind": "gla"}, data, window_dropout=0.5, **OPTIONS)
    model = stirred()
    for branch, layer in (("neither", None), ("softmax", 1), ("softmax", 9), ("softmax", -1)):
        with pytest.raises(ValueError, match="allowed are"):
            model.set_branch(branch, layer)
