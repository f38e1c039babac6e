"""Text to token windows: nothing lost, nothing repeated, batches reproducible, bad files refused by name."""

import gzip
import json

import numpy as np
import pytest

from hybridattn.data.text_files import json_lines, load_text
from hybridattn.data.tokens import TokenData, cut, digest, slices
from hybridattn.diagnostics import recall_prompts, scoring_text
from hybridattn.errors import DataError


class Letters:
    """One token per character; 0 ends a document."""

    eos_token_id = 0

    def encode(self, text):
        return [ord(c) % 1000 + 1 for c in text]


class Words:
    """One token per word: a tokenizer with very different lengths, and no end-of-text token."""

    eos_token_id = None

    def encode(self, text):
        return [sum(map(ord, word)) % 977 for word in text.split()]


def test_documents_are_joined_with_eos_and_cut():
    data = TokenData.from_text(["abcd", "efg"], Letters(), seq_len=4)
    assert data.tokens.tolist() == [98, 99, 100, 101, 0, 102, 103, 104]
    assert data.windows.tolist() == [[0, 4], [4, 8]]
    assert (len(data), data.seq_len, data.num_tokens) == (2, 4, 8)


def test_no_eos_when_the_tokenizer_has_none():
    assert len(TokenData.from_text(["a b", "c d"], Words(), seq_len=2).tokens) == 4


def test_a_string_is_one_document():
    assert len(TokenData.from_text("abcd", Letters(), seq_len=2).tokens) == 4


@pytest.mark.parametrize(("n", "keep", "windows"), [
    (10, False, [[0, 4], [4, 8]]),
    (10, True, [[0, 4], [4, 8], [8, 10]]),
    (9, True, [[0, 4], [4, 8]]),  # a window of one token predicts nothing
    (3, False, [[0, 3]]),
])  # fmt: skip
def test_cut(n, keep, windows):
    assert cut(n, 4, keep).tolist() == windows


def test_max_tokens_stops_reading():
    def texts():
        yield "abcdefgh"
        raise AssertionError("read on")

    assert len(TokenData.from_text(texts(), Letters(), seq_len=2, max_tokens=5).tokens) == 5


@pytest.mark.parametrize("texts", [["abc", "  \n"], [""], []])
def test_empty_text_is_refused(texts):
    with pytest.raises(DataError):
        TokenData.from_text(texts, Letters(), seq_len=4)


@pytest.mark.parametrize("windows", [[[0, 1]], [[-1, 3]], [[0, 9]], [[4, 2]], []])
def test_bad_windows_are_refused(windows):
    with pytest.raises(DataError, match="windows"):
        TokenData(np.arange(8), np.array(windows, np.int64).reshape(-1, 2))


def test_split_shares_nothing():
    data = TokenData.from_text("abcdefghijklmnop", Letters(), seq_len=4)
    train, heldout = data.split(1)
    assert train.tokens.tolist() == data.tokens[:12].tolist()
    assert heldout.tokens.tolist() == data.tokens[12:].tolist()
    assert heldout.windows.tolist() == [[0, 4]]
    for count in (0, 4):
        with pytest.raises(DataError, match="holdout_windows"):
            data.split(count)


def test_batches_are_permutations_per_epoch_and_prefixes_of_longer_runs():
    data = TokenData.from_text("abcdefghijklmnopqrst", Letters(), seq_len=2)
    batches = data.batches(steps=5, batch=4, seed=3)
    assert batches.shape == (5, 4, 2) and batches.dtype == np.int64
    starts = batches[..., 0].reshape(2, 10)
    assert sorted(starts[0]) == sorted(starts[1]) == list(range(0, 20, 2))
    assert list(starts[0]) != list(starts[1])
    assert np.array_equal(data.batches(3, 4, seed=3), batches[:3])
    assert not np.array_equal(data.batches(5, 4, seed=4), batches)
    assert data.batches(0, 4).shape == (0, 4, 2)
    assert np.array_equal(data.windows[data.order(5, 4, seed=3)], batches)


