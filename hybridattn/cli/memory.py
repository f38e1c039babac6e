"""What training may take: options that `align` and `distill` share."""

from __future__ import annotations

import argparse
from typing import Any

from ..radlads.moments import MOMENTS
from .common import Parser


def add_memory(parser: Parser) -> None:
    """--moments and --memory."""
    parser.add_argument(
        "--moments",
        choices=("auto", *MOMENTS),
        default="auto",
        help="of AdamW: bfloat16 takes half the memory; auto is float32 unless --memory asks for less",
    )
    parser.add_argument(
        "--memory", metavar="SIZE", help="the most that training may take, such as 2GiB (default: no limit)"
    )


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """The keywords of `radlads` that the command line gave."""
    return {"moments": args.moments, "memory": args.memory}
