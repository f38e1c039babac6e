"""A model converted, saved and loaded is the same model; what does not fit is refused by name."""

import json

import numpy as np
import pytest
import tiny

from hybridattn import plan
from hybridattn.errors import ConfigError, PlanError, WeightError
from hybridattn.model.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")

TOKENS = np.arange(2 * 20, dtype=np.int32).reshape(2, 20) * 7 % 256


@pytest.fixture(params=tiny.MIXERS, ids=lambda mixer: mixer["kind"])
def probe(request):
    return tiny.teacher().to_probe(request.param, seed=1)


def test_probe_computes_what_the_teacher_computes(probe):
    teacher = tiny.teacher()
    assert probe.logits(TOKENS).tobytes() == teacher.logits(TOKENS).tobytes()
    for name, array in teacher.arrays().items():
        assert np.array_equal(probe.arrays()[name], array)


def test_probe_starts_linear_mixers_from_softmax(probe):
    arrays, kind = probe.arrays(), probe.layers[0][1]["kind"]
    assert np.array_equal(arrays[f"layers.1.{kind}.o_proj.weight"], arrays["layers.1.softmax.o_proj.weight"])


def test_probe_is_reproducible_and_independent(probe):
    again = tiny.teacher().to_probe(probe.layers[0][1], seed=1)
    tiny.assert_same_weights(tiny.weights(probe), tiny.weights(again))
    again.arrays()["embed.weight"][...] = 0
    assert probe.arrays()["embed.weight"].any()


def test_hybrid_is_the_gated_probe(probe):
    probe.gates[:] = [1, 0, 1]
    hybrid = probe.to_hybrid([0, 2])
    assert [[spec["kind"] for spec in layer] for layer in hybrid.layers] == [
        ["softmax"], [probe.layers[0][1]["kind"]], ["softmax"],
    ]  # fmt: skip
    assert np.allclose(hybrid.logits(TOKENS), probe.logits(TOKENS), atol=1e-5)
    assert hybrid.num_parameters < probe.num_parameters


def test_all_softmax_hybrid_is_the_teacher(probe):
    teacher = tiny.teacher()
    back = probe.to_hybrid(range(3))
    tiny.assert_same_weights(tiny.weights(back), tiny.weights(teacher))
    assert back.layers == teacher.layers


@pytest.mark.parametrize("tied", [True, False])
def test_teacher_round_trip(tmp_path, tied):
    teacher = tiny.teacher(tied=tied)
    teacher.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "llama" and "hybridattn" not in config
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    back = Model.from_pretrained(tmp_path)
    tiny.assert_same_weights(tiny.weights(back), tiny.weights(teacher))
    assert back.model_config == teacher.model_config
    assert back.tokenizer.encode("mill") == teacher.tokenizer.encode("mill")


def test_hybrid_round_trip(tmp_path, probe):
    hybrid = probe.to_hybrid(plan.uniform(3, 1, probe.layers[0][1]))
    hybrid.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["base_model_type"]) == ("hybridattn", "llama")
    assert config["layer_types"] == ["linear_attention", "linear_attention", "full_attention"]
    back = Model.from_pretrained(tmp_path)
    assert (back.layers, back.plan) == (hybrid.layers, hybrid.plan)
    assert back.model_config == hybrid.model_config and back.model_config.hf == hybrid.model_config.hf | {
        "torch_dtype": "float32"
    }
    tiny.assert_same_weights(tiny.weights(back), tiny.weights(hybrid))
    assert back.logits(TOKENS).tobytes() == hybrid.logits(TOKENS).tobytes()


def test_probe_round_trip_keeps_gates(tmp_path, probe):
    probe.gates[:] = [1, 0.25, 0]
    probe.save_pretrained(tmp_path)
    back = Model.from_pretrained(str(tmp_path))
    assert back.gates.tolist() == [1, 0.25, 0]
    tiny.assert_same_weights(tiny.weights(back), tiny.weights(probe))


def test_save_in_half_the_size(tmp_path):
    teacher = tiny.teacher()
    teacher.save_pretrained(tmp_path, dtype="bfloat16")
    back = Model.from_pretrained(tmp_path)
    for name, array in teacher.arrays().items():
        assert np.allclose(back.arrays()[name], array, rtol=2**-8)
    with pytest.raises(ConfigError, match="dtype is 'int8'"):
        teacher.save_pretrained(tmp_path, dtype="int8")


def test_copy_shares_nothing(probe):
    probe.gates[0] = 0.5
    twin = probe.copy()
    assert twin.gates[0] == 0.5
    twin.arrays()["embed.weight"][...] = 0
    assert probe.arrays()["embed.weight"].any()


def test_conversions_refused_by_name(probe):
    with pytest.raises(ConfigError, match="mixer kind is 'softmax'"):
        probe.to_probe({"kind": "softmax"})
    with pytest.raises(PlanError, match=r"softmax_layers is \[7\]; allowed: 0 to 2"):
        probe.to_hybrid([7])
    with pytest.raises(PlanError, match="num_layers of the plan is 4"):
        probe.to_hybrid(plan.uniform(4, 2))
    with pytest.raises(PlanError, match="mixer kind of the plan is 'other'"):
        probe.to_hybrid(plan.uniform(3, 1, {"kind": "other"}))
    with pytest.raises(ConfigError, match="layer 0 is"):
        tiny.teacher().to_hybrid([1])


@pytest.mark.parametrize(("change", "message"), [
    ({"layers": [[{"kind": "softmax"}]]}, "hybridattn.layers"),
    ({"gates": [1]}, "hybridattn.gates"),
    ({"format": 2}, "allowed: an object with format 1"),
    ({"plan": {"format": "x"}}, "hybridattn.plan: format is 'x'"),
])  # fmt: skip
def test_damaged_hybrid_config_is_refused(tmp_path, probe, change, message):
    probe.to_hybrid([0]).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["hybridattn"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises((ConfigError, PlanError), match=message) as error:
        Model.from_pretrained(tmp_path)
    assert str(path) in str(error.value)


def test_folder_without_config_or_with_other_weights(tmp_path, probe):
    with pytest.raises(ConfigError, match=r"config\.json"):
        Model.from_pretrained(tmp_path)
    probe.to_hybrid([0]).save_pretrained(tmp_path)
    (tmp_path / "w").mkdir()
    probe.to_hybrid([1]).save_pretrained(tmp_path / "w")
    (tmp_path / "w" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(WeightError, match="missing"):
        Model.from_pretrained(tmp_path)
