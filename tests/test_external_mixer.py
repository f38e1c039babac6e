"""A mixer written in Python goes through the whole job like one of the core, and its mistakes are named."""

from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
import tiny
from average_mixer import FUNCTIONS, TOKENS, probe, register

import hybridattn
from hybridattn import _core, radlads, select
from hybridattn.errors import ConfigError
from hybridattn.model.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_kind_serves_the_models_it_says():
    class Mean:
        """y = the mean of v over the whole sequence, of one projection."""

        @staticmethod
        def forward(p, x, lengths):
            ends = np.cumsum(lengths)
            v = x @ p["v.weight"].T
            means = [np.broadcast_to(v[e - n : e].mean(0), (n, v.shape[1])) for e, n in zip(ends, lengths)]
            return np.concatenate(means) @ p["o.weight"].T, None

    encoders = register("test_mean", forward=Mean.forward, step=None, state=None, bidirectional=True)
    assert hybridattn.mixers()["test_mean"]["masks"] == ("bidirectional",)
    model = tiny.teacher(bidirectional=True).to_probe(encoders).to_hybrid([])
    tokens = np.arange(12, dtype=np.int32)[None]
    changed = tokens.copy()
    changed[0, -1] = 100
    assert (model.logits(tokens)[0, 0] != model.logits(changed)[0, 0]).any()
    with pytest.raises(ValueError, match="mixer test_mean is for bidirectional models only"):
        tiny.teacher().to_probe(encoders)
    with pytest.raises(ValueError, match="mixer test_average is causal only"):
        tiny.teacher(bidirectional=True).to_probe(register("test_average"))


def test_whole_path(tmp_path):
    teacher, data = tiny.teacher(), tiny.text_data(32, 64)
    spec = register("test_average")
    assert spec["kind"] in hybridattn.mixers()
    aligned = radlads.align(teacher, spec, data, steps=30, batch_size=2, lr=1e-2, progress=False)
    losses = aligned.train_result.losses
    assert (losses[-1] < 0.9 * losses[0]).all()
    assert np.isfinite(select.score(aligned, data, "kl_gate").values).all()
    assert np.isfinite(select.score(aligned, data, "kl_replace").values).all()
    student = aligned.to_hybrid([1])
    curve = radlads.distill(
        student, teacher, data, steps=8, batch_size=2, lr_mixers=1e-3, progress=False
    ).curve
    assert curve[-1] < curve[0]
    student.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path)
    tiny.assert_same_weights(tiny.weights(student), tiny.weights(again))
    texts = [m.generate("the", max_new_tokens=6, temperature=0) for m in (student, again)]
    assert texts[0] == texts[1] and len(texts[0]) > 3


def test_decode_continues_the_full_pass():
    model = probe().to_hybrid([0])
    whole, cache = model.logits(TOKENS), _core.Cache(model, 2)
    parts = [model.logits(part, cache=cache) for part in np.split(TOKENS, [1, 7, 8, 30], axis=1)]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=0, atol=1e-5 * np.abs(whole).max())
    fork = cache.fork()
    assert fork.nbytes == cache.nbytes
    again = np.arange(4, dtype=np.int32).reshape(2, 2)
    assert model.logits(again, cache=fork).tobytes() == model.logits(again, cache=cache).tobytes()


def test_gradients_of_parameters_and_gates():
    model, teacher = probe(), tiny.teacher(seed=5)
    windows, stream = np.array([[0, 40], [40, 45]]), TOKENS.ravel()
    scorer, gates = _core.KLScorer(model, teacher), np.full(3, 0.4, np.float32)
    _, slopes = scorer.gate_gradient(stream, windows, gates)
    for layer in range(3):
        step = np.eye(3, dtype=np.float32)[layer] * 1e-3
        up, down = (scorer.kl(stream, windows, gates + s * step) for s in (1, -1))
        assert (up - down).mean() / 2e-3 == pytest.approx(slopes[:, layer].mean(), rel=0.02, abs=3e-3)
    hybrid = model.to_hybrid([0])
    trainer = _core.Distiller(hybrid.copy(), teacher, "distill", clip=1e9, micro_batch=2)
    trainer.run(stream, windows[None], np.zeros((1, 2), np.float32), 0, 1)
    for name, moment in trainer.moments()["m"].items():
        if "test_average" not in name:
            continue
        slope = moment.numpy() / np.float32(0.1)
        norm = float(np.linalg.norm(slope))
        values = []
        for sign in (1, -1):
            moved = hybrid.copy()
            moved.arrays()[name][...] += sign * 5e-3 / norm * slope
            kl = _core.KLScorer(moved, teacher).kl(stream, windows)
            values.append((kl * [40, 5]).sum() / 45)
        assert (values[0] - values[1]) / 1e-2 == pytest.approx(norm, rel=0.02), name


