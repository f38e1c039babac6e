"""Rows of text and of conversations: from files of any kind, from `datasets`, with loss on the answers."""

from __future__ import annotations

import gzip
import itertools
import json
import logging

import numpy as np
import pytest
import tiny
from test_chat_turns import FAMILIES, tokenizer

import hybridattn as ha
from hybridattn.data import text_files
from hybridattn.data.rows import encode_conversation
from hybridattn.errors import DataError

pytestmark = pytest.mark.usefixtures("one_thread")
TALK = [
    {"role": "user", "content": "one?"},
    {"role": "assistant", "content": "the moon"},
    {"role": "user", "content": "two?"},
    {"role": "assistant", "content": "a mill"},
]
ROWS = [
    {"text": "the moon is a stone"},
    {"messages": TALK},
    {"text": " "},
    {"messages": []},
    {"text": "a mill"},
]
MARKS = "headers and trims"
# Templates that count the messages before them, put thoughts into the generation prompt alone, or end the
# last message otherwise: of these it cannot be told what an answer is.
CHANGING = ("numbered, with a date and json", "a namespace and last answers", "plain words")


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def parquet(path, columns):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(ROWS))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(lines(ROWS))
    parquet(tmp_path / "c.parquet", {
        "text": [row.get("text") for row in ROWS], "messages": [row.get("messages") for row in ROWS],
        "other": [1, 2, 3, 4, 5],
    })  # fmt: skip
    return tmp_path


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl.gz", "c.parquet"])
def test_every_kind_of_file_gives_the_same(files, name, caplog):
    made = tokenizer(MARKS)
    written = made.apply_chat_template(TALK, add_generation_prompt=False)
    with caplog.at_level(logging.WARNING, "hybridattn"):
        assert ha.load_text(files / name, made) == [ROWS[0]["text"], written, "a mill"]
    assert f"{name}: 2 empty rows are left out" in caplog.text
    with pytest.raises(DataError, match="holds messages; allowed where no tokenizer is given: text"):
        ha.load_text(files / name)
    data = ha.TokenData.from_rows(text_files.rows(files / name), made, 16)
    want = [made.encode(text, add_special_tokens=False) for text in (ROWS[0]["text"], written, "a mill")]
    eos = [made.eos_token_id]
    assert data.tokens.tolist() == want[0] + eos + want[1] + eos + want[2]


def test_rows_of_datasets():
    datasets = pytest.importorskip("datasets")
    made = tokenizer(MARKS)
    rows = datasets.Dataset.from_list([{"text": "the moon"}, {"text": ""}, {"text": "a mill has a wheel"}])
    data = ha.TokenData.from_rows(rows, made, 8)
    same = ha.TokenData.from_text(["the moon", "a mill has a wheel"], made, 8, label="rows")
    assert data == same
    talk = datasets.Dataset.from_list([{"messages": TALK}])
    assert ha.TokenData.from_rows(talk, made, 8) == ha.TokenData.from_rows([{"messages": TALK}], made, 8)


def test_reading_stops_when_there_is_enough(tmp_path):
    """An endless source, and a file of which the end is no JSON."""
    made = tokenizer(MARKS)
    data = ha.TokenData.from_rows(({"text": "the moon"} for _ in itertools.count()), made, 16, 64)
    assert len(data.tokens) == 64 and len(data) == 4
    (tmp_path / "long.jsonl").write_text(lines([{"text": "the moon is a stone " * 20}] * 3) + "{broken\n")
    assert len(ha.TokenData.from_rows(text_files.rows(tmp_path / "long.jsonl"), made, 16, 64)) == 4
    with pytest.raises(DataError, match=r"long\.jsonl:4"):
        ha.TokenData.from_rows(text_files.rows(tmp_path / "long.jsonl"), made, 16)


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_on_the_answers(name):
    """What counts is what the assistant says, and the mark that ends it."""
    made = tokenizer(name)
    if name in CHANGING:
        with pytest.raises(DataError, match="message 1: the chat template changes what went before"):
            encode_conversation(made, TALK, answers_only=True)
        return
    ids, weights = encode_conversation(made, TALK, answers_only=True)
    assert ids == encode_conversation(made, TALK)[0] and encode_conversation(made, TALK)[1].all()
    said = made.decode([i for i, w in zip(ids, weights, strict=True) if w], skip_special_tokens=False)
    assert "the moon" in said and "a mill" in said and "?" not in said and "user" not in said
    end = {"brackets, system inside the first turn": "</s>", MARKS: "<|eot|>"}.get(name, "")
    assert said.count(end) >= 2 * bool(end)


