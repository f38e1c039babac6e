"""Readers of all but models: text, sets of questions, recipes, plans, scores, what runs keep, options."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import tiny

from fuzz.reader import Reader, Source, source, value, values
from hybridattn.data.split import Texts, aligned_tokens, note_aligned
from hybridattn.data.text_files import json_lines, load_text
from hybridattn.evaluate import glue, squad
from hybridattn.evaluate.lm_eval_options import asked
from hybridattn.model.plan import Plan
from hybridattn.pipeline.recipe import Recipe
from hybridattn.pipeline.recipe_toml import parse_setting
from hybridattn.pipeline.store import Store
from hybridattn.radlads import checkpoint
from hybridattn.radlads.teacher import open_cache
from hybridattn.select import LayerScores, plan
from hybridattn.select.candidates import Candidates

ARRAYS = {"param.a": np.ones(3, np.float32), "losses": np.zeros((2, 1))}
TABLES = {
    "MRPC": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "1\t2\t3\tthe moon\tthe sun",
        '0\t4\t5\ta "b"\tc',
    ),
    "QQP": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "0\t1\t2\twhy?\thow?\t0",
        "1\t3\t4\ta\tb\t1",
    ),
    "STS-B": ("index\tgenre\tsentence1\tsentence2\tscore", "0\tmain\ta\tb\t2.5", "1\tmain\tc\td\t0.0"),
    "CoLA": ("a\t1\t\tthe moon", "b\t0\t*\tmoon the"),
}
OPTIONS = [
    {"until": ["\n", "</s>"], "max_gen_toks": 4, "do_sample": False, "temperature": 0.0, "num_beams": 1},
    {
        "until": "\n",
        "max_length": 64,
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 5,
        "top_p": 0.9,
        "seed": 3,
    },
    {
        "max_new_tokens": "4",
        "repetition_penalty": 1.0,
        "use_cache": True,
        "early_stopping": False,
        "min_p": 0,
    },
]


def readers(folder: Path) -> dict[str, Reader]:
    """Makes whole input below `folder`."""
    found = {
        "plan": Reader(
            lambda path: Plan.load(path / "x.json").save(path / "again.json"), _plans(folder / "plan")
        ),
        "scores": Reader(_read_scores, _scores(folder / "scores")),
        "candidates": Reader(
            lambda path: Candidates(path, "facts").get(1, 2), _candidates(folder / "candidates")
        ),
        "text": Reader(load_text, _texts(folder / "text")),
        "JSON lines": Reader(
            lambda path: list(json_lines(path / "x.jsonl", ["text"])), _lines(folder / "lines")
        ),
        "recipe": Reader(lambda path: Recipe.load(path / "x.toml").to_toml(), _recipes(folder / "recipe")),
        "setting": Reader(
            _read_setting, values(folder / "setting", {"key": "align.tokens", "value": "100000"})
        ),
        "SQuAD": Reader(lambda path: squad.read(path / "x.json"), _squad(folder / "squad")),
        "GLUE": Reader(lambda path: glue.read(path.name, path), _glue(folder / "glue")),
        "checkpoint": Reader(_read_checkpoint, _checkpoint(folder / "checkpoint")),
        "stage record": Reader(
            lambda path: Store(path).load("x", "digest", ["a"]), _record(folder / "record")
        ),
        "lm-eval options": Reader(_read_options, values(folder / "options", *OPTIONS)),
    }
    return {**found, **_cache(folder / "cache"), **_aligned(folder / "aligned")}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _plans(folder: Path) -> list[Source]:
    Plan((1,), 4, "kl_replace", {"kind": "gla"}, {"text": "b", "costs": [1.0]}).save(_made(folder) / "x.json")
    return [source(folder, "x.json")]


def _scores(folder: Path) -> list[Source]:
    found = []
    for method, options in (("kl_replace", {}), ("random", {"seed": 3}), ("greedy", {"order": [1, 0, 2]})):
        table = np.arange(12.0).reshape(3, 4)
        made = LayerScores(method, table, mixer={"kind": "gla"}, options=options, tokens=np.full(4, 7.0))
        made.save(_made(folder / method) / "x.json")
        found.append(source(folder / method, "x.json"))
    return found


def _read_scores(path: Path) -> None:
    scores = LayerScores.load(path / "x.json")
    plan.make(scores, k=1)
    plan.make(scores, ratio=0.7)


def _candidates(folder: Path) -> list[Source]:
    Candidates(_made(folder), "facts").put(1, 2, np.ones(3), 1.0, 2.0)
    return [source(folder, "steps-000002/layer-001.json", checked=True)]


def _texts(folder: Path) -> list[Source]:
    contents = {
        "x.jsonl": b'{"text": "one"}\n{"text": "two", "more": [1]}\n',
        "x.txt.gz": gzip.compress(b"some text that is packed " * 5),
        "x.txt": "a text, caf\u00e9\n".encode(),
    }
    for file, content in contents.items():
        (_made(folder / file[2:]) / file).write_bytes(content)
    return [source(folder / file[2:], file) for file in contents]


def _lines(folder: Path) -> list[Source]:
    (_made(folder) / "x.jsonl").write_text('{"text": "one"}\n{"text": "two", "more": [1]}\n')
    return [source(folder, "x.jsonl")]


def _recipes(folder: Path) -> list[Source]:
    (_made(folder) / "x.toml").write_text(Recipe().to_toml())
    (_made(folder / "more") / "x.toml").write_text(
        '[teacher]\nmodel = "a"\n[mixer]\nkind = "gated_delta"\nconv = 3\n[align]\ntokens = 6400\nlr = 1e-3\n'
        '[score]\nmethods = ["kl_replace"]\n[plan]\nratio = 0.5\n[evaluate]\nlengths = [32]\ntokens = 640\n'
    )
    return [source(folder, "x.toml"), source(folder / "more", "x.toml")]


def _read_setting(path: Path) -> None:
    given = value(path)
    if isinstance(given, dict) and all(isinstance(given.get(name), str) for name in ("key", "value")):
        Recipe.from_dict(parse_setting(f"{given['key']}={given['value']}"))


def _squad(folder: Path) -> list[Source]:
    answer = {"text": "moon", "answer_start": 4}
    asked_of = [
        {"id": "1", "question": "what?", "answers": [answer], "is_impossible": False},
        {"id": 2, "question": "who?", "answers": [], "is_impossible": True},
    ]
    article = {"title": "t", "paragraphs": [{"context": "the moon is a stone", "qas": asked_of}]}
    (_made(folder) / "x.json").write_text(json.dumps({"version": "2.0", "data": [article]}))
    return [source(folder, "x.json")]


def _glue(folder: Path) -> list[Source]:
    found = []
    for task, rows in TABLES.items():
        file = glue.TASKS[task].files["validation"]
        (_made(folder / task) / file).write_text("\n".join(rows) + "\n")
        found.append(source(folder / task, file))
    return found


def _checkpoint(folder: Path) -> list[Source]:
    checkpoint.save(folder, {"stage": "align"}, {"phase": 0, "step": 1}, ARRAYS)
    return [source(folder, "checkpoint.safetensors")]


def _read_checkpoint(path: Path) -> None:
    if checkpoint.load(path) is not None:
        checkpoint.fill(checkpoint.location(path), {name: each.copy() for name, each in ARRAYS.items()})


def _cache(folder: Path) -> dict[str, Reader]:
    """Damaged states are made again by the teacher, so it is the smallest there is."""
    teacher = tiny.teacher(layers=1, hidden_size=8, num_attention_heads=2, num_key_value_heads=1)
    data = tiny.text_data(seq_len=4, max_tokens=8)

    def read(path: Path) -> Any:
        return open_cache(path / "x.npy", teacher, data.tokens, data.windows, progress=False)

    read(_made(folder))
    return {"teacher cache": Reader(read, [source(folder, "x.npy"), source(folder, "x.npy.json")])}


def _record(folder: Path) -> list[Source]:
    (_made(folder) / "a").write_text("made by the stage")
    Store(folder).save("x", "digest", 1.0, {"kl": 0.5, "values": [1, 2]}, ["a"])
    return [source(folder, "stages/x.json", checked=True)]


def _aligned(folder: Path) -> dict[str, Reader]:
    text = _made(folder) / "text.txt"
    text.write_text("the moon is a stone")
    note_aligned(folder, Texts(text), 5)
    found = source(folder, "align.json")
    return {"align note": Reader(lambda path: aligned_tokens(path, Texts(text)), [found])}


def _read_options(path: Path) -> None:
    given = value(path)
    if isinstance(given, dict):
        asked(given, 16)