def test_threads_of_the_core_give_the_same_bits():
    found = []
    for n in (1, 2):
        _core.set_num_threads(n)
        found.append(probe().to_hybrid([0]).logits(TOKENS).tobytes())
    _core.set_num_threads(1)
    assert found[0] == found[1]


def test_without_step_it_cannot_decode():
    model = probe("test_no_step", step=None, state=None).to_hybrid([0])
    assert np.isfinite(model.logits(TOKENS)).all()
    with pytest.raises(NotImplementedError, match="test_no_step was registered without step"):
        model.logits(TOKENS, cache=_core.Cache(model, 2))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("softmax", {}, "kind softmax is registered already"),
        ("no such name", {}, "name is 'no such name', allowed are"),
        ("", {}, "name is ''"),
        ("test_x", {"step": None}, "give both or neither"),
        ("test_x", {"align_lr": 0.0}, "align_lr is 0.0, allowed are"),
        ("test_x", {"align_lr": float("nan")}, "align_lr is nan, allowed are"),
        ("test_x", {"summary": "one\ntwo"}, "summary has several lines"),
    ],
)
def test_bad_registrations(name, changes, message):
    with pytest.raises(ValueError, match=message):
        hybridattn.register_mixer(name, **(FUNCTIONS | changes))


def test_a_kind_says_what_it_is():
    register("test_average")
    plain = hybridattn.mixers()["test_average"]
    assert (plain["summary"], plain["phrase"], plain["align_lr"]) == ("registered from Python", None, 1e-3)
    said = {"summary": "a moving average", "phrase": "a mean that forgets", "align_lr": 3e-3}
    register("test_said", **said)
    assert said.items() <= hybridattn.mixers()["test_said"].items()


def test_twice_and_not_a_function():
    register("test_average")
    with pytest.raises(ValueError, match="test_average is registered already"):
        hybridattn.register_mixer("test_average", **FUNCTIONS)
    with pytest.raises(TypeError, match="vjp is a int, expected a function"):
        hybridattn.register_mixer("test_y", **(FUNCTIONS | {"vjp": 3}))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("test_p1", {"parameters": lambda c: {}}, "parameters gave {}, allowed is a dict of 1 to 20"),
        ("test_p2", {"parameters": lambda c: {"w": (3, 0)}}, r"w has shape \(3, 0\), allowed are"),
        ("test_p3", {"parameters": lambda c: {"no way": 3}}, "a parameter is called 'no way'"),
        ("test_p4", {"state": lambda c: "x"}, "state has shape 'x'"),
        ("test_i1", {"init": lambda *a: {}}, "init gave no v.weight"),
        (
            "test_i2",
            {"init": lambda *a: dict.fromkeys(("v.weight", "rate", "o.weight"), 0.0)},
            "v.weight has shape",
        ),
    ],
)
def test_bad_declarations(name, changes, message):
    with pytest.raises((ValueError, ConfigError), match=message):
        probe(name, **changes)


def raises(*args):
    raise LookupError("from inside")


BAD_PASSES = [
    ("test_f1", {"forward": raises}, LookupError, "from inside"),
    ("test_f2", {"forward": lambda p, x, n: 3}, TypeError, "forward gave a int, expected a pair"),
    (
        "test_f3",
        {"forward": lambda p, x, n: (x[:, :1], 0)},
        ValueError,
        r"y of forward has shape .* expected",
    ),
    ("test_v1", {"vjp": raises}, LookupError, "from inside"),
    ("test_v2", {"vjp": lambda p, s, dy: (dy, {})}, ValueError, "vjp gave no gradient of v.weight"),
    ("test_v3", {"vjp": lambda p, s, dy: (dy, [])}, TypeError, "dparams of vjp is a list"),
]


