"""`run`: the whole job on a tiny model, what it skips, what a change runs again, going on after a stop."""

import dataclasses
import json
import math
import os
import shutil
import time
from pathlib import Path

import pytest
import tiny

from hybridattn import pipeline
from hybridattn.data import split as texts
from hybridattn.errors import ConfigError, DataError, HybridAttnError, LockedError, PlanError
from hybridattn.files import file_digest
from hybridattn.locks import locked
from hybridattn.pipeline import estimate, work
from hybridattn.pipeline import stages as stages_module
from hybridattn.pipeline.recipe import Recipe
from hybridattn.pipeline.recipe_parts import DEMO
from hybridattn.pipeline.recipe_toml import merge
from hybridattn.pipeline.stages import build
from hybridattn.pipeline.store import PROGRESS, Store, fingerprint
from hybridattn.select import SELECTORS

SMALL = {
    "mixer": {"window": 8},
    "align": {"tokens": 512, "seq_len": 32, "batch_size": 2},
    "score": {"methods": ["kl_replace", "kl_gate"], "text": "mix", "tokens": 128, "seq_len": 32},
    "plan": {"softmax_layers": 1, "method": "kl_replace", "random_seeds": 2},
    "distill": {"tokens": 256, "seq_len": 32, "batch_size": 2, "models": ["chosen", "uniform", "random"]},
    "evaluate": {"tokens": 256, "lengths": [32, 64]},
    "measure": {"lengths": [16, 32], "decode_tokens": 2, "repeats": 1},
    "samples": {"prompt": "The mill", "tokens": 6},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, one_thread):
    folder = tmp_path_factory.mktemp("inputs")
    tiny.teacher(layers=3).save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text("\n\n".join([tiny.TEXT] * 10), encoding="utf-8")
    return {"teacher": {"model": str(folder / "teacher")}, "text": {"train": str(folder / "text.txt")}}


@pytest.fixture(autouse=True)
def no_charts(monkeypatch):
    monkeypatch.setattr("hybridattn.report.plots.available", lambda: False)  # they have tests of their own


def go(inputs, out, **changes):
    """(results, names of the stages that ran) of a run."""
    lines = []
    recipe = Recipe.from_dict(merge(merge(inputs, SMALL), changes))
    paths = pipeline.run(recipe, out, lines.append, progress=False)
    ran = [line.split()[1].rstrip(":") for line in lines if line.startswith("[") and ": done in" in line]
    return json.loads(paths["json"].read_text(encoding="utf-8")), ran


def without_times(results):
    """The parts of the results that a second run must repeat exactly."""
    models = [{k: v for k, v in m.items() if k not in ("prefill", "decode")} for m in results["models"]]
    scores = [{k: v for k, v in s.items() if k != "seconds"} for s in results["scores"]]
    return models, scores, results["curves"], results["chosen"]


@pytest.fixture(scope="module")
def first(inputs, tmp_path_factory):
    """A finished run: (folder, results, stages that ran)."""
    out = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridattn.report.plots.available", lambda: False)
        return (out, *go(inputs, out))


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


SST2 = [("a fine film", 1), ("dull and slow", 0), ("the cat sat", 1), ("no", 0), ("good fun", 1), ("bad", 0)]
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Mill",
            "paragraphs": [
                {
                    "context": "The mill stood by the river.",
                    "qas": [
                        {
                            "id": f"q{i}",
                            "question": question,
                            "answers": [{"text": answer, "answer_start": start}],
                        }
                        for i, (question, answer, start) in enumerate(
                            [("What stood there?", "The mill", 0), ("Where?", "by the river", 15)]
                        )
                    ],
                }
            ],
        }
    ],
}


@pytest.fixture
def asked(tmp_path):
    """Tasks of a recipe, of files in a folder."""
    (tmp_path / "glue" / "SST-2").mkdir(parents=True)
    rows = "".join(f"{text}\t{label}\n" for text, label in SST2)
    (tmp_path / "glue" / "SST-2" / "dev.tsv").write_text("sentence\tlabel\n" + rows, encoding="utf-8")
    (tmp_path / "mills.json").write_text(json.dumps(SQUAD), encoding="utf-8")
    return {
        "glue": ["SST-2"],
        "glue_data": str(tmp_path / "glue"),
        "squad": [str(tmp_path / "mills.json")],
        "recall": ["associative_recall"],
        "examples": 5,
        "prompts": 2,
        "seq_len": 128,
    }


