"""The core inside a process: threads, forks, the GIL, signals, object lifetimes."""

import gc
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import tiny

import hybridattn
from hybridattn import _core

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 256, size=600).astype(np.int32)
WINDOWS = np.array([[0, 200], [200, 201], [230, 329], [330, 600]])
STEPS = np.array([[[0, 150], [150, 170]], [[200, 333], [400, 464]]])
LR = np.full((2, 2), 1e-3, np.float32)


@pytest.fixture(params=tiny.MIXERS, ids=lambda spec: spec["kind"])
def probe(request):
    return tiny.teacher(seed=1, layers=4).to_probe(request.param, seed=2)


def everything(probe, threads):
    """What the core computes from one start: logits, scores, and weights after training, as bytes."""
    hybridattn.set_num_threads(threads)
    probe, scorer = probe.copy(), None
    out = [probe.logits(TOKENS[None]), probe.nll(TOKENS[None])]
    aligner = _core.Distiller(probe, None, "align", micro_batch=2)
    out.append(aligner.run(TOKENS, STEPS, LR, 0, 2))
    scorer = _core.KLScorer(probe)
    gates = np.array([0.5, 0.0, 1.0, 0.25], np.float32)
    out += [scorer.kl(TOKENS, WINDOWS, gates), *scorer.flip(TOKENS, WINDOWS, np.ones(4), [0, 2, 3])]
    out += scorer.gate_gradient(TOKENS, WINDOWS, gates)
    hybrid = probe.to_hybrid([1])
    for stage in ("distill", "finetune"):
        teacher = probe if stage == "distill" else None
        out.append(_core.Distiller(hybrid, teacher, stage).run(TOKENS, STEPS, LR, 0, 2))
    cache = _core.Cache(hybrid, 2)
    for n in (1, 100, 1, 1):
        out.append(hybrid.logits(TOKENS[: 2 * n].reshape(2, n), cache=cache))
    out += hybrid.arrays().values()
    return [np.asarray(x).tobytes() for x in out]


def test_results_do_not_depend_on_the_number_of_threads(probe):
    before = hybridattn.get_num_threads()
    try:
        one = everything(probe, 1)
        for threads in (2, 3, 4, 8):
            assert everything(probe, threads) == one
    finally:
        hybridattn.set_num_threads(before)


@pytest.mark.parametrize("n", [0, -3, 5000])
def test_thread_counts_are_checked(n):
    with pytest.raises(ValueError, match=f"num_threads is {n}, allowed are 1 to 1024"):
        hybridattn.set_num_threads(n)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_the_same(probe):
    """A parallel region in the parent must not hang one in the child."""
    want = probe.logits(TOKENS[None]).tobytes()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(30)
            os.write(write, b"same" if probe.logits(TOKENS[None]).tobytes() == want else b"other")
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    answer = os.read(read, 16)
    os.close(read)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and answer == b"same"
    assert probe.logits(TOKENS[None]).tobytes() == want


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_during_a_call_of_another_thread_gets_an_error(probe):
    """The thread that has the model's lock does not exist in the child: nothing may wait for it."""
    model, running, stop = big(), threading.Event(), threading.Event()

    def work():
        while not stop.is_set():
            running.set()
            model.hidden(np.tile(TOKENS, (2, 1)))

    want = probe.logits(TOKENS[None]).tobytes()
    thread = threading.Thread(target=work)
    thread.start()
    answers = []
    try:
        for _ in range(5):
            running.clear()
            running.wait()
            time.sleep(0.02)
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    signal.alarm(60)
                    same = probe.logits(TOKENS[None]).tobytes() == want
                    try:
                        model.hidden(TOKENS[None])
                        os.write(write, b"%d works" % same)
                    except RuntimeError as error:
                        os.write(write, b"%d %s" % (same, str(error).encode()))
                finally:
                    os._exit(0)
            os.close(write)
            answers.append(os.read(read, 200).decode())
            os.close(read)
            os.waitpid(child, 0)
    finally:
        stop.set()
        thread.join()
    refused = "1 the model was in use by another thread when this process was forked"
    assert all(answer == "1 works" or answer.startswith(refused) for answer in answers), answers
    assert any(answer.startswith(refused) for answer in answers)
    model.hidden(TOKENS[None])


def big():
    """A model whose training step takes seconds."""
    model = tiny.teacher(layers=8, hidden_size=256, intermediate_size=1024, num_attention_heads=8)
    return model.to_probe({"kind": "gated_delta"})


def test_other_python_threads_run_while_the_core_works():
    model, ticks, stop = big(), 0, threading.Event()

    def tick():
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        began, start = ticks, time.monotonic()
        model.hidden(np.tile(TOKENS, (4, 1)))
        seconds = time.monotonic() - start
    finally:
        stop.set()
        thread.join()
    assert ticks - began > 20 * seconds, f"{ticks - began} ticks in {seconds:.2f} s: the GIL was held"