@pytest.mark.parametrize(("name", "changes", "error", "message"), BAD_PASSES, ids=lambda v: str(v)[:8])
def test_errors_come_out_and_change_nothing(name, changes, error, message):
    hybrid = probe(name, **changes).to_hybrid([0])
    before = tiny.weights(hybrid)
    trainer = _core.Distiller(hybrid, tiny.teacher(), "distill")
    lr = np.full((1, 2), 1e-2, np.float32)
    with pytest.raises(error, match=message):
        trainer.run(TOKENS.ravel(), np.array([[[0, 40]]]), lr, 0, 1)
    tiny.assert_same_weights(before, tiny.weights(hybrid))
    assert trainer.step == 0


def test_views_are_read_only_and_must_not_be_kept():
    kept = []

    def keeps(p, x, lengths):
        kept.append(x)
        return x, None

    def writes(p, x, lengths):
        x[0] = 0
        return x, None

    def keeps_a_cut(p, x, lengths):
        kept.append(p["v.weight"].T[:2])
        return x, None

    def keeps_and_fails(p, x, lengths):
        cut = x[:1]  # noqa: F841
        kept.append(x.copy())
        raise ValueError("after keeping")

    hybrid = probe("test_keeps", forward=keeps).to_hybrid([0])
    with pytest.raises(RuntimeError, match="test_keeps kept an array of the core"):
        hybrid.logits(TOKENS)
    # what was kept has numbers of its own, which the next call does not change
    (first,) = kept
    assert first.base is not None and not first.flags.writeable
    before = first.copy()
    with pytest.raises(RuntimeError):
        hybrid.logits(TOKENS[:, ::-1].copy())
    assert first.tobytes() == before.tobytes() != kept[1].tobytes()

    # what was cut from it keeps the model and its memory
    kept.clear()
    hybrid = probe("test_keeps_cut", forward=keeps_a_cut).to_hybrid([0])
    weight, alive = hybrid.arrays()["layers.1.test_keeps_cut.v.weight"].T[:2].copy(), weakref.ref(hybrid)
    with pytest.raises(RuntimeError, match="test_keeps_cut kept an array"):
        hybrid.logits(TOKENS)
    del hybrid
    gc.collect()
    assert alive() is not None and kept[0].tobytes() == weight.tobytes()
    kept.clear()
    gc.collect()
    assert alive() is None

    # a traceback keeps them too, and its exception stays what it was
    hybrid = probe("test_keeps_fails", forward=keeps_and_fails).to_hybrid([0])
    with pytest.raises(ValueError, match="after keeping") as caught:
        hybrid.logits(TOKENS)
    names = caught.traceback[-1].frame.f_locals
    del hybrid
    gc.collect()
    assert names["x"].base is not None and names["x"].tobytes() == kept[0].tobytes()
    assert all(w.base is not None and np.isfinite(w).all() for w in names["p"].values())
    assert np.isfinite(names["cut"]).all()
    with pytest.raises(ValueError, match="read-only"):
        probe("test_writes", forward=writes).to_hybrid([0]).logits(TOKENS)


@pytest.mark.parametrize("which", ["init", "forward", "vjp", "step"])
def test_a_traceback_keeps_no_memory_of_the_core(which):
    with pytest.raises(LookupError, match="from inside") as caught:
        hybrid = probe(f"test_tb_{which}", **{which: raises}).to_hybrid([0])
        if which == "step":
            hybrid.logits(TOKENS, cache=_core.Cache(hybrid, 2))
        lr = np.zeros((1, 2), np.float32)
        _core.Distiller(hybrid, stage="finetune").run(TOKENS.ravel(), np.array([[[0, 40]]]), lr, 0, 1)
    args = caught.traceback[-1].frame.f_locals["args"]
    arrays = [a for arg in args for a in (arg.values() if isinstance(arg, dict) else [arg])]
    found = [a for a in arrays if isinstance(a, np.ndarray)]
    assert found and all(a.flags.owndata or a.base is not None for a in found)


def test_a_saved_model_names_the_kind_it_needs(tmp_path):
    probe().to_hybrid([0]).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"test_average"', '"test_gone"'))
    assert "test_gone" in json.dumps(json.loads(file.read_text()))
    with pytest.raises(ConfigError, match="no mixer of kind 'test_gone'"):
        Model.from_pretrained(tmp_path)