def test_tasks_and_a_diagnostic_baseline_end_the_run(inputs, asked, tmp_path):
    from hybridattn import Model, choices, glue

    out = tmp_path / "out"
    plan, score = {"diagnostic": "associative_recall", "random_seeds": 1}, {"tokens": 256, "seq_len": 128}
    distill = {"models": ["chosen", "uniform", "diagnostic"]}
    results, ran = go(inputs, out, tasks=asked, plan=plan, score=score, distill=distill)
    names = ["teacher", "all-linear", "uniform", "random-0", "diagnostic", "chosen"]
    assert [name for name in ran if name.startswith("tasks/")] == [f"tasks/{name}" for name in names]
    assert {"score/diagnostic:associative_recall", "distill/diagnostic"} <= set(ran)
    by_id = {m["id"]: m for m in results["models"]}
    scores = json.loads((out / "scores" / "diagnostic:associative_recall.json").read_text())
    assert by_id["diagnostic"]["softmax_layers"] == [max(range(3), key=scores["values"].__getitem__)]
    assert by_id["diagnostic"]["after"] and by_id["diagnostic"]["tasks"]["when"] == "after"
    assert by_id["all-linear"]["parameters"] > by_id["chosen"]["parameters"] > by_id["teacher"]["parameters"]
    # the same as asking the saved model
    split = glue.read("SST-2", asked["glue_data"])
    split = glue.Split(split.task, "validation", choices.draw_some(split.examples, 5, 0))
    model = Model.from_pretrained(out / "models" / "chosen")
    got = choices.classify(model, split, glue.PROMPTS["SST-2"]).predictions
    want = glue.evaluate(split.task, got, split.labels, resamples=0)["accuracy"]
    mine = by_id["chosen"]["tasks"]
    assert mine["glue"]["SST-2"]["accuracy"] == mine["average"]["score"] == pytest.approx(want)
    assert "predictions" not in mine["glue"]["SST-2"] and "answers" not in mine["squad"]["mills"]
    assert mine["squad"]["mills"]["total"] == 2 and "f1_difference_interval" in mine["squad"]["mills"]
    written = json.loads((out / "tasks" / "chosen" / "SST-2.json").read_text())["predictions"]
    assert [row["prediction"] for row in written] == got
    assert (out / "tasks" / "teacher" / "mills.predictions.json").exists()
    page = (out / "report.md").read_text(encoding="utf-8")
    assert "What they can still do" in page and "| diagnostic |" in page and "mills EM" in page
    # another file of examples asks again, and only that
    path = tmp_path / "glue" / "SST-2" / "dev.tsv"
    path.write_text(path.read_text().replace("\t1\n", " indeed\t1\n"), encoding="utf-8")
    _, ran = go(inputs, out, tasks=asked, plan=plan, score=score, distill=distill)
    assert ran == [f"tasks/{name}" for name in names]


def test_a_score_that_is_no_number_does_not_stop_the_report(inputs, tmp_path):
    """A correlation of predictions with equal ratings is not defined."""
    from hybridattn.report.tasks import section

    (tmp_path / "STS-B").mkdir()
    rows = "".join(f"A mill\tA river {i}\t2.5\n" for i in range(3))
    (tmp_path / "STS-B" / "dev.tsv").write_text("sentence1\tsentence2\tscore\n" + rows, encoding="utf-8")
    results, _ = go(inputs, tmp_path / "out", tasks={"glue": ["STS-B"], "glue_data": str(tmp_path)})
    asked = results["models"][-1]["tasks"]
    assert asked["glue"]["STS-B"]["score"] is None and asked["average"]["score"] is None
    table = section(results)[1]
    assert table.rows[-1][table.header.index("GLUE-style")] == "–"


