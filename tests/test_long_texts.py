"""Texts larger than memory: read in blocks, cut and tokenized as they come, the same as those held whole."""

from __future__ import annotations

import gzip
import json
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridattn as ha
from hybridattn.data import gathered, pieces, text_files
from hybridattn.data.split import Texts
from hybridattn.errors import DataError

pytestmark = pytest.mark.usefixtures("one_thread")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["a", " ", ". ", "\n", "\n\n", "word " * 9, "x" * 70]), max_size=60), st.data()
)
def test_a_text_in_chunks_is_cut_as_the_whole(parts, data):
    text = "".join(parts)
    chunks = []
    while sum(map(len, chunks)) < len(text):
        at = sum(map(len, chunks))
        chunks.append(text[at : at + data.draw(st.integers(1, 90))])
    size = data.draw(st.sampled_from([8, 20, 64]))
    whole = list(pieces.cut_text([text], size))
    assert list(pieces.cut_text(chunks, size)) == whole and "".join(whole) == text
    assert all(len(piece) <= 1.5 * size for piece in whole[:-1])


@pytest.fixture(params=["txt", "txt.gz", "jsonl"])
def source(request, tmp_path):
    path = tmp_path / f"a.{request.param}"
    if request.param == "jsonl":
        rows = [{"text": tiny.TEXT[i : i + 500]} for i in range(0, 2500, 100)] + [{"text": " "}]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        data = ("é" + tiny.TEXT).encode() * 12
        path.write_bytes(gzip.compress(data) if request.param.endswith("gz") else data)
    return path


def test_what_is_read_anew_is_what_would_be_kept(source, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 60)
    monkeypatch.setattr(text_files, "BLOCK", 777)  # ends inside characters, too
    kept = Texts(source).regions
    monkeypatch.setattr(pieces, "IN_MEMORY", 2000)
    anew = Texts(source).regions
    for name, region in kept.items():
        assert isinstance(region, list) and isinstance(anew[name], pieces.Reread)
        assert list(anew[name]) == list(anew[name]) == region and len(anew[name]) == len(region)
    heldout = pieces.whole_texts(source)
    assert isinstance(heldout, pieces.Reread) and list(heldout) == ha.load_text(source)
    made = tiny.tokenizer()
    same = Texts(source).training(made, 256, 32, 64)
    monkeypatch.setattr(pieces, "IN_MEMORY", 1 << 24)
    assert Texts(source).training(made, 256, 32, 64) == same


def test_many_tokens_lie_in_a_mapped_file(monkeypatch, tmp_path):
    made, texts = tiny.tokenizer(), [tiny.TEXT[i : i + 100] for i in range(0, 1500, 100)]
    rows = [{"text": text} for text in texts]
    plain = [ha.TokenData.from_text(texts, made, 32), ha.TokenData.from_rows(rows, made, 32, label="plain")]
    monkeypatch.setattr(gathered, "IN_MEMORY", 1000)
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path / "cache"))
    mapped = [ha.TokenData.from_text(texts, made, 32), ha.TokenData.from_rows(rows, made, 32, label="plain")]
    assert mapped == plain and plain[0] == plain[1]
    base = mapped[0].tokens
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap) and list((tmp_path / "cache").iterdir()) == []
    assert mapped[0].fingerprint() == plain[0].fingerprint()
    model = tiny.teacher(layers=1)
    assert ha.evaluate.perplexity(model, mapped[0]).nll == ha.evaluate.perplexity(model, plain[0]).nll
    short = ha.TokenData.from_text(texts, made, 32, 700)
    assert short.tokens.tolist() == plain[0].tokens[:700].tolist()


def test_a_bad_byte_is_named_wherever_blocks_end(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK", 7)
    for at, data in ((9, b"abcdefghi\xff more"), (6, b"abcdef\xc3(x"), (8, b"abcdefgh\xe2\x82")):
        (tmp_path / "a.txt").write_bytes(data)
        with pytest.raises(DataError, match=rf"a\.txt: byte {at} is not UTF-8 text"):
            ha.load_text(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes("\ufeffé\r\nb".encode())
    assert ha.load_text(tmp_path / "a.txt") == ["é\r\nb"]


LIMITED = """
import resource, sys
from hybridattn.cli.main import main
from hybridattn.data import pieces

folder, limit = sys.argv[1], int(sys.argv[2])
pieces.IN_MEMORY = 1 << 20  # as if memory were small
options = ["--tokens", "256", "--seq-len", "32", "--batch-size", "2", "--quiet", "--json"]
for text in ("small.txt", "large.txt"):
    if text == "large.txt":
        pages = int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + limit,) * 2)
    files = ["--text", f"{folder}/{text}", "--out", f"{folder}/{text}.out"]
    code = main(["align", f"{folder}/teacher", *files, *options])
    assert not code, code
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_text_of_64_megabytes_with_24_of_memory(tmp_path):
    """From the command line; the file is one document."""
    tiny.teacher(layers=1).save_pretrained(tmp_path / "teacher")
    block = (tiny.TEXT + "\n\n").encode()
    (tmp_path / "small.txt").write_bytes(block * 8)
    with open(tmp_path / "large.txt", "wb") as file:
        for _ in range((64 << 20) // len(block * 64)):
            file.write(block * 64)
    assert (tmp_path / "large.txt").stat().st_size > 60 << 20
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(24 << 20)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "large.txt.out" / "align.json").is_file()


def test_a_dataset_that_was_saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{"text": tiny.TEXT[i : i + 400]} for i in range(0, 1400, 70)] + [{"text": ""}]
    data = datasets.Dataset.from_list(rows)
    data.save_to_disk(tmp_path / "whole", num_shards=3)
    assert ha.load_text(tmp_path / "whole") == [row["text"] for row in rows[:-1]]
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "splits")
    with pytest.raises(DataError, match="splits: holds the splits train, test; allowed: the folder of one"):
        ha.load_text(tmp_path / "splits")
    assert len(ha.load_text(tmp_path / "splits" / "test")) == 20
    assert Texts(tmp_path / "whole").training(tiny.tokenizer(), 128, 32).num_tokens == 128
    (tmp_path / "whole" / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
    with pytest.raises(DataError, match="_data_files is"):
        ha.load_text(tmp_path / "whole")
