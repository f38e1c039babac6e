"""hybridattn info: what a file holds, and how the C core was built."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .._core import Cache, show_config
from ..errors import PlanError
from ..model.model import Model
from ..model.plan import Plan
from ..reading import read_json
from ..select import FORMAT, SELECTORS, LayerScores
from .common import Parser, show

EXAMPLE = """\
hybridattn info
hybridattn info hybrid"""


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "info",
        "What a model, a plan or a file of scores holds. Without one: the build, and the scoring methods.",
        EXAMPLE,
    )
    p.add_argument("path", nargs="?", help="model folder, .gguf file, hub id, plan.json or scores.json")
    p.add_json()
    return p


def run(args: argparse.Namespace) -> None:
    """Print a table of facts."""
    facts = _build() if args.path is None else _file(Path(args.path)) or _model(args.path)
    show(args, facts, (), [(name, _text(value)) for name, value in facts.items()])


def _build() -> dict[str, Any]:
    return {**show_config(), **{f"score method {name}": line for name, line in SELECTORS.items()}}


def _file(path: Path) -> dict[str, Any] | None:
    """A plan or scores; None for anything that is not a JSON file of its own."""
    if path.suffix != ".json" or not path.is_file():
        return None
    content = read_json(path, PlanError)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        scores = LayerScores.load(path)
        ranked = sorted(range(scores.num_layers), key=lambda row: scores.rank[row])
        order = [scores.numbers[row] for row in ranked]
        return {
            "scores by": scores.method,
            "read on": scores.text,
            "sequences": scores.num_sequences,
            "layers, highest score first": order,
            "mixer": scores.mixer,
        }
    plan = Plan.load(path)
    return {
        "plan by": plan.method,
        "layers": plan.num_layers,
        "softmax layers": list(plan.softmax_layers),
        "mixer": plan.mixer,
    }


def _model(name: str) -> dict[str, Any]:
    model = Model.from_pretrained(name)
    config = model.model_config
    kinds = ["+".join(spec["kind"] for spec in specs) for specs in model.layers]
    return {
        "family": config.family,
        "parameters": int(model.num_parameters),
        "layers": config.num_layers,
        **{f"{kind} layers": [i for i, k in enumerate(kinds) if k == kind] for kind in dict.fromkeys(kinds)},
        "hidden size": config.hidden_size,
        "heads": f"{config.num_heads} ({config.num_kv_heads} for keys and values)",
        "vocabulary": config.vocab_size,
        "longest context": config.max_positions,
        **({} if config.bidirectional else {"cache bytes per token": int(Cache(model).bytes_per_token)}),
        "tokenizer": model.tokenizer is not None,
    }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
