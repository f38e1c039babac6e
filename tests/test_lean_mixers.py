"""Mixers on the recurrence with the teacher's key and value heads, and with less of an output gate."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import twin_models

from hybridattn import _core, errors
from hybridattn.cli.align import mixer_spec
from hybridattn.model import Model
from hybridattn.pipeline.recipe import Recipe

TOKENS = (np.arange(2 * 70, dtype=np.int32).reshape(2, 70) * 37) % 256
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 12}
LEAN = {"kind": "gated_delta", "grouped": 1, "output_gate": "low_rank", "gate_rank": 5}


def moved(model: Model) -> Model:
    """Weights off their start, so that every one of them matters."""
    rng = np.random.default_rng(2)
    for name, array in model.arrays().items():
        if "A_log" not in name:
            array += 0.1 * rng.standard_normal(array.shape).astype(np.float32)
    return model


def repeated(lean: Model, **teacher) -> Model:
    """The same model with every head's own keys, values and gates."""
    spec = {**lean.layers[1][0], "grouped": 0}
    model = tiny.teacher(**teacher).to_probe(spec).to_hybrid([0])
    for name, array in model.arrays().items():
        given = lean.arrays()[name]
        if array.shape != given.shape:
            heads = given.reshape(lean.model_config.num_kv_heads, -1, *given.shape[1:])
            given = np.repeat(heads, len(array) // len(given), axis=0).reshape(array.shape)
        array[...] = given
    return model


@pytest.mark.parametrize("kind", [k for k in twin_models.RECURRENT if k != "retention"])  # decays by its head
@pytest.mark.parametrize("teacher", [{}, QWEN3], ids=["llama", "qwen3"])
def test_a_grouped_mixer_is_one_with_repeated_heads(kind, teacher):
    spec = {"kind": kind, "grouped": 1, "conv": 3}
    lean = moved(tiny.teacher(**teacher).to_probe(spec).to_hybrid([0]))
    wide = repeated(lean, **teacher)
    group = lean.model_config.num_heads // lean.model_config.num_kv_heads
    assert group > 1 and lean.nbytes < wide.nbytes
    states = [m.cost(9.0)[1][kind]["state_bytes"] for m in (lean, wide)]
    assert states[1] > states[0] * 1.5
    whole = wide.logits(TOKENS)
    np.testing.assert_allclose(lean.logits(TOKENS), whole, rtol=0, atol=1e-5 * np.abs(whole).max())
    cache = _core.Cache(lean, 2)
    parts = [lean.logits(part, cache=cache) for part in np.split(TOKENS, [65, 66], axis=1)]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=0, atol=2e-5 * np.abs(whole).max())


@pytest.mark.parametrize("kind", twin_models.RECURRENT)
def test_the_teacher_s_q_k_and_v_are_copied_as_they_are(kind):
    probe = tiny.teacher(attention_bias=True).to_probe({"kind": kind, "grouped": 1})
    weights = probe.arrays()
    for name in (f"{part}_proj.{what}" for part in "qkvo" for what in ("weight", "bias")):
        for layer in range(3):
            own, theirs = (weights[f"layers.{layer}.{mixer}.{name}"] for mixer in (kind, "softmax"))
            np.testing.assert_array_equal(own, theirs)


def test_gates_of_each_size():
    shapes = {}
    for gate in ("none", "low_rank", "full"):
        spec = {**LEAN, "output_gate": gate}
        model = tiny.teacher().to_probe(spec).to_hybrid([0])
        norm = model.arrays()["layers.1.gated_delta.norm.weight"]
        assert (norm == np.float32(0.3 if gate == "none" else 1)).all()
        shapes[gate] = {
            n: a.shape for n, a in model.arrays().items() if n.startswith("layers.1.gated_delta.g_")
        }
    assert shapes == {
        "none": {},
        "low_rank": {
            "layers.1.gated_delta.g_down.weight": (5, 32),
            "layers.1.gated_delta.g_up.weight": (32, 5),
        },
        "full": {"layers.1.gated_delta.g_proj.weight": (32, 32)},
    }


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({**LEAN, "output_gate": "half"}, "output_gate is 'half', allowed are 'none', 'low_rank', 'full'"),
        ({**LEAN, "output_gate": 2}, "output_gate is 2, allowed are 'none'"),
        ({"kind": "rwkv7", "output_gate": "full"}, "is 'full', allowed are 'none', 'low_rank'$"),
        ({**LEAN, "grouped": 2}, "grouped is 2, allowed are 0 to 1"),
        ({**LEAN, "gate_rank": 0}, "gate_rank is 0, allowed are 1 to 4096"),
        ({**LEAN, "key_heads": 2}, "grouped is 1, allowed with heads of its own shape is 0"),
        ({"kind": "delta", "output_gate": "none"}, "delta has no option output_gate"),
        ({"kind": "window", "grouped": 1}, "window has no option grouped"),
    ],
)
def test_what_is_not_there_is_refused_by_name(spec, says):
    with pytest.raises((ValueError, errors.ConfigError), match=says):
        tiny.teacher().to_probe(spec)


