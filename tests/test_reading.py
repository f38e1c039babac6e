"""JSON from outside: what is odd is refused by name, and readers check the types of what they use."""

import json
import tracemalloc

import numpy as np
import pytest
import tiny

from hybridattn import Model
from hybridattn import plan as plans
from hybridattn.checks import check_number
from hybridattn.data.text_files import json_lines, load_text
from hybridattn.errors import ConfigError, DataError, HybridAttnError, PlanError
from hybridattn.families import config_from_hf
from hybridattn.model.plan import Plan
from hybridattn.pipeline.recipe import Recipe
from hybridattn.reading import field, parse_json, read_json
from hybridattn.select import LayerScores
from hybridattn.select.plan import affordable

ODD = {
    "deep": "[" * 100_000,
    "digits": '{"text": ' + "1" * 41 + "}",
    "many digits": '{"text": ' + "1" * 5000 + "}",
    "surrogate": '{"text": "a\\ud800b"}',
    "other surrogate": '{"text": "\\uDC00"}',
    "not UTF-8": b'{"text": "\xff"}',
    "cut": '{"text": "a',
    "empty": "",
}


@pytest.mark.parametrize("kind", sorted(ODD))
@pytest.mark.parametrize(
    "load",
    [Plan.load, LayerScores.load, load_text, lambda p: list(json_lines(p, ["text"])), Model.from_pretrained],
    ids=["plan", "scores", "text", "lines", "config"],
)
def test_odd_json(tmp_path, load, kind):
    content = ODD[kind]
    if kind == "empty" and load not in (Plan.load, LayerScores.load, load_text, Model.from_pretrained):
        return  # a file of no lines has none
    path = tmp_path / ("config.json" if load == Model.from_pretrained else "x.jsonl")
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(HybridAttnError) as caught:
        load(tmp_path if load == Model.from_pretrained else path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_whole_passes():
    value = {"a": 10**39, "b": 1e300, "c": "\U0001f600 \\ud800", "d": [None, True]}
    assert parse_json(json.dumps(value), "x", DataError) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode(), "x", DataError) == value


@pytest.mark.parametrize("value", [True, "1", None, [1], 1.5])
def test_fields_have_kinds(value):
    with pytest.raises(DataError, match=r"x: n is .*; allowed: a whole number"):
        field({"n": value}, "n", int, "x", DataError)


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), True, "1", None, [1.0]])
def test_numbers_that_are_none(value):
    with pytest.raises(ConfigError, match="eps is"):
        check_number("eps", value, above=True)


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "s.json"
    LayerScores("kl_replace", np.arange(12.0).reshape(3, 4)).save(path)
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    "change",
    [{"options": 5}, {"options": {"order": 7}}, {"options": {"order": [0, 0, 1]}},
     {"options": {"order": ["a"]}},
     {"options": {"order": [0, 1]}}, {"method": "random", "options": {}},
     {"method": ["a"]}, {"mixer": 7},
     {"method": "random", "options": {"seed": 1.5}}, {"per_sequence": 3}, {"base_kl": "x"},
     {"seconds": None}, {"values": 3},
     {"values": [1, 2]}, {"values": []}, {"per_sequence": [[1], [2, 3]]}, {"per_sequence": [["a"]] * 3},
     {"per_sequence": [[1e999]] * 3}, {"per_sequence": {}}, {"tokens": [1]}, {"tokens": [0, 1, 1, 1]},
     {"tokens": [True] * 4}, {"cost": [], "text": 3}],
)  # fmt: skip
def test_scores_are_checked(tmp_path, scores, change):
    (tmp_path / "s.json").write_text(json.dumps({**scores, **change}))
    with pytest.raises(DataError, match=r"s\.json: not a file of layer scores, written by version [^:]+: "):
        plans.make(LayerScores.load(tmp_path / "s.json"), k=1)


