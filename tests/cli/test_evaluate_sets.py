"""`hybridattn evaluate` on GLUE and SQuAD: scores, predictions, and what they need."""

import json
import sys

import pytest
from command import call

from hybridattn import choices, glue, squad
from hybridattn.cli import evaluate_sets
from hybridattn.errors import DataError


def test_glue_and_squad(capsys, folder, tmp_path):
    """Scores, a comparison with a teacher, predictions; a model compared with itself differs in nothing."""
    pytest.importorskip("sklearn")
    head, rows = "index\tsentence1\tsentence2\tlabel", ["It rains.\tIt is wet.", "A cat.\tNo cat."] * 3
    lines = [f"{i}\t{row}\t{('not_' * (i % 2))}entailment" for i, row in enumerate(rows)]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("\n".join([head, *lines]) + "\n")
    (tmp_path / "test.tsv").write_text("index\tsentence1\tsentence2\n9\tA.\tB.\n")
    models = [folder / "teacher", "--teacher", folder / "teacher"]
    code, out, _ = call(capsys, "evaluate", *models, "--glue", "rte", "--data", tmp_path, "--limit", 5,
                        "--predictions", tmp_path / "out", "--json")  # fmt: skip
    found = json.loads(out)
    assert code == 0 and found["examples"] == 5 and found["accuracy"] in {i / 5 for i in range(6)}
    assert found["accuracy_difference"] == 0.0 and found["accuracy_difference_interval"] == [0.0, 0.0]
    written = json.loads((tmp_path / "out" / "RTE.json").read_text())
    assert len(written["predictions"][0]["choice_scores"]) == 2 and written["settings"]["set"] == "RTE"
    assert (tmp_path / "out" / "RTE.tsv").read_text().startswith("index\tprediction\n0\t")
    size = ["--glue", "RTE", "--data", tmp_path]
    code, out, _ = call(capsys, "evaluate", folder / "teacher", *size, "--shots", 2, "--normalize", "bytes")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["examples", "accuracy"]
    code, out, _ = call(
        capsys, "evaluate", folder / "teacher", *size, "--split", "test", "--predictions", tmp_path
    )
    assert code == 0 and "accuracy" not in out and (tmp_path / "RTE.tsv").read_text().count("\n") == 2
    qas = [
        {"id": str(i), "question": "Who?", "answers": [{"text": "Bob", "answer_start": 0}]} for i in range(4)
    ]
    paragraph = {"context": "Bob sat.", "qas": qas}
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    size = ["--squad", tmp_path / "dev.json", "--limit", 3, "--predictions", tmp_path / "out"]
    code, out, _ = call(capsys, "evaluate", *models, *size, "--shots", 1, "--json")
    found = json.loads(out)
    assert code == 0 and found["f1_difference"] == 0.0 and found["total"] == 3
    assert set(json.loads((tmp_path / "out" / "dev.predictions.json").read_text())) == {"0", "1", "2"}
    code, _, err = call(capsys, "evaluate", folder / "teacher", *size, "--shots", 2)
    assert code == 2 and "--limit leaves 1 other questions" in err and err.count("\n") == 1


@pytest.fixture
def sets(tmp_path):
    """What `evaluate` needs for six examples of RTE, and for four of SQuAD."""
    lines = [f"{i}\tIt rains {i}.\tIt is wet.\t{('not_' * (i % 2))}entailment" for i in range(6)]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text(
            "\n".join(["index\tsentence1\tsentence2\tlabel", *lines]) + "\n"
        )
    gold = {"text": "Bob", "answer_start": 0}
    qas = [{"id": str(i), "question": "Who?", "answers": [gold]} for i in range(4)]
    paragraphs = [{"context": "Bob sat.", "qas": qas}]
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return {"glue": ["--glue", "RTE", "--data", tmp_path], "squad": ["--squad", tmp_path / "dev.json"]}


def test_shots_do_not_show_the_answers_that_are_asked(capsys, folder, sets, monkeypatch):
    pytest.importorskip("sklearn")
    pools = []
    real = choices.draw
    monkeypatch.setattr(choices, "draw", lambda n, pool, seed: pools.append(pool) or real(n, pool, seed))
    size = [folder / "teacher", *sets["glue"], "--split", "train"]
    assert call(capsys, "evaluate", *size, "--limit", 4, "--shots", 2)[0] == 0
    assert [e.id for e in pools[0].examples] == ["4", "5"]
    for limit, left in ((["--limit", 5], 1), ([], 0)):
        code, _, err = call(capsys, "evaluate", *size, *limit, "--shots", 2)
        assert code == 2 and f"--limit leaves {left} other questions" in err and err.count("\n") == 1


@pytest.mark.parametrize("kind", ["glue", "squad"])
def test_predictions_are_kept_when_scoring_fails(capsys, folder, sets, kind, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")

    def fail(*args, **options):
        raise DataError("no scores today")

    monkeypatch.setattr({"glue": glue, "squad": squad}[kind], "evaluate", fail)
    out = tmp_path / "out"
    code, _, err = call(
        capsys, "evaluate", folder / "teacher", *sets[kind], "--limit", 2, "--predictions", out
    )
    assert (code, err) == (1, "error: no scores today\n")
    sheet = json.loads((out / {"glue": "RTE.json", "squad": "dev.json"}[kind]).read_text())
    assert len(sheet["predictions"]) == 2 and sheet["scores"] == {}


def test_what_metrics_need_is_looked_for_before_the_model(capsys, sets, monkeypatch):
    for name in ("sklearn", "sklearn.metrics"):
        monkeypatch.setitem(sys.modules, name, None)
    code, _, err = call(capsys, "evaluate", "no/such/model", *sets["glue"])
    assert code == 1 and "pip install hybridattn[eval]" in err and err.count("\n") == 1
    (sets["glue"][-1] / "test.tsv").write_text("index\tsentence1\tsentence2\n9\tA.\tB.\n")
    code, _, err = call(capsys, "evaluate", "no/such/model", *sets["glue"], "--split", "test")
    assert "model is 'no/such/model'" in err  # without labels there is nothing to score


@pytest.mark.parametrize("kind", ["glue", "squad"])
def test_a_set_is_asked_of_the_model_in_the_type_that_was_named(capsys, folder, sets, kind, monkeypatch):
    pytest.importorskip("sklearn")
    loaded, real = [], evaluate_sets.load_model
    monkeypatch.setattr(evaluate_sets, "load_model", lambda *a: loaded.append(real(*a)) or loaded[-1])
    size = ["--limit", 2, "--dtype", "bfloat16"]
    assert call(capsys, "evaluate", folder / "teacher", *sets[kind], *size)[0] == 0
    assert loaded[0].stored()["embed.weight"][0] == "bfloat16"
