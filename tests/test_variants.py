"""Variants of checkpoints beside transformers: some live, refused ones without it, and the stored table."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from golden import recipe

from hybridattn.errors import ConfigError
from hybridattn.families import config_from_hf

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import variant_cases  # noqa: E402
import variants  # noqa: E402
import variants_page  # noqa: E402
from variant_cases import GONE  # noqa: E402

RESULTS = json.loads(variants.RESULTS.read_text(encoding="utf-8"))
NEWEST = RESULTS[max(RESULTS)]
LIVE = [
    "llama: linear, old key, type",
    "llama: rope_scaling beside a theta in rope_parameters",
    "llama: dynamic beyond its length",
    "llama: yarn, mscale",
    "llama: base model, no architectures",
    "llama: eos list, one outside",
    "mistral: mlp_bias without biases",
    "qwen2: sliding layer_types, window not used",
    "qwen2: window of all layers",
    "gpt_neox: rotary_pct 0.5, old keys",
    "gpt2: base model, no architectures",
    "gpt2: names of other families",
    "roberta: base model, no architectures",
    "distilbert: num_attention_heads beside n_heads",
    "unigram",
    "special tokens that take spaces",
    "a list of templates, with tools",
]
# refused by config.json alone
REFUSED = [
    case
    for case in variant_cases.MODELS
    if case.keys and not case.settings and "config.json: " in NEWEST["models"][case.name].get("why", "")
    and NEWEST["models"][case.name]["verdict"] == "refused"
]  # fmt: skip


def kind_of(name):
    return next(kind for kind, (cases, _) in variants.KINDS.items() if name in cases)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "transformers"))),
    reason="torch and transformers are not installed",
)
@pytest.mark.parametrize("name", LIVE)
def test_verdict_is_the_stored_one(name):
    import transformers

    stored = RESULTS.get(transformers.__version__, NEWEST)
    row = variants.row_of(kind_of(name), name)
    if row is None:
        pytest.skip("this version of transformers cannot write it")
    assert row["verdict"] == stored[kind_of(name)][name]["verdict"] != "WRONG"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_is_refused_is_named(case):
    """The keys alone, put into a config of transformers."""
    name = case.family if case.family in recipe.FAMILIES else "qwen2"
    hf = json.loads((recipe.FAMILY_MODELS / name / "config.json").read_text())
    hf |= {"model_type": case.family, "architectures": None if name != case.family else hf["architectures"]}
    given = {key: value for key, value in {**hf, **case.keys}.items() if value is not GONE}
    with pytest.raises(ConfigError) as error:
        config_from_hf(given)
    assert any(word in str(error.value) for word in case.words)


def test_the_stored_table_is_whole_and_right():
    """No verdict is WRONG, every case has one, and the page is that of the table."""
    for result in RESULTS.values():
        rows = [row for kind in variants.KINDS for row in result[kind].values()]
        assert len(rows) >= 200 and {row["verdict"] for row in rows} == {"equal", "warned", "refused"}
    for kind, (cases, _) in variants.KINDS.items():
        assert list(NEWEST[kind]) == list(cases)
    assert variants_page.PAGE.read_text(encoding="utf-8") == variants_page.page(RESULTS)


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (lambda: 1, lambda: 1, "equal"),
        (lambda: 1, lambda: 2, "WRONG"),
        (lambda: 1, lambda: {}["key"], "WRONG"),
        (lambda: {}["key"], lambda: 1, "WRONG"),
        (lambda: config_from_hf({"model_type": "key"}), lambda: 1, "refused"),
        (lambda: config_from_hf({"model_type": "other"}), lambda: 1, "WRONG"),
    ],
)
def test_what_a_verdict_is(ours, theirs, verdict):
    differ = variants._unlike
    assert variants.judge(ours, theirs, differ, ("'key'",))["verdict"] == verdict