def test_named_options_from_the_command_line_and_recipes():
    assert mixer_spec("gated_delta", ["grouped=1", "output_gate=none", "gate_rank=8"]) == {
        "kind": "gated_delta",
        "grouped": 1,
        "output_gate": "none",
        "gate_rank": 8,
    }
    with pytest.raises(errors.ConfigError, match="write it as NAME=NUMBER"):
        mixer_spec("gated_delta", ["output_gate"])
    recipe = Recipe.from_dict({"mixer": LEAN | {"grouped": True}})
    assert Recipe.from_dict(recipe.to_dict()).mixer == LEAN
    with pytest.raises(errors.ConfigError, match=r"mixer.grouped is 'yes'; it must be a number"):
        Recipe.from_dict({"mixer": LEAN | {"grouped": "yes"}})


def test_saved_stored_and_switched(tmp_path):
    """What is saved says what it is; other types of weights, and both mixers in one model."""
    teacher = tiny.teacher(hidden_size=64, intermediate_size=64)
    probe = moved(teacher.to_probe({**LEAN, "gate_rank": 32}))
    hybrid = probe.to_hybrid([0])
    hybrid.save_pretrained(tmp_path / "hybrid")
    again = Model.from_pretrained(tmp_path / "hybrid")
    assert again.layers[1] == hybrid.layers[1] and again.layers[1][0]["output_gate"] == "low_rank"
    assert again.logits(TOKENS).tobytes() == hybrid.logits(TOKENS).tobytes()
    whole = hybrid.logits(TOKENS)
    for dtype in ("q8_0", "q4_0", "bfloat16"):
        stored = hybrid.astype(dtype)
        types = stored.stored()
        assert all(types[f"layers.1.gated_delta.{part}.weight"][0] == dtype for part in ("k_proj", "g_up"))
        found, plain = (m.logits(TOKENS) for m in (stored, stored.astype("float32")))
        np.testing.assert_allclose(found, plain, rtol=0, atol=1e-4 * np.abs(plain).max())
    probe.set_softmax_layers([0])
    assert probe.logits(TOKENS).tobytes() == whole.tobytes()


def test_exports_repeat_rows_and_multiply_gates_out(tmp_path):
    lean = moved(tiny.teacher().to_probe({**LEAN, "conv": 4}).to_hybrid([0]))
    done = lean.export(tmp_path / "out", "qwen3_5")
    assert done.notes["repeated_states"] == "4 of 2 in linear layers" and "output_gates" in done.notes
    back = Model.from_pretrained(tmp_path / "out")
    assert back.layers[1][0]["grouped"] == 0 and back.layers[1][0]["output_gate"] == "full"
    ours = lean.logits(TOKENS)
    np.testing.assert_allclose(back.logits(TOKENS), ours, rtol=0, atol=2e-5 * np.abs(ours).max())
    lean.export(tmp_path / "code", "remote_code")
    for layout in ("qwen3_5", "gguf"):
        bare = tiny.teacher().to_probe({**LEAN, "output_gate": "none"}).to_hybrid([0])
        with pytest.raises(errors.ExportError, match="gated_delta has no output gate"):
            bare.export(tmp_path / layout, layout)


def test_bamba_repeats_too(tmp_path):
    spec = {"kind": "mamba2", "grouped": 1, "output_gate": "low_rank"}
    lean = moved(tiny.teacher().to_probe(spec).to_hybrid([0]))
    lean.export(tmp_path / "out", "bamba")
    back, ours = Model.from_pretrained(tmp_path / "out"), lean.logits(TOKENS)
    np.testing.assert_allclose(back.logits(TOKENS), ours, rtol=0, atol=2e-5 * np.abs(ours).max())
