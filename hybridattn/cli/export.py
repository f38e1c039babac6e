"""hybridattn export: write a model as other programs read it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..data.text_files import load_text
from ..errors import ConfigError
from ..export import fits, layout_of, layouts
from ..export.registry import grouped
from ..model import card
from ..model.model import Model
from .common import Parser, apply_threads, show
from .models import MODEL_HELP

EXAMPLE = """\
hybridattn export hybrid --list
hybridattn export hybrid --to qwen3_5 --dtype bfloat16 --out hybrid-hf
hybridattn export hybrid --to gguf --dtype q8_0 --out hybrid-gguf"""


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "export",
        "Write a model in a layout that other programs read. A layout that cannot hold a layer says which "
        "layer, why, and what would hold it.",
        EXAMPLE,
    )
    p.add_argument("model", help=MODEL_HELP)
    p.add_argument("--to", metavar="LAYOUT", help="the layout; --list names them")
    p.add_argument("--out", metavar="DIR", help="folder to write, which appears when it is whole")
    p.add_argument(
        "--list", action="store_true", help="say which layouts hold this model and why others do not"
    )
    p.add_argument(
        "--dtype", metavar="TYPE", help="of the weights (default: as the model's are stored, or float32)"
    )
    p.add_argument(
        "--text",
        metavar="FILE",
        help="text on which the lengths of q and k are measured, where a layout has to know them "
        "(default: a passage of the package's own)",
    )
    p.add_argument("--force", action="store_true", help="replace whatever the folder holds")
    p.add_threads()
    p.add_json()
    return p


def run(args: argparse.Namespace) -> None:
    """List the layouts or write one."""
    if not args.list and not (args.to and args.out):
        raise ConfigError("--to and --out are not both given; allowed: both, or --list")
    if args.to:
        layout_of(args.to)  # before the model is read
    apply_threads(args)
    model = Model.from_pretrained(args.model, dtype="auto")
    if args.list:
        _list(args, model)
        return
    text = None if args.text is None else load_text(args.text)
    result = model.export(args.out, args.to, dtype=args.dtype, text=text, force=args.force)
    before = card.measured_of(Path(args.model))
    card.add_measured(
        Path(args.out), {key: f"{value}, before it was exported" for key, value in before.items()}
    )
    facts: dict[str, Any] = {
        "layout": result.layout,
        "folder": str(result.folder),
        "dtype": result.dtype,
        "files": list(result.files),
        **result.notes,
    }
    show(args, facts, (), [(name.replace("_", " "), _text(value)) for name, value in facts.items()])


def _list(args: argparse.Namespace, model: Model) -> None:
    found = {name: grouped(misfits) for name, misfits in fits(model).items()}
    known = layouts()
    facts = {
        name: {
            "fits": not why,
            "reasons": why,
            "programs": known[name].programs,
            "dtypes": list(known[name].dtypes),
        }
        for name, why in found.items()
    }
    rows = [
        (name, "no" if why else "yes", "; ".join(why) or known[name].programs) for name, why in found.items()
    ]
    show(args, facts, ("layout", "fits", "read by, or why not"), rows)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)