def test_answers_train_and_score():
    made = tokenizer(MARKS)
    teacher = tiny.teacher(vocab_size=400, eos_token_id=made.eos_token_id)
    data = ha.TokenData.from_rows([{"messages": TALK}] * 6, made, 24, answers_only=True)
    assert data.weights is not None and 0 < data.weights.mean() < 0.7
    assert all(data.weights[start + 1 : stop].any() for start, stop in data.windows)
    hybrid = teacher.to_probe({"kind": "gla"}, seed=1).to_hybrid([0])
    losses = ha.distill(hybrid, teacher, data, 12, 2, lr_mixers=1e-3, progress=False).curve
    assert losses[-1] < losses[0]
    probe = teacher.to_probe({"kind": "gla"})
    assert np.isfinite(ha.score(probe, data, "kl_replace", progress=False).values).all()


@pytest.mark.parametrize(
    ("row", "answers", "message"),
    [
        (3, False, "row 1: is 3; allowed: a text, or an object with text or messages"),
        ({"body": "x"}, False, "row 1: is an object with body; allowed"),
        ({"text": 3}, False, "row 1: is an object with text; allowed"),
        ({"text": "x"}, True, "row 1: holds no messages; allowed with answers_only: a conversation"),
        (
            {"messages": [{"role": "assistant", "content": "x"}]},
            True,
            "row 1: the first message is an assist",
        ),
        ({"messages": ["x"]}, False, "row 1: messages is .* allowed: one or more objects"),
    ],
)
def test_bad_rows_are_named(row, answers, message):
    with pytest.raises(DataError, match=message):
        ha.TokenData.from_rows([{"messages": TALK}, row], tokenizer(MARKS), 8, answers_only=answers)


def test_empty_rows_alone():
    made = tokenizer(MARKS)
    for rows in ([], [None, "", {"text": None}, {"messages": []}]):
        with pytest.raises(DataError, match="the rows have 0 tokens"):
            ha.TokenData.from_rows(rows, made, 8)
    with pytest.raises(DataError, match="no window of 4 tokens holds an answer"):
        talk = [{"role": "user", "content": "one? " * 20}, TALK[1]]
        ha.TokenData.from_rows([{"messages": talk}], made, 4, 16, answers_only=True)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        (
            "a.jsonl",
            lambda p: p.write_text('{"body": 1}\n'),
            r'a\.jsonl:1: no string in field "text" and no list',
        ),
        ("a.parquet", lambda p: p.write_bytes(b"PAR1 nothing"), r"a\.parquet: no Parquet file"),
        ("a.parquet", lambda p: parquet(p, {"body": ["x"]}), r'columns are body; allowed: one called "text"'),
        ("a.parquet", lambda p: parquet(p, {"text": [None, " "]}), r"a\.parquet: holds no text"),
        ("a.csv", lambda p: p.write_text("x"), r"suffix is '\.csv'; allowed: \.txt, .*\.parquet"),
    ],
)
def test_bad_files_are_named(tmp_path, name, write, message):
    pytest.importorskip("pyarrow")
    write(tmp_path / name)
    with pytest.raises(DataError, match=message):
        ha.load_text(tmp_path / name)


def test_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.lib", None)
    with pytest.raises(DataError, match="Parquet needs pyarrow: pip install pyarrow"):
        ha.load_text(tmp_path / "a.parquet")


def test_the_command_line_reads_conversations(tmp_path, capsys):
    from hybridattn.cli.main import main

    made = tokenizer(MARKS)
    teacher = tiny.teacher(vocab_size=400, eos_token_id=made.eos_token_id)
    teacher.tokenizer = made
    teacher.save_pretrained(tmp_path / "teacher")
    (tmp_path / "talk.jsonl").write_text(lines([{"messages": TALK}] * 60))
    paths = ["--text", str(tmp_path / "talk.jsonl"), "--out", str(tmp_path / "probe")]
    size = ["--tokens", "256", "--seq-len", "32", "--batch-size", "4", "--option", "window=8", "--quiet"]
    assert main(["align", str(tmp_path / "teacher"), *paths, *size]) == 0
    assert main(["evaluate", str(tmp_path / "teacher"), *paths[:2], "--tokens", "128", "--json"]) == 0
    assert '"perplexity"' in capsys.readouterr().out
