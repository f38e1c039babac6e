"""The core under misuse: calls inside calls, arrays changed behind its back, values out of their range."""

import signal
import threading

import numpy as np
import pytest
import tiny

from hybridattn import _core
from hybridattn._core import ops, reference

pytestmark = pytest.mark.usefixtures("one_thread")

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 256, size=600).astype(np.int32)
STEPS = np.array([[[0, 150], [150, 170]], [[200, 333], [400, 464]]])
LR = np.full((2, 2), 1e-3, np.float32)
WINDOWS = STEPS.reshape(-1, 2)


@pytest.fixture
def probe():
    return tiny.teacher(seed=1).to_probe(tiny.MIXERS[0], seed=2)


def distiller(model, stage="finetune", **options):
    return _core.Distiller(model, model.copy() if stage == "distill" else None, stage, **options)


# --- calls inside calls ---


@pytest.mark.parametrize(
    "call",
    [
        lambda model, cache: model.hidden(TOKENS[None, :4]),
        lambda model, cache: model.init_mixers(),
        lambda model, cache: cache.state(),
        lambda model, cache: cache.reset(),
        lambda model, cache: _core.KLScorer(model.copy(), model).kl(TOKENS, WINDOWS),
    ],
    ids=["hidden", "init_mixers", "state", "reset", "as_teacher"],
)
def test_a_signal_handler_may_not_use_the_model_it_interrupts(call):
    model = tiny.teacher(layers=8, hidden_size=256, intermediate_size=1024, num_attention_heads=8)
    cache = _core.Cache(model)
    old = signal.signal(signal.SIGALRM, lambda *_: call(model, cache))
    try:
        with pytest.raises(RuntimeError, match=r"^the model is in use by a call on this thread$"):
            for _ in range(100):  # one signal a turn, until one comes inside the call
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                model.hidden(np.tile(TOKENS, (4, 1)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert model.hidden(TOKENS[None, :4]).shape == (1, 4, 256)  # nothing is left locked


def test_a_callback_may_use_the_model(probe):
    seen = []
    distiller(probe).run(
        TOKENS, STEPS, LR, 0, 2, callback=lambda *_: seen.append(probe.logits(TOKENS[None, :4]))
    )
    assert len(seen) == 2 and not np.array_equal(*seen)


def test_two_models_as_each_others_teacher_do_not_wait_for_ever(probe):
    other = probe.copy()
    pairs = [(probe, other), (other, probe)]
    want = [_core.KLScorer(*pair).kl(TOKENS, WINDOWS).tobytes() for pair in pairs]
    got = [[], []]

    def work(i):
        got[i] = [_core.KLScorer(*pairs[i]).kl(TOKENS, WINDOWS).tobytes() for _ in range(8)]

    workers = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert got == [[w] * 8 for w in want]


# --- changes behind the core's back ---


def test_an_interrupt_before_the_callback_does_anything_leaves_the_losses_of_whole_steps(probe):
    other, table = probe.copy(), np.full((2, 1), np.nan)

    def stop(*_):
        raise KeyboardInterrupt

    trainer = distiller(probe)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(TOKENS, STEPS, LR, 0, 2, callback=stop, losses=table)
    assert trainer.step == 1 and np.isnan(table[1]).all()
    want = distiller(other).run(TOKENS, STEPS, LR, 0, 1, losses=(given := np.full_like(table[:1], 7.0)))
    assert want is given and np.array_equal(table[:1], want) and want.all()
    with pytest.raises(ValueError, match="losses has length 2 along axis 0, expected 1"):
        trainer.run(TOKENS, STEPS, LR, 1, 2, losses=table)
    with pytest.raises(TypeError, match="losses must be a writable C-contiguous float64 array"):
        trainer.run(TOKENS, STEPS, LR, 1, 2, losses=table[:1].astype(np.float32))


def test_windows_and_rates_are_those_at_the_call(probe):
    other, windows, lr = probe.copy(), STEPS.copy(), LR.copy()

    def spoil(*_):
        windows[...] = 1 << 40
        lr[...] = np.nan

    got = distiller(probe).run(TOKENS, windows, lr, 0, 2, callback=spoil)
    assert np.array_equal(got, distiller(other).run(TOKENS, STEPS, LR, 0, 2))
    tiny.assert_same_weights(tiny.weights(probe), tiny.weights(other))


def test_tokens_that_change_are_checked_when_used(probe):
    tokens = TOKENS.copy()

    def spoil(*_):
        tokens[210] = 1 << 30

    with pytest.raises(ValueError, match=r"^tokens\[210\] is 1073741824, allowed are 0 to 256$"):
        distiller(probe).run(tokens, STEPS, LR, 0, 2, callback=spoil)


class Shrinking(list):
    """A list whose items empty it when they are read as numbers."""

    class Item:
        def __init__(self, owner, value):
            self.owner, self.value = owner, value

        def __index__(self):
            self.owner.clear()
            return self.value

    def __init__(self, values):
        super().__init__(Shrinking.Item(self, v) for v in values)


def test_a_list_that_changes_while_it_is_read():
    assert _core.Tensor(Shrinking([2, 3, 4])).shape == (2, 3, 4)
    x = np.zeros((9, 1, 4), np.float32)
    assert ops.rope(x, np.ones(2, np.float32), lengths=Shrinking([2, 3, 4])).shape == x.shape
    probe = tiny.teacher().to_probe(tiny.MIXERS[0])
    assert distiller(probe, "align", layers=Shrinking([0, 2])).trainable()
    assert len(_core.KLScorer(probe).flip(TOKENS, WINDOWS, np.ones(3), Shrinking([0, 1, 2]))[1]) == 3


def test_gates_of_the_model_may_change_after_the_call(probe):
    gates = np.ones(3, np.float32)
    scorer = _core.KLScorer(probe)
    probe.gates[:] = gates[:] = [0.5, 0.0, 1.0]
    assert np.array_equal(scorer.kl(TOKENS, WINDOWS), scorer.kl(TOKENS, WINDOWS, gates))


# --- values ---


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 7.0])
def test_gates_out_of_range_are_named_wherever_they_enter(probe, value):
    probe.gates[1] = value
    message = rf"^gates\[1\] is {value:g}, allowed are 0 \(linear\) to 1 \(softmax\)$"
    scorer, own = _core.KLScorer(probe), np.array(probe.gates)
    for call in (
        lambda: probe.logits(TOKENS[None, :4]),
        lambda: _core.Cache(probe),
        lambda: distiller(probe).run(TOKENS, STEPS, LR, 0, 1),
        lambda: scorer.kl(TOKENS, WINDOWS),
        lambda: scorer.kl(TOKENS, WINDOWS, own),
        lambda: scorer.flip(TOKENS, WINDOWS, own, [0]),
        lambda: scorer.gate_gradient(TOKENS, WINDOWS, own),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_training_numbers_out_of_range_are_named(probe, value):
    for name in ("clip", "eps", "weight_decay"):
        with pytest.raises(ValueError, match=f"^{name} is {value}, out of its range$"):
            distiller(probe, **{name: value})
    rates = LR.copy()
    rates[1, 0] = value
    with pytest.raises(ValueError, match=rf"^lr\[1, 0\] is {value}, allowed are finite numbers from 0 on$"):
        distiller(probe).run(TOKENS, STEPS, rates, 0, 1)


def test_what_a_stage_needs_and_refuses(probe):
    with pytest.raises(ValueError, match=r"^stage distill needs a teacher$"):
        _core.Distiller(probe, None, "distill")
    for stage in ("distill", "finetune"):
        with pytest.raises(
            ValueError, match=f"^layers is given for stage {stage}, allowed for stage align only$"
        ):
            distiller(probe, stage, layers=[0])


def test_sliding_window_is_bounded():
    model = tiny.teacher()
    layers = [[{"kind": "softmax"}]] * 3
    wide = _core.Model(model.config | {"sliding_window": 1 << 30}, layers)
    assert np.isfinite(wide.logits(TOKENS[None, :70])).all()
    with pytest.raises(
        ValueError, match="sliding_window is 1073741825, allowed are whole numbers from 0 to 1073741824"
    ):
        _core.Model(model.config | {"sliding_window": (1 << 30) + 1}, layers)


@pytest.mark.parametrize("module, dtype", [(ops, np.float32), (reference, np.float64)])
def test_recurrences_refuse_by_name(module, dtype):
    f, v = np.ones((3, 1, 2), dtype), np.ones((3, 1, 4), dtype)
    for lag in (-1, (1 << 30) + 1):
        with pytest.raises(ValueError, match=f"^lag is {lag}, allowed are 0 to 2.30$"):
            module.linear_attention(f, f, v, lag=lag)
    with pytest.raises(ValueError, match=r"^lag is 1, allowed with a state is 0$"):
        module.linear_attention(f, f, v, lag=1, return_state=True)
    with pytest.raises(ValueError, match=r"^gv is given with g, beta or a and b, allowed is gv without"):
        module.recurrence(f, f, v, beta=f[..., 0], gv=-v)
    wide = np.ones((1, 1, 50000), dtype)
    with pytest.raises(
        ValueError, match=r"^a state has 2500050000 numbers a head, allowed are up to 2147483647$"
    ):
        module.linear_attention(wide, wide, wide)
    one = np.ones((1, 1), dtype)
    with pytest.raises(ValueError, match=r"^a state has 2500000000 numbers a head, allowed are"):
        module.gated_delta(wide, wide, wide, one, one)


def test_reference_windows_refuse_by_name():
    q = np.ones((3, 1, 2))
    for name, value in (("window", -1), ("sinks", -1), ("window", (1 << 30) + 1)):
        with pytest.raises(ValueError, match=f"^{name} is {value}, allowed are"):
            reference.softmax_attention(q, q, q, **{name: value})
    square = np.ones((1, 2, 2))
    with pytest.raises(ValueError, match=r"^window is 0, allowed are 1 to"):
        reference.mix_window_linear(q, q, q, square, square, np.ones(1), np.ones(1), window=0)


def test_a_second_init_is_refused():
    model = tiny.teacher()
    want = model.logits(TOKENS[None, :4])
    with pytest.raises(RuntimeError, match=r"^Model\.__init__ was called twice$"):
        _core.Model.__init__(model, model.config, [[{"kind": "softmax"}]] * 3)
    assert np.array_equal(model.logits(TOKENS[None, :4]), want)


def test_a_failed_call_leaves_the_cache_usable(probe):
    cache = _core.Cache(probe)
    probe.logits(TOKENS[None, :4], cache=cache)
    with pytest.raises(ValueError, match="tokens"):
        probe.logits([[300]], cache=cache)
    assert list(cache.lengths) == [4]
