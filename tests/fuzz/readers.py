"""What is fuzzed: every reader of files, each with whole input to start from, and arguments of the C types.

A target has its input made once (`seed`) and is then given damaged forms of it. Errors of this package, and
OSError, are answers; anything else is a fault.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tiny

import hybridattn as ha
from fuzz.mutate import NASTY, damaged_bytes, damaged_value
from hybridattn import _core, tasks
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.data.tokens import load_text
from hybridattn.errors import HybridAttnError
from hybridattn.evaluate import squad
from hybridattn.formats.gguf import open_gguf
from hybridattn.formats.safetensors import open_weights
from hybridattn.model.plan import Plan
from hybridattn.model.saved import read_config
from hybridattn.pipeline.recipe import Recipe
from hybridattn.radlads import checkpoint
from hybridattn.radlads.teacher import open_cache
from hybridattn.select import LayerScores, plan
from hybridattn.select.candidates import Candidates


class Target(NamedTuple):
    """files: names of the inputs in the folder that are damaged; read(folder): the reader."""

    files: list[str]
    read: Callable[[Path], Any]
    answers: tuple[type[Exception], ...] = (HybridAttnError, OSError)


def seed(folder: Path) -> dict[str, Target]:
    """Writes whole inputs below `folder`, one sub-folder a target, and returns the targets by name."""
    teacher, data = tiny.teacher(layers=2), tiny.text_data(seq_len=16, max_tokens=64)
    probe = teacher.to_probe(tiny.MIXERS[0])
    for name, model in (("config", teacher), ("hybrid", probe), ("weights", teacher), ("tokenizer", teacher)):
        model.save_pretrained(folder / name)
    plans, scores = folder / "plan", folder / "scores"
    for each in ("plan", "scores", "text", "recipe", "squad", "checkpoint", "cache", "candidates", "gguf"):
        (folder / each).mkdir()
    Plan((1,), 2, "a", {"kind": "gla"}, {"text": "b"}).save(plans / "x.json")
    LayerScores("kl_replace", np.arange(8.0).reshape(2, 4), mixer={"kind": "gla"}).save(scores / "x.json")
    (folder / "text/x.jsonl").write_text('{"text": "one"}\n{"text": "two", "more": [1]}\n')
    (folder / "text/y.txt.gz").write_bytes(gzip.compress(b"some text that is packed " * 5))
    (folder / "recipe/x.toml").write_text(Recipe().to_toml())
    answer = {"text": "moon", "answer_start": 4}
    question = {"id": "1", "question": "what?", "answers": [answer], "is_impossible": False}
    article = {"title": "t", "paragraphs": [{"context": "the moon is a stone", "qas": [question]}]}
    (folder / "squad/x.json").write_text(json.dumps({"version": "1.1", "data": [article]}))
    arrays = {"param.a": np.ones(3, np.float32), "losses": np.zeros((2, 1))}
    checkpoint.save(folder / "checkpoint", {"stage": "align"}, {"phase": 0, "step": 1}, arrays)
    open_cache(folder / "cache/x.npy", teacher, data.tokens, data.windows, progress=False)
    Candidates(folder / "candidates", "facts").put(1, 2, np.ones(3), 1.0, 2.0)
    tiny_gguf(folder / "gguf/x.gguf")

    def read_checkpoint(path: Path) -> None:
        if checkpoint.load(path) is not None:
            checkpoint.fill(checkpoint.location(path), {name: each.copy() for name, each in arrays.items()})

    return {
        "config": Target(["config.json"], lambda path: read_config(path / "config.json")),
        "hybrid": Target(["config.json"], ha.Model.from_pretrained),
        "weights": Target(["model.safetensors"], lambda path: open_weights(path).close()),
        "tokenizer": Target(
            ["tokenizer_config.json", "tokenizer.json"],
            lambda path: Tokenizer.from_folder(path).encode("the moon"),
        ),
        "plan": Target(["x.json"], lambda path: Plan.load(path / "x.json").save(path / "again.json")),
        "scores": Target(["x.json"], lambda path: plan.make(LayerScores.load(path / "x.json"), k=1)),
        "candidates": Target(
            ["steps-000002/layer-001.json"], lambda path: Candidates(path, "facts").get(1, 2)
        ),
        "text": Target(["x.jsonl", "y.txt.gz"], load_text),
        "recipe": Target(["x.toml"], lambda path: Recipe.load(path / "x.toml").to_toml()),
        "squad": Target(["x.json"], lambda path: squad.read(path / "x.json")),
        "checkpoint": Target(["checkpoint.safetensors"], read_checkpoint),
        "cache": Target(
            ["x.npy", "x.npy.json"],
            lambda path: open_cache(path / "x.npy", teacher, data.tokens, data.windows, progress=False),
        ),
        "gguf": Target(["x.gguf"], read_gguf),
    }


def tiny_gguf(path: Path) -> None:
    """A GGUF file of a random model of one layer."""
    import gguf_files

    gguf_files.write(path, gguf_files.random_tensors())


def read_gguf(path: Path) -> None:
    with open_gguf(path / "x.gguf").source as source:
        for name in source.names():
            source.read_into(name, np.empty(source.shape(name), np.float32))


def damage(path: Path, whole: bytes, rng: random.Random) -> None:
    """Writes a damaged form of the whole file."""
    if path.suffix == ".json" and rng.random() < 0.8:
        text = json.dumps(damaged_value(json.loads(whole), rng))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    else:
        path.write_bytes(damaged_bytes(whole, rng))


def odd_call(rng: random.Random) -> None:
    """One call of a C type or an operation with odd arguments; ValueError and the like are answers."""
    odd = [
        *NASTY, np.zeros(0, np.float32), np.zeros((2, 3)), np.full((2, 2), np.nan, np.float32), np.int64(3),
        np.arange(6, dtype=np.int32).reshape(2, 3), np.zeros((1, 1, 1, 1), np.float32), b"x", object(),
    ]  # fmt: skip
    model = _MODELS.setdefault("probe", tiny.teacher(layers=2).to_probe(tiny.MIXERS[0]))
    names = [name for name in dir(_core.ops) if not name.startswith("_")]
    calls: list[Callable[..., Any]] = [
        getattr(_core.ops, rng.choice(names)), model.logits, model.hidden, model.nll, model.forward_windows,
        model.store, _core.Tensor, _core.Cache, _core.KLScorer, _core.Distiller, _core.pack, _core.unpack,
        _core.KLScorer(model).kl, _core.KLScorer(model).flip, _core.Distiller(model, None, "align").run,
        ha.set_num_threads, lambda *a: tasks.predict(model, *a), ha.TokenData,
    ]  # fmt: skip
    call = rng.choice(calls)
    count = rng.randrange(6)
    try:
        call(*([model] if rng.random() < 0.3 else []), *(rng.choice(odd) for _ in range(count)))
    except (
        ValueError,
        TypeError,
        OverflowError,
        MemoryError,
        BufferError,
        IndexError,
        KeyError,
        AttributeError,
    ):
        pass
    finally:
        ha.set_num_threads(1)


_MODELS: dict[str, Any] = {}
