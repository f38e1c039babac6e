"""A start of recurrences that is fitted to the teacher's attention."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from hybridattn import _core, radlads
from hybridattn.errors import ConfigError
from hybridattn.model import calibrated

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = calibrated.KINDS


def residual(probe, data):
    """What is left of the softmax output after the linear mixers, as a share."""
    error, size = _core.KLScorer(probe).alignment(data.tokens, data.windows)
    return error.mean() / size.mean()


@pytest.mark.parametrize("options", [{}, {"grouped": 1, "output_gate": "low_rank"}, {"output_gate": "none"}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_calibrated_start_is_nearer_to_softmax_on_held_out_text(kind, options, data):
    train, held_out = data.split(len(data) // 4)
    teacher, mixer = tiny.teacher(), {"kind": kind, **options}
    plain = residual(teacher.to_probe(mixer), held_out)
    probe = teacher.to_probe(mixer, init="calibrated", data=train)
    assert residual(probe, held_out) < min(0.95, 0.9 * plain)
    assert probe.calibration.tokens == train.num_tokens  # less than it would read
    assert probe.calibration.seconds > 0


@pytest.mark.parametrize("changes", [{}, {"model_type": "qwen3", "head_dim": 16}, {"bidirectional": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_on_any_number_of_threads(kind, changes, data):
    teacher, found = tiny.teacher(layers=2, **changes), []
    for threads in (1, 3):
        _core.set_num_threads(threads)
        found.append(teacher.to_probe({"kind": kind}, init="calibrated", data=data))
    _core.set_num_threads(1)
    tiny.assert_same_weights(*(probe.arrays() for probe in found))
    assert all(np.isfinite(array).all() for array in found[0].arrays().values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_and_the_default_start_stay_as_they_were(kind, data):
    teacher = tiny.teacher()
    before = tiny.weights(teacher)
    plain, probe = (
        teacher.to_probe({"kind": kind}),
        teacher.to_probe({"kind": kind}, init="calibrated", data=data),
    )
    assert plain.calibration is None
    for name, array in before.items():
        np.testing.assert_array_equal(teacher.arrays()[name], array)
        np.testing.assert_array_equal(probe.arrays()[name], array)
    tiny.assert_same_weights(plain.arrays(), teacher.to_probe({"kind": kind}, init="transfer").arrays())


def reach_by_hand(model, layer, x):
    """[heads, 2]: of every eighth query from the second on, the mean log distance and spread; x [T, hidden]
    is what the mixer reads.
    """
    sizes, arrays = model.config, model.arrays()
    heads, kv, dim = sizes["num_heads"], sizes["num_kv_heads"], sizes["head_dim"]
    q, k, v = (x @ arrays[f"layers.{layer}.softmax.{name}_proj.weight"].T for name in "qkv")
    angle = np.arange(len(x))[:, None] * np.asarray(sizes["rope_inv_freq"])

    def turned(y, count):
        a, b = np.split(y.reshape(len(x), count, dim).astype(float), 2, axis=-1)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    q, k, v = turned(q, heads), turned(k, kv), v.reshape(len(x), kv, dim)
    found = np.zeros((heads, 2))
    asked = range(1, len(x), 8)
    for h in range(heads):
        own = h // (heads // kv)
        for i in asked:
            logit = k[: i + 1, own] @ q[i, h] / dim**0.5
            share = np.exp(logit - logit.max()) * np.linalg.norm(v[: i + 1, own], axis=1)
            share /= share.sum()
            found[h, 0] += share @ np.log1p(i - np.arange(i + 1))
            found[h, 1] += -(share @ np.log(share)) / np.log(i + 1)
    return found / len(asked)


def test_how_far_heads_look(data):
    model = tiny.teacher().to_probe({"kind": "gla"})
    window = data.windows[:1]
    stream = model.trace_layer(0, data.tokens, window)["stream"]
    found = model.trace_layer(1, data.tokens, window, stream)
    reach = found["reach"]
    np.testing.assert_allclose(
        reach[:, 1:] / reach[:, :1], reach_by_hand(model, 1, found["input"]), rtol=1e-4
    )


def test_the_stream_is_the_teachers(data):
    model, stream = tiny.teacher().to_probe({"kind": "gla"}), None
    for layer in range(len(model.layers)):
        stream = model.trace_layer(layer, data.tokens, data.windows, stream)["stream"]
    want = np.zeros((len(data.tokens), stream.shape[1]), np.float32)
    model.forward_windows(data.tokens, data.windows, want)
    want = np.concatenate([want[start:stop] for start, stop in data.windows])
    norm = model.arrays()["final_norm.weight"]
    np.testing.assert_allclose(
        _core.ops.rms_norm(stream, norm, eps=model.model_config.norm_eps), want, rtol=1e-5, atol=1e-6
    )


def test_align_starts_from_it(data):
    options = {"steps": 2, "batch_size": 2, "progress": False, "init": "calibrated"}
    teacher = tiny.teacher()
    probe = radlads.align(teacher, {"kind": "gated_delta"}, data, **options)
    start = teacher.to_probe({"kind": "gated_delta"}, init="calibrated", data=data)
    scorer = _core.Distiller(start, None, "align")
    first = scorer.run(data.tokens, data.batches(1, 2), np.zeros((1, 2), np.float32), 0, 1)
    np.testing.assert_array_equal(probe.train_result.losses[0], first[0])
    assert probe.calibration.tokens == start.calibration.tokens


@pytest.mark.parametrize(
    ("mixer", "options", "said"),
    [
        ({"kind": "gla"}, {"init": "other"}, "init is 'other'"),
        (
            {"kind": "window_linear"},
            {"init": "calibrated"},
            "init is 'calibrated'; allowed: \"transfer\" for",
        ),
        ({"kind": "gated_delta", "heads": 8}, {"init": "calibrated"}, "where heads gives"),
        ({"kind": "gla"}, {"init": "calibrated", "data": None}, "data is None"),
        ({"kind": "gla"}, {"init": "transfer"}, "data is"),
    ],
)
def test_what_is_refused(mixer, options, said, data):
    with pytest.raises(ConfigError, match=said):
        tiny.teacher().to_probe(mixer, **{"data": data, **options})


def test_trace_layer_refuses_what_it_cannot_read(data):
    model = tiny.teacher()
    stream = model.trace_layer(0, data.tokens, data.windows)["stream"]
    for layer, incoming, linear in (
        (1, None, False),
        (0, stream, False),
        (9, stream, False),
        (1, stream, True),
    ):
        with pytest.raises(ValueError, match=r"layer is|linear is"):
            model.trace_layer(layer, data.tokens, data.windows, incoming, linear=linear)
    with pytest.raises(ValueError, match="incoming"):
        model.trace_layer(1, data.tokens, data.windows, stream[:-1])