@pytest.mark.parametrize("change, message", [
    ({"tasks": {"glue": ["SST2x"]}}, "tasks.glue holds 'SST2x'; allowed: boolq, .*, CoLA"),
    ({"tasks": {"glue": ["SST-2"]}}, "tasks.glue_data is empty; SST-2 needs the folder of GLUE's files"),
    ({"tasks": {"glue": ["boolq/test"]}}, "tasks.glue holds 'boolq/test'; allowed: train or validation"),
    ({"tasks": {"glue": ["RTE"], "glue_data": "nowhere"}}, "no such file; allowed: a folder with GLUE's"),
    (
        {"tasks": {"squad": ["nowhere.json"]}},
        "squad holds 'nowhere.json', no such file; allowed: a file, disfl",
    ),
    ({"tasks": {"squad": ["a/mills.json", "b/mills.json"]}}, "squad holds 'b/mills.json', another mills"),
    ({"tasks": {"recall": ["memory"]}}, "tasks.recall holds 'memory'; allowed: associative_recall"),
    ({"plan": {"diagnostic": "memory"}}, "plan.diagnostic is 'memory'; allowed: associative_recall"),
    ({"measure": {"dtype": "q9"}}, "q9"),
])  # fmt: skip
def test_tasks_that_cannot_be_are_refused_before_any_work(inputs, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "mills.json").write_text(json.dumps(SQUAD), encoding="utf-8")
    with pytest.raises(HybridAttnError, match=message):
        go(inputs, tmp_path / "out", **change)
    assert not (tmp_path / "out" / "probe").exists()


def test_a_second_run_skips_everything(first, inputs):
    out, results, _ = first
    again, ran = go(inputs, out)
    assert ran == [] and without_times(again) == without_times(results)
    assert again["models"] == results["models"]  # timings too: nothing was measured again


def test_a_change_runs_what_depends_on_it_and_no_more(first, inputs):
    out, results, _ = first
    _, ran = go(inputs, out, samples={"tokens": 7})
    assert ran == [f"sample/{m}" for m in ("teacher", "all-linear", "uniform", "random-0", "chosen")]
    _, ran = go(inputs, out, samples={"tokens": 7}, evaluate={"tokens": 320})
    assert len(ran) == 6 + 3 and {name.split("/")[0] for name in ran} == {"evaluate"}
    _, ran = go(inputs, out, samples={"tokens": 7}, evaluate={"tokens": 320}, distill={"lr_rest": 2e-5})
    assert {name.split("/")[0] for name in ran} == {"distill", "evaluate", "sample"} and len(ran) == 3 + 3 + 3
    # one baseline less: nothing to do at all
    _, ran = go(
        inputs,
        out,
        samples={"tokens": 7},
        evaluate={"tokens": 320},
        distill={"lr_rest": 2e-5, "models": ["chosen", "uniform"]},
        plan={"random_seeds": 1},
    )
    assert ran == ["plan", "sample/random-0"]  # its last state is now the one before distillation
    changed, ran = go(inputs, out, align={"tokens": 640})
    assert ran[0] == "align" and {"score/kl_gate", "distill/chosen", "sample/teacher"} <= set(ran)
    assert "evaluate/before/teacher" in ran  # its record was made with other evaluation tokens
    assert "measure/teacher" not in ran
    assert changed["curves"]["align"]["tokens"][-1] == 640
    back, _ = go(inputs, out)  # the first recipe again: the same numbers
    assert without_times(back) == without_times(results)


def test_another_size_of_the_set(inputs, tmp_path):
    """Scores are not read again, and the report's table is that of the new size."""
    go(inputs, tmp_path, distill={"tokens": 0})
    results, ran = go(inputs, tmp_path, distill={"tokens": 0}, plan={"softmax_layers": 2})
    assert not [name for name in ran if name.startswith("score/")]
    fresh, _ = go(inputs, tmp_path / "fresh", distill={"tokens": 0}, plan={"softmax_layers": 2})
    assert without_times(results)[1] == without_times(fresh)[1]
    assert [len(s["layers"]) for s in results["scores"]] == [2, 2]


