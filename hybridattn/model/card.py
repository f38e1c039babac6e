"""The README.md of a saved model: a model card with a YAML header, as model hubs read it.

It says what the model is, how it was made and, once that was measured, how far it is from its teacher. The
licence is the user's to fill in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from ..files import atomic_write
from .base import BaseModel

NAME = "README.md"
MARK = "<!-- written by hybridattn, which replaces this file as long as this line stands in it -->"
KL, PERPLEXITY = "KL from the teacher", "perplexity"
_MEASURED = re.compile(rf"\| ((?:{KL}|{PERPLEXITY}), windows of \d+) \| (.*) \|")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def write_card(folder: Path, model: BaseModel, library: str, facts: Mapping[str, Any] | None = None) -> None:
    """Write README.md, unless there is one that is not ours."""
    path = folder / NAME
    try:
        if MARK not in path.read_text(encoding="utf-8", errors="replace"):
            return
    except FileNotFoundError:
        pass
    atomic_write(path, card(model, library, facts))


def add_measured(folder: Path, measured: Mapping[str, str]) -> None:
    """Put rows of what was measured of a saved model at the end of its card's table, in the place of those
    with the same names; nothing where the card is not ours.
    """
    path = folder / NAME
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    if MARK not in lines or not measured:
        return
    rows = [f"| {key} | {_cell(value)} |" for key, value in measured.items()]
    names = tuple(f"| {key} |" for key in measured)
    kept = [line for line in lines if not line.startswith(names)]
    last = max((i for i, line in enumerate(kept) if line.startswith("|")), default=len(kept) - 1)
    atomic_write(path, "\n".join([*kept[: last + 1], *rows, *kept[last + 1 :]]) + "\n")


def measured_of(folder: Path) -> dict[str, str]:
    """Those rows of a saved model's card."""
    try:
        text = (folder / NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found = (_MEASURED.fullmatch(line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def evaluation_rows(evaluated: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Rows of held-out figures: {window: {kl, perplexity, tokens}}."""
    rows: dict[str, str] = {}
    for window, found in evaluated.items():
        text = f"{found['tokens']:,} held-out tokens in windows of {window}"
        rows[f"{KL}, windows of {window}"] = f"{found['kl']:.4g} nats a token, {text}"
        rows[f"{PERPLEXITY}, windows of {window}"] = f"{found['perplexity']:.4g}, {text}"
    return rows


def card(model: BaseModel, library: str, facts: Mapping[str, Any] | None = None) -> str:
    """The text. library: what opens the folder, as hubs call it; facts: further lines of its table."""
    config = model.model_config
    base = config.hf.get("_name_or_path")
    known = isinstance(base, str) and _HUB_ID.fullmatch(base) is not None
    kinds = [" and ".join(spec["kind"] for spec in specs) for specs in model.layers]
    plain = set(kinds) == {"softmax"}
    header = [
        "---",
        *([f"base_model: {base}"] if known else []),
        f"library_name: {library}",
        *(["pipeline_tag: text-generation"] if config.lm_head and not config.bidirectional else []),
        "tags:",
        "- hybridattn",
        *([] if plain else ["- hybrid-attention", "- linear-attention"]),
        "# license: that of the base model; fill it in before you share this",
        "---",
    ]
    what = "softmax attention" if plain else "softmax and linear attention"
    name = str(base).rsplit("/", 1)[-1]
    title = f"{name}, {'saved' if plain else 'a hybrid'}" if known else f"A model of {what}"
    rows = {"base model": str(base) if known else f"of family {config.family}"}
    rows |= {"layers": str(config.num_layers), "parameters": f"{model.num_parameters:,}"}
    for kind in dict.fromkeys(kinds):
        rows[f"{kind} layers"] = _runs([i for i, other in enumerate(kinds) if other == kind])
    rows |= {f"{spec['kind']} options": _options(spec) for spec in _specs(model) if len(spec) > 1}
    if model.plan is not None:
        rows["softmax layers chosen by"] = model.plan.method
        how = {key: value for key, value in model.plan.how.items() if _is_fact(value)}
        rows |= {f"chosen by: {key}": _short(value) for key, value in how.items()}
    if model.train_result is not None and len(model.train_result.losses):
        result = model.train_result
        rows["last training step"] = f"{result.steps} steps, loss {float(result.curve[-1]):.4g} at the end"
    rows |= {key.replace("_", " "): _short(value) for key, value in (facts or {}).items()}
    table = ["| | |", "| --- | --- |", *(f"| {key} | {_cell(value)} |" for key, value in rows.items())]
    lines = [*header, MARK, "", f"# {title}", "", f"A model of {what}, made with hybridattn.", "", *table]
    return "\n".join(lines) + "\n"


def _specs(model: BaseModel) -> list[dict[str, Any]]:
    """The linear mixers that differ."""
    found: list[dict[str, Any]] = []
    for specs in model.layers:
        found += [spec for spec in specs if spec["kind"] != "softmax" and spec not in found]
    return found


def _options(spec: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in spec.items() if key != "kind")


def _runs(numbers: list[int]) -> str:
    """0 to 3, 7"""
    groups = [
        [number for _, number in group]
        for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in groups)


def _is_fact(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and len(str(value)) <= 80


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_short(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