def test_two_threads_may_use_one_model(probe):
    want = probe.logits(TOKENS[None]).tobytes()
    got = []
    workers = [
        threading.Thread(target=lambda: got.append(probe.logits(TOKENS[None]).tobytes())) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert got == [want] * 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGALRM")
def test_an_interrupt_ends_a_step_within_a_second_and_changes_nothing():
    model = big()
    tokens = np.tile(TOKENS, 20)
    windows = np.array([[[i * 2000, i * 2000 + 2000] for i in range(6)]])
    trainer = _core.Distiller(model, None, "finetune", micro_batch=1)
    before, fired = tiny.weights(model), []

    def on_alarm(*_):
        fired.append(time.monotonic())
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.run(tokens, windows, LR[:1], 0, 1)
        late = time.monotonic() - fired[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert late < 1.0
    assert trainer.step == 0
    tiny.assert_same_weights(before, tiny.weights(model))
    # No gradient of the broken step is left over: a step now is the step of a fresh trainer.
    other = big()
    short = np.array([[[0, 100]]])
    first = trainer.run(TOKENS, short, LR[:1], 0, 1)
    assert first == _core.Distiller(other, None, "finetune").run(TOKENS, short, LR[:1], 0, 1)
    tiny.assert_same_weights(tiny.weights(model), tiny.weights(other))


def test_views_keep_their_model_alive():
    model = tiny.teacher()
    name, array = next(iter(model.arrays().items()))
    gates, want = model.gates, array.copy()
    del model
    gc.collect()
    assert np.array_equal(array, want) and gates.sum() == 3, name


def test_objects_are_freed(probe):
    """Growth of the resident size over many models, caches, scorers and trainers stays small."""

    def once():
        model = probe.copy()
        _core.Cache(model, 2).fork()
        _core.KLScorer(model, probe).kl(TOKENS, WINDOWS[:1])
        _core.Distiller(model, None, "align").run(TOKENS, STEPS[:, :, :], LR, 0, 1)
        for bad in ("x", None):
            with pytest.raises((TypeError, ValueError)):
                model.logits(bad)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs /proc")
    for _ in range(3):
        once()
    gc.collect()
    before = resident()
    for _ in range(20):
        once()
    gc.collect()
    assert resident() - before < 16 << 20
    assert sys.getrefcount(probe) < 20


@pytest.mark.parametrize(
    ("tokens", "mask", "message"),
    [
        ([[1, 300]], None, r"tokens\[0, 1\] is 300, allowed are 0 to 256"),
        ([[1, -1]], None, r"tokens\[0, 1\] is -1, allowed are 0 to 256"),
        ([[1, 2, 3]], [[1, 0, 1]], "mask row 0 has a gap at column 1"),
        ([[1, 2, 3]], [[0, 0, 0]], "mask row 0 hides every token"),
        ([[1, 2, 3]], [[1, 1]], "mask has length 2 along axis 1, expected 3"),
        ([1, 2], None, "tokens has 1 dimensions, expected 2"),
        (np.zeros((1, 0), np.int32), None, "at least one sequence of one token"),
    ],
)
def test_bad_tokens_are_named(probe, tokens, mask, message):
    with pytest.raises(ValueError, match=message):
        probe.logits(tokens, None if mask is None else np.array(mask, bool))


def test_bad_windows_and_gates_are_named(probe):
    scorer = _core.KLScorer(probe)
    with pytest.raises(ValueError, match=r"window 0 is \[590, 601\), allowed are at least 1 of the 600"):
        scorer.kl(TOKENS, [[590, 601]])
    with pytest.raises(ValueError, match=r"gates\[1\] is 1.5, allowed are 0 \(linear\) to 1 \(softmax\)"):
        scorer.kl(TOKENS, WINDOWS, [0, 1.5, 0, 0])
    with pytest.raises(ValueError, match=r"layers\[1\] is 1, allowed are ascending numbers from 0 to 3"):
        scorer.flip(TOKENS, WINDOWS, np.ones(4), [2, 1])
    with pytest.raises(TypeError, match="tokens has dtype dtype\\('float64'\\), expected int32"):
        scorer.kl(TOKENS * 0.5, WINDOWS)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([[{"kind": "softmax"}]] * 2, "layers must be a list of 3 lists"),
        ([[{"kind": "mamba"}]] * 3, "no mixer of kind 'mamba'"),
        ([[{"kind": "window_linear", "window": 0}]] * 3, "window_linear option window is 0, allowed are"),
        ([[{"kind": "gated_delta", "chunk": 3}]] * 3, "gated_delta has no option chunk"),
        ([[{"kind": "softmax"}, {"kind": "softmax"}]] * 3, "two softmax mixers, allowed is one"),
        ([[]] * 3, "allowed are lists of one or two mixers"),
    ],
)
def test_bad_layers_are_named(layers, message):
    with pytest.raises(ValueError, match=message):
        _core.Model(tiny.teacher().config, layers)


def test_cache_is_one_models_own(probe):
    cache = _core.Cache(probe, 2)
    with pytest.raises(ValueError, match="cache belongs to another model"):
        probe.copy().logits(TOKENS[None, :4], cache=cache)
    with pytest.raises(ValueError, match="tokens has 1 sequences and the cache 2"):
        probe.logits(TOKENS[None, :4], cache=cache)


def test_cache_continues_forks_and_restores(probe):
    tokens = TOKENS[:300].reshape(2, 150)
    for gates in ([1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0.5, 0]):
        probe.gates[:] = gates
        full, cache, at, parts = probe.logits(tokens), _core.Cache(probe, 2), 0, []
        for n in (1, 1, 3, 7, 1, 64, 1, 1, 30, 41):
            parts.append(probe.logits(tokens[:, at : at + n], cache=cache))
            at += n
        np.testing.assert_allclose(np.concatenate(parts, 1), full, atol=2e-4 * np.abs(full).max())
        assert (cache.bytes_per_token > 0) == any(gates)
        state, fork, other = cache.state(), cache.fork(), _core.Cache(probe, 2)
        other.load_state(state)
        following = [probe.logits(tokens[:, :9], cache=c).tobytes() for c in (cache, fork, other)]
        assert following[0] == following[1] == following[2]
        with pytest.raises(ValueError, match="has no lengths"):
            other.load_state({})
        del state["0.softmax.0.rows" if gates[0] else f"0.{probe.layers[0][1]['kind']}.0.data"]
        with pytest.raises(ValueError, match="it is of another model"):
            other.load_state(state)
        assert list(other.lengths) == [0, 0]