@pytest.mark.parametrize(
    "change",
    [{"score": {"tokens": 64}}, {"distill": {"seq_len": 64}}, {"distill": {"tokens": 512}}, {"seed": 1}],
)
def test_candidates_of_another_text_are_made_anew(inputs, tmp_path, change):
    base = {"score": {"methods": ["kl_restore_distilled"]}, "plan": {"method": "kl_restore_distilled"}}
    go(inputs, tmp_path, **base, distill={"models": ["chosen"]})
    changed = merge(merge(base, {"distill": {"models": ["chosen"]}}), change)
    results, ran = go(inputs, tmp_path, **changed)
    assert "score/kl_restore_distilled" in ran
    fresh, _ = go(inputs, tmp_path / "fresh", **changed)
    assert without_times(results)[1] == without_times(fresh)[1]


def test_other_heldout_text_is_only_evaluated_on(inputs, tmp_path):
    go(inputs, tmp_path)
    (tmp_path / "held.txt").write_text("\n\n".join([tiny.TEXT[::-1]] * 4), encoding="utf-8")
    _, ran = go(inputs, tmp_path, text={"heldout": str(tmp_path / "held.txt")})
    assert ran and {name.split("/")[0] for name in ran} == {"evaluate"}


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


@pytest.mark.parametrize("method, says, never", [
    ("mse", "share of the softmax output's, read on a mix of plain text", "baseline"),
    ("uniform", "`uniform`, even distances: softmax stays in layer", "read on plain"),
    ("random", "`random`, a seeded draw: softmax stays in layer", "highest scores"),
    ("diagnostic:needle", "the answers' negative log-likelihood", "baseline"),
])  # fmt: skip
def test_the_report_says_what_chose(inputs, tmp_path, method, says, never):
    changes = {"score": {"methods": [method], "tokens": 256, "seq_len": 128}, "plan": {"method": method}}
    go(inputs, tmp_path, **changes, distill={"tokens": 0})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    layers = text[text.index("Which layers stay softmax") :].split("\n\n")[1]
    assert says in " ".join(layers.split()) and never not in layers
    assert "KL-chosen" not in text


def test_windows_are_held_against_those_trained_on(inputs, tmp_path):
    """Nothing was distilled, and step 1 read windows of 64."""
    go(inputs, tmp_path, distill={"tokens": 0}, align={"seq_len": 64}, evaluate={"lengths": [16, 32, 128]})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "32 tokens at a time (shorter than the windows of step 1)" in text
    assert "128 tokens at a time (longer than the windows of step 1)" in text
    assert "windows of step 2" not in text


def test_time_of_a_stage_that_was_interrupted_counts(inputs, tmp_path, monkeypatch):
    original, calls = work.align, []

    def slowly(job):
        calls.append(1)
        time.sleep(0.5)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(job)

    monkeypatch.setattr(work, "align", slowly)
    with pytest.raises(KeyboardInterrupt):
        go(inputs, tmp_path)
    go(inputs, tmp_path)
    assert json.loads((tmp_path / "stages" / "align.json").read_text())["seconds"] > 1.0
    assert not (tmp_path / PROGRESS).exists()


def test_the_report_counts_whole_steps(inputs, tmp_path):
    results, _ = go(inputs, tmp_path, align={"tokens": 540}, distill={"tokens": 300, "models": ["chosen"]})
    read = {stage["name"]: stage["tokens"] for stage in results["made"]["stages"]}
    assert read["align"] == results["curves"]["align"]["tokens"][-1] == 512
    assert read["distill/chosen"] == results["curves"]["distill"]["chosen"]["tokens"][-1] == 256


