"""`run` with GLUE, SQuAD and recall at its end."""

import json
from pathlib import Path

import pytest
from job import go

from hybridattn.errors import HybridAttnError

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
    from hybridattn.report.answers import section

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