@pytest.mark.parametrize("tokens", [1, 8, 9, 1000])
def test_slices_are_all_windows_in_order(tokens):
    windows = TokenData.from_text("abcdefghijklmnopqrs", Letters(), seq_len=4, keep_tail=True).windows
    parts = slices(windows, tokens)
    assert np.array_equal(np.concatenate(parts), windows)
    assert all(0 < len(part) <= max(1, tokens // 4 + 1) for part in parts)
    assert len(parts) == {1: 5, 8: 3, 9: 3, 1000: 1}[tokens]


def test_concat_keeps_windows_on_their_tokens():
    a = TokenData.from_text("abcd", Letters(), seq_len=2)
    b = TokenData.from_text("efgh", Letters(), seq_len=2)
    both = TokenData.concat([a, b], "mix")
    assert [both.tokens[s:e].tolist() for s, e in both.windows[2:]] == [
        b.tokens[s:e].tolist() for s, e in b.windows
    ]


def test_fingerprint_sees_tokens_and_windows():
    data = TokenData.from_text("abcdefgh", Letters(), seq_len=4)
    other = data.tokens.copy()
    other[0] += 1
    prints = {
        data.fingerprint(),
        TokenData(other, data.windows).fingerprint(),
        data.take(slice(0, 1)).fingerprint(),
    }
    assert len(prints) == 3
    assert data.fingerprint() == TokenData(data.tokens.copy(), data.windows.copy()).fingerprint()
    assert digest(np.zeros(2, np.int32)) != digest(np.zeros(1, np.int64))  # same bytes, other type


def test_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "x", "b": 1}\n{"a": "\u2028"}\n', encoding="utf-8")
    assert list(json_lines(path, ("a",))) == [(1, {"a": "x", "b": 1}), (2, {"a": "\u2028"})]
    for content, message in (
        (b'{"a": 1}', 'a.jsonl:1: no string in field "a"'),
        (b'{"a": "x"}\n\n', "a.jsonl:2: not JSON"),
        (b'"a"', "a.jsonl:1: holds a str; allowed: an object"),
        (b'{"a": "\xff"}', "a.jsonl: not UTF-8 text"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            list(json_lines(path, ("a",)))


@pytest.mark.parametrize("tokenizer", [Letters(), Words()])
@pytest.mark.parametrize("seq_len", [16, 64, 512])
def test_recall_prompts_fill_windows_and_repeat(tokenizer, seq_len):
    data = recall_prompts(tokenizer, 4, seq_len, seed=1)
    assert data.windows.tolist() == [[i * seq_len, (i + 1) * seq_len] for i in range(4)]
    assert data.label == "recall"
    again = recall_prompts(tokenizer, 6, seq_len, seed=1)
    assert np.array_equal(again.tokens[: 4 * seq_len], data.tokens)  # prompt i depends on seed and i alone
    assert not np.array_equal(recall_prompts(tokenizer, 4, seq_len, seed=2).tokens, data.tokens)


def test_recall_prompts_are_answerable():
    """Every key-value line of the second half was in the first, and a copy repeats its passage."""

    class Spy(Letters):
        def encode(self, text):
            self.text = text
            return super().encode(text)

    spy = Spy()
    recall_prompts(spy, 1, 512, seed=0)
    listed, asked = spy.text.split("Look up:\n", 1)
    pairs = listed.removeprefix("List:\n").splitlines()
    assert len(pairs) > 5
    assert len({p.split(":")[0] for p in pairs}) == len(pairs)
    assert sorted(asked.split("Look up:\n")[0].splitlines()) == sorted(pairs)
    recall_prompts(spy, 2, 512, seed=0)
    passage, copy = spy.text.split("\n")[:2]
    assert passage.removeprefix("Passage: ") == copy.removeprefix("Copy: ")


def test_load_text(tmp_path):
    (tmp_path / "b.txt").write_text("two", encoding="utf-8")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("één".encode()))
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "three"}) + "\n\n" + json.dumps({"text": "four"}))
    (tmp_path / "ignored.md").write_text("no")
    assert load_text(tmp_path) == ["één", "two", "three", "four"]
    assert load_text(str(tmp_path / "b.txt")) == ["two"]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.txt", b"  \n", "a.txt: holds no text"),
    ("a.txt", b"ok \xff", "byte 3 is not UTF-8"),
    ("a.txt.gz", b"not gzip", "a.txt.gz: not readable as gzip"),
    ("a.jsonl", b'{"text": "x"}\n{"body": 1}', 'a.jsonl:2: no string in field "text"'),
    ("a.jsonl", b'{"text": "x"}\n[1]', "a.jsonl:2: holds a list; allowed: an object"),
    ("a.jsonl", b"{", "a.jsonl:1: not JSON"),
    ("a.pdf", b"x", "suffix is '.pdf'"),
])  # fmt: skip
def test_bad_files_are_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        load_text(tmp_path / name)


def test_missing_file_and_empty_folder(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_text(tmp_path / "none.txt")
    with pytest.raises(DataError, match="holds no"):
        load_text(tmp_path)


def test_scoring_texts():
    plain = TokenData.from_text("abcdefgh" * 40, Letters(), seq_len=32)
    made = {kind: scoring_text(kind, Letters(), 5, 32, plain) for kind in ("plain", "recall", "mix")}
    assert [(text.label, len(text)) for text in made.values()] == [("plain", 5), ("recall", 5), ("mix", 5)]
    assert np.array_equal(made["mix"].tokens[:96], plain.tokens[:96])
    assert np.array_equal(made["mix"].tokens[96:], made["recall"].tokens[:64])
    with pytest.raises(DataError, match="plain has 0 windows"):
        scoring_text("mix", Letters(), 5, 32)
    with pytest.raises(DataError, match="kind is 'text'"):
        scoring_text("text", Letters(), 5, 32)
