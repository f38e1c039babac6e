"""`run`: the whole job on a tiny model."""

import dataclasses
import json

import pytest
from job import SMALL, go

from hybridattn import pipeline
from hybridattn.errors import ConfigError
from hybridattn.model.card import evaluation_rows, measured_of
from hybridattn.pipeline.recipe import Recipe
from hybridattn.pipeline.recipe_toml import merge
from hybridattn.pipeline.store import PROGRESS
from hybridattn.select import SELECTORS


def test_the_whole_job(first):
    out, results, ran = first
    assert ran[0] == "align" and ran[-1] == "sample/chosen" and len(ran) == len(set(ran)) > 20
    by_id = {m["id"]: m for m in results["models"]}
    assert list(by_id) == ["teacher", "all-linear", "uniform", "random-0", "random-1", "chosen"]
    for name, entry in by_id.items():
        assert len(entry["softmax_layers"]) == {"teacher": 3, "all-linear": 0}.get(name, 1)
        assert set(entry["before"]) == {"32", "64"}
        assert (entry["after"] is not None) == (name in ("chosen", "uniform", "random-0"))
        assert entry["before"]["32"]["perplexity"] > 1
        assert (entry["before"]["32"]["kl"] > 0) == (name != "teacher")
    assert by_id["all-linear"]["cache"]["bytes_per_token"] == 0 < by_id["chosen"]["cache"]["bytes_per_token"]
    assert by_id["chosen"]["sample"]["after"] and by_id["teacher"]["sample"]["before"]
    scores = results["scores"][0]
    assert results["chosen"]["softmax_layers"] == scores["layers"] and scores["method"] == "kl_replace"
    assert results["additivity"]["all_linear_kl"] > 0
    assert results["curves"]["align"]["loss"][-1] < results["curves"]["align"]["loss"][0]
    assert len(results["curves"]["distill"]["chosen"]["loss"]) == 4
    assert measured_of(out / "models" / "chosen") == evaluation_rows(by_id["chosen"]["after"])
    assert not (out / PROGRESS).exists()
    assert Recipe.load(out / "recipe.toml") == Recipe.from_dict(pipeline_recipe(out))


def pipeline_recipe(out):
    from hybridattn.pipeline.recipe_toml import parse_toml

    return parse_toml((out / "recipe.toml").read_text(encoding="utf-8"), "recipe")


def test_every_method_in_a_recipe(inputs, tmp_path):
    names = [name for name in SELECTORS if not name.startswith("diagnostic:")]
    methods = [*names, "diagnostic:associative_recall"]
    part = {"methods": methods, "text": "mix", "tokens": 256, "seq_len": 128}
    results, ran = go(inputs, tmp_path, score=part, plan={"method": "smart"}, distill={"tokens": 0})
    assert [name for name in ran if name.startswith("score/")] == [f"score/{name}" for name in methods]
    found = {s["method"]: s for s in results["scores"]}
    assert list(found) == methods and found["uniform"]["layers"] == [2]
    assert results["chosen"]["method"] == "smart" and results["chosen"]["text"] == "mix"
    assert all(len(s["layers"]) == 1 for s in found.values())


def test_a_share_of_the_layers(inputs, tmp_path):
    results, _ = go(inputs, tmp_path, plan={"softmax_layers": 0, "ratio": 0.67}, distill={"tokens": 0})
    assert len(results["chosen"]["softmax_layers"]) == 2


def test_a_recipe_changed_in_python(inputs, tmp_path):
    go(inputs, tmp_path)
    recipe = Recipe.from_dict(merge(merge(inputs, SMALL), {"plan": {"method": ""}}))
    changed = dataclasses.replace(recipe, score=dataclasses.replace(recipe.score, methods=("mse",)))
    paths = pipeline.run(changed, tmp_path, lambda line: None, progress=False)
    assert json.loads(paths["json"].read_text(encoding="utf-8"))["chosen"]["method"] == "mse"
    wrong = dataclasses.replace(changed, plan=dataclasses.replace(changed.plan, method="kl_replace"))
    with pytest.raises(
        ConfigError, match=r'plan\.method is "kl_replace"; allowed: one of score\.methods: mse'
    ):
        pipeline.run(wrong, tmp_path, lambda line: None, progress=False)
