"""What `run` takes and refuses: texts, regions, budgets, one run at a time."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import tiny
from job import go

from hybridattn.data import split as texts
from hybridattn.data.pieces import cut_documents
from hybridattn.errors import ConfigError, DataError, LockedError, PlanError
from hybridattn.locks import locked
from hybridattn.pipeline import estimate
from hybridattn.pipeline.recipe import Recipe
from hybridattn.pipeline.recipe_parts import DEMO
from hybridattn.pipeline.stages import build

QWEN3_5 = str(Path(__file__).parents[1] / "golden" / "families" / "qwen3_5")


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"plan": {"softmax_layers": 3}}, PlanError, "plan.softmax_layers is 3; allowed: 1 to 2"),
        ({"evaluate": {"tokens": 512, "lengths": [512]}}, ConfigError, "evaluate.lengths needs 512"),
        ({"samples": {"tokens": 400}}, ConfigError, "samples needs 40"),
        ({"samples": {"prompt": ""}}, ConfigError, "samples.prompt is empty"),
        ({"tasks": {"recall": ["needle"]}}, ConfigError, "tasks.seq_len needs 512 positions"),
        ({"distill": {"lr_mixers": math.nan}}, ConfigError, "distill.lr_mixers is nan"),
        ({"seed": -1}, ConfigError, "seed is -1"),
        ({"mixer": {"kind": "window_lineal"}}, ConfigError, "recipe: mixer: "),
        ({"mixer": {"windows": 8}}, ConfigError, "recipe: mixer: "),
        ({"text": {"train": "no.txt"}}, DataError, "text.train 'no.txt' does not exist"),
        ({"text": {"heldout": "no.txt"}}, DataError, "text.heldout 'no.txt' does not exist"),
        ({"teacher": {"model": "no/such"}}, ValueError, "no/such"),
        ({"teacher": {"model": QWEN3_5}}, ConfigError, "teacher.model is 'qwen3_5, linear in layers [0]'"),
    ],
)
def test_refused_at_the_start(inputs, tmp_path, changes, error, message):
    with pytest.raises(error) as caught:
        go(inputs, tmp_path, **changes)
    assert message in str(caught.value)
    assert not (tmp_path / "probe").exists()


def test_too_little_text(inputs, tmp_path):
    (tmp_path / "short.txt").write_text("Not much.")
    with pytest.raises(DataError, match=r"short\.txt has 9 characters, too few"):
        go(inputs, tmp_path / "out", text={"train": str(tmp_path / "short.txt")})


def test_regions_do_not_overlap(inputs):
    regions = texts.Texts(Path(inputs["text"]["train"])).regions
    assert all(regions.values())
    whole = Path(inputs["text"]["train"]).read_text(encoding="utf-8")
    pieces = cut_documents([whole])
    assert sum(map(len, regions.values())) == len(pieces)
    assert "".join(pieces) == whole


def test_the_training_text_is_not_held_out(inputs, tmp_path):
    train = Path(inputs["text"]["train"])
    shutil.copy(train, tmp_path / "copy.txt")
    for same in (train, tmp_path / "copy.txt"):
        with pytest.raises(DataError, match="is the training text; give another one"):
            go(inputs, tmp_path / "out", text={"heldout": str(same)})


@pytest.mark.parametrize("name", ["wikipedia", "articles"])
def test_a_built_in_text_can_be_held_out(inputs, first, tmp_path, monkeypatch, name):
    for part in ("", "-heldout"):
        path = tmp_path / "cache" / name / f"{name}{part}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"text": f"Other words{part}. {tiny.TEXT[::-1]}"}) + "\n"
        path.write_text(line, encoding="utf-8")
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path / "cache"))
    shutil.copytree(first[0], tmp_path / "out")
    results, ran = go(inputs, tmp_path / "out", text={"heldout": name})
    fetched = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert fetched["models"] == results["models"] and "evaluate/before/teacher" in ran
    assert texts.locate(name, "text.heldout", heldout=True).name == f"{name}-heldout.jsonl"


def test_an_all_linear_model_can_be_distilled(inputs, first, tmp_path):
    shutil.copytree(first[0], tmp_path / "out")
    go(inputs, tmp_path / "out")
    models = ["chosen", "uniform", "random", "all-linear"]
    results, ran = go(inputs, tmp_path / "out", distill={"models": models})
    assert ran[:2] == ["distill/all-linear", "evaluate/after/all-linear"]
    assert next(m for m in results["models"] if m["id"] == "all-linear")["after"]["32"]["kl"] > 0


def test_one_run_at_a_time(inputs, tmp_path):
    with locked(tmp_path / ".hybridattn-lock"), pytest.raises(LockedError, match=f"process {os.getpid()}"):
        go(inputs, tmp_path)


def test_the_estimate_adds_up():
    stages = build(Recipe.from_dict(DEMO), 30)
    results = {"teacher": {"forward_tokens_per_second": 700.0}}
    lines = estimate.table(stages, {"align"}, results)
    assert lines[1].split() == ["align", "done"]
    whole = estimate.seconds(stages, results)
    assert 300 < whole < 900  # the demo stays under 15 minutes on two cores
    assert estimate.seconds(stages, {}) == 0
