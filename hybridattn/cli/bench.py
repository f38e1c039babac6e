"""hybridattn bench: time reading and writing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..evaluate import bench
from .common import Parser, apply_threads, positive, show, shows
from .models import load_model

EXAMPLE = "hybridattn bench smollm2-135m hybrid --length 512 --length 4096"


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "bench",
        "Time the reading of a prompt and the writing after it, with one sequence, on random tokens. Several "
        "models take turns, so that what slows the machine slows all; figures are medians of the rounds with "
        "their least and most, and a machine that was busy with something else is told.",
        EXAMPLE,
    )
    p.add_argument("models", nargs="+", metavar="model", help="model folders, .gguf files or hub ids")
    p.add_argument(
        "--length", type=positive, action="append", metavar="N",
        help="tokens of the prompt; may be repeated (default: 512 and 2048)",
    )  # fmt: skip
    p.add_argument("--rounds", type=positive, default=5, help="times of each (default: %(default)s)")
    p.add_argument(
        "--decode-tokens", type=positive, default=16, help="tokens to write in a round (default: %(default)s)"
    )
    p.add_argument("--cache-dtype", choices=("f32", "f16"), default="f32", help="of keys and values")
    p.add_argument("--beyond-positions", action="store_true", help="lengths past the model's positions, too")
    p.add_storage()
    p.add_compute()
    p.add_threads()
    p.add_json()
    return p


def run(args: argparse.Namespace) -> None:
    """Time and print."""
    apply_threads(args)
    names = [Path(name).name or name for name in args.models]
    names = args.models if len(set(names)) < len(names) else names
    found = bench(
        {name: load_model(args, source) for name, source in zip(names, args.models, strict=True)},
        args.length or (512, 2048),
        rounds=args.rounds,
        decode_tokens=args.decode_tokens,
        cache_dtype=args.cache_dtype,
        beyond_positions=args.beyond_positions,
        progress=shows(args),
    )
    show(args, found.to_dict(), found.HEADER, found.rows())
    if found.warning:
        print(found.warning, file=sys.stderr)