@pytest.mark.parametrize(
    "change",
    [{"num_layers": 10**9}, {"num_layers": True}, {"mixer": {"window": [1]}}, {"mixer": 3}, {"how": []},
     {"softmax_layers": [1.0]}, {"softmax_layers": [10**30]}, {"method": None}],
)  # fmt: skip
def test_plans_are_checked(tmp_path, change):
    plan = {
        "format": "hybridattn-plan-1",
        "method": "a",
        "num_layers": 3,
        "softmax_layers": [1],
        "mixer": {},
        "how": {},
    }
    (tmp_path / "p.json").write_text(json.dumps({**plan, **change}))
    with pytest.raises(PlanError, match=r"p\.json: "):
        Plan.load(tmp_path / "p.json")


@pytest.mark.parametrize(
    "costs", [[1], 3, {}, {"all_linear": 3}, {"all_linear": {"ms_per_token": "x"}},
              {"all_linear": {"ms_per_token": float("nan")}, "all_softmax": {"ms_per_token": 1}}],
)  # fmt: skip
def test_costs_are_checked(costs):
    with pytest.raises(PlanError, match=r"costs"):
        affordable(3, {"ms_per_token": 1.0}, costs)


@pytest.mark.parametrize(
    "change",
    [{"model_type": ["llama"]}, {"model_type": {}}, {"layer_types": 5}, {"layer_types": [["x"]]},
     {"layer_types": ["a", 1]}, {"rope_scaling": {"rope_type": ["x"]}}, {"rms_norm_eps": 10**400},
     {"rope_scaling": {"rope_type": "linear", "factor": 10**400}}, {"bos_token_id": {}},
     {"eos_token_id": [[1]]},
     {"rope_scaling": [1]}, {"vocab_size": 1.5}, {"hidden_size": "64"}],
)  # fmt: skip
def test_configs_are_checked(change):
    with pytest.raises(ConfigError):
        config_from_hf({**tiny.teacher().model_config.hf, **change})


@pytest.mark.parametrize("change", [{"gates": [0.0, 2.0]}, {"gates": [-1.0, 0.0]}, {"gates": [True, 0.5]},
                                    {"gates": [1]}, {"layers": [[{"kind": ["a"]}]] * 2}])  # fmt: skip
def test_sections_of_hybrids_are_checked(tmp_path, change):
    tiny.teacher(layers=2).to_probe(tiny.MIXERS[0]).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["hybridattn"] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"config\.json: "):
        Model.from_pretrained(tmp_path)


@pytest.mark.parametrize("layers", [[0], [], [0, 1]])
def test_a_plan_that_contradicts_its_layers(tmp_path, layers):
    tiny.teacher(layers=2).to_probe(tiny.MIXERS[0]).to_hybrid(Plan((1,), 2, "a")).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["hybridattn"]["plan"]["softmax_layers"] = layers
    path.write_text(json.dumps(content))
    with pytest.raises(PlanError, match=r"allowed: \[1\], as in the model"):
        Model.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["x=" + "[" * 100_000, "seed = " + "1" * 5000, "[align]\nlr = " + "1" * 401])
def test_odd_recipes(tmp_path, text):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigError, match="recipe"):
        Recipe.load(tmp_path / "r.toml")


def test_a_small_file_takes_little_memory(tmp_path):
    """Under a limit of address space a reader may not ask for what the largest file would need."""
    (tmp_path / "x.json").write_text("[1]")
    tracemalloc.start()
    try:
        assert read_json(tmp_path / "x.json", DataError) == [1]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [3, 1 << 16, (1 << 16) + 1, 300_000])
def test_files_up_to_the_limit_are_read_whole(tmp_path, size):
    text = '"' + "a" * (size - 2) + '"'
    (tmp_path / "x.json").write_text(text)
    assert read_json(tmp_path / "x.json", DataError, size) == text[1:-1]
    with pytest.raises(DataError, match=f"has more than {size - 1} bytes"):
        read_json(tmp_path / "x.json", DataError, size - 1)
