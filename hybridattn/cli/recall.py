"""hybridattn recall: how often a model looks up right what stands in its prompt."""

from __future__ import annotations

import argparse

from .. import evaluate
from ..checks import check_choice
from ..diagnostics import KINDS
from ..report import numbers
from .common import Parser, apply_threads, natural, positive, show, shows
from .models import MODEL_HELP, load_model

EXAMPLE = "hybridattn recall hybrid --diagnostic needle --prompts 32 --seq-len 1024"


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "recall",
        "Give a model prompts whose answer stands in them, and count the greedy answers that match token for "
        "token. Several diagnostics at once, each on prompts of its own seed.",
        EXAMPLE,
    )
    p.add_argument("model", help=MODEL_HELP)
    p.add_argument(
        "--diagnostic", action="append", metavar="NAME",
        help="such as needle or phone_book; may be repeated (default: all)",
    )  # fmt: skip
    p.add_argument("--prompts", type=positive, default=32, help="of each (default: %(default)s)")
    p.add_argument(
        "--seq-len", type=positive, default=512, help="tokens of a prompt at most (default: %(default)s)"
    )
    p.add_argument(
        "--batch-size", type=positive, default=8, help="prompts of one pass (default: %(default)s)"
    )
    p.add_argument("--seed", type=natural, default=0, help="of the prompts (default: %(default)s)")
    p.add_storage()
    p.add_compute()
    p.add_threads()
    p.add_json()
    return p


def run(args: argparse.Namespace) -> None:
    """Answer and count."""
    names = [check_choice("--diagnostic", name, KINDS) for name in args.diagnostic or KINDS]
    apply_threads(args)
    model = load_model(args, args.model)
    found = {
        name: evaluate.recall(
            model, name, n=args.prompts, seq_len=args.seq_len, seed=args.seed,
            batch_size=args.batch_size, progress=shows(args),
        )
        for name in names
    }  # fmt: skip
    data = {
        name: {**result.to_dict(), "stderr": numbers.finite(result.stderr)} for name, result in found.items()
    }
    rows = [
        [name, f"{100 * r.accuracy:.1f}%", f"{100 * r.stderr:.1f}%", f"{r.answer_nll:.3f}"]
        for name, r in found.items()
    ]
    show(args, data, ("diagnostic", "right", "error", "nats a token of the answer"), rows)