def test_a_lost_file_is_made_again(inputs, first, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(first[0], out)
    go(inputs, out)
    shutil.rmtree(out / "models" / "uniform")
    _, ran = go(inputs, out)
    assert ran == ["distill/uniform"]
    (out / "models" / "chosen" / "model.safetensors").unlink()
    (out / "probe" / "model.safetensors").unlink()
    _, ran = go(inputs, out)
    assert ran == ["align", "distill/chosen"]
    (out / "stages" / "plan.json").write_text("{ half a rec")
    assert go(inputs, out)[1] == ["plan"]


@pytest.mark.parametrize("at", ["align", "score", "plan", "evaluate", "distill", "measure", "sample"])
def test_a_stop_between_stages(inputs, first, tmp_path, monkeypatch, at):
    calls = []
    real = getattr(work, at)

    def stop(*args):
        calls.append(at)
        if len(calls) == (1 if at in ("align", "plan") else 2):
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(work, at, stop)
        with pytest.raises(KeyboardInterrupt):
            go(inputs, tmp_path)
    before = {path.stem for path in (tmp_path / "stages").glob("*.json")}
    results, ran = go(inputs, tmp_path)
    assert not before & {name.replace("/", "-") for name in ran}  # what was done is not done again
    assert without_times(results) == without_times(first[1])


@pytest.fixture(scope="module")
def tuned(inputs, first, tmp_path_factory):
    """The results of a run with step 3."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    shutil.copytree(first[0], out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridattn.report.plots.available", lambda: False)
        return go(inputs, out, distill={"finetune_tokens": 256})[0]


@pytest.mark.parametrize("step", ["align", "distill", "finetune"])
def test_a_stop_within_training(inputs, tuned, tmp_path, monkeypatch, step):
    """Ctrl-C in the middle of a step: the checkpoint is taken up, and the end is the same."""
    from hybridattn.radlads import loop as training

    real, calls = training._Trainer._slice, []

    def stop(self, distiller, start, end):
        if self.training.label == step:
            calls.append(start)
            if start >= 2:
                raise KeyboardInterrupt
        real(self, distiller, start, min(end, start + 2))

    with monkeypatch.context() as patch:
        patch.setattr(training._Trainer, "_slice", stop)
        with pytest.raises(KeyboardInterrupt):
            go(inputs, tmp_path, distill={"finetune_tokens": 256})
    assert list((tmp_path / PROGRESS).iterdir())
    starts = []

    def watch(self, distiller, start, end):
        starts.append((self.training.label, start))
        real(self, distiller, start, end)

    monkeypatch.setattr(training._Trainer, "_slice", watch)
    results, ran = go(inputs, tmp_path, distill={"finetune_tokens": 256})
    assert ran[0] == ("align" if step == "align" else "distill/chosen")
    assert starts[0] == (step, calls[-1]) and calls[-1] > 0
    assert without_times(results) == without_times(tuned)


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
    pieces = texts.cut_documents([whole])
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


def test_speed_is_measured_again_on_another_machine(inputs, first, tmp_path, monkeypatch):
    shutil.copytree(first[0], tmp_path / "out")
    go(inputs, tmp_path / "out")
    monkeypatch.setattr(stages_module, "machine", lambda: {"processor": "another"})
    ran = go(inputs, tmp_path / "out")[1]
    assert len(ran) == 5 and {name.split("/")[0] for name in ran} == {"measure"}


def test_another_version_runs_everything_again(monkeypatch):
    one = fingerprint("a", 1)
    monkeypatch.setattr("hybridattn.pipeline.store.__version__", "0.0.9")
    assert fingerprint("a", 1) != one


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


def test_digests(tmp_path):
    one = fingerprint("a", {"x": 1, "y": [2]})
    assert one == fingerprint("a", {"y": [2], "x": 1}) != fingerprint("b", {"x": 1, "y": [2]})
    file = tmp_path / "f"
    file.write_bytes(b"a" * (5 << 20))
    one = file_digest(file)
    for at in (0, 2_500_000, (5 << 20) - 1):  # the middle counts as the ends do
        with file.open("r+b") as stream:
            stream.seek(at)
            stream.write(b"b")
        assert file_digest(file) != one
        one = file_digest(file)
    assert file_digest(tmp_path) != file_digest(file)


def test_checkpoints_of_other_inputs_are_dropped(tmp_path):
    store = Store(tmp_path)
    old = store.checkpoint("distill/uniform", "aaa")
    old.mkdir()
    part = store.checkpoint("distill/uniform", "aaa", "finetune")
    part.mkdir()
    assert store.checkpoint("distill/uniform", "aaa") == old and old.exists() and part.exists()
    store.checkpoint("distill/uniform", "bbb")
    assert not old.exists() and not part.exists()
