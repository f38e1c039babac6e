"""hybridattn fetch: GLUE and SQuAD from their official addresses."""

from __future__ import annotations

import argparse

from ..evaluate import fetch
from .common import Parser

EXAMPLE = """
hybridattn fetch glue --out glue_data --tasks CoLA,RTE
hybridattn fetch squad --out squad_data
"""


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "fetch",
        "Download an evaluation set from its official addresses, checked by size and SHA-256. Files that are "
        "there are left. GLUE is 376 MB, nearly all of it MNLI and QQP; SQuAD is 82 MB.",
        EXAMPLE,
    )
    p.add_argument("name", choices=("glue", "squad"), help="glue or squad")
    p.add_argument("--out", required=True, metavar="DIR", help="folder to put the files in")
    p.add_argument("--tasks", metavar="LIST", help="of glue: some tasks, such as CoLA,MRPC (default: all)")
    p.add_argument("--mirror", metavar="URL", help="another host that serves the same paths")
    return p


def run(args: argparse.Namespace) -> None:
    """Download and print the paths."""
    if args.name == "squad":
        if args.tasks:
            parser().error("--tasks is for glue")
        made = fetch.squad(args.out, args.mirror)
    else:
        made = fetch.glue(args.out, args.tasks.split(",") if args.tasks else None, args.mirror)
    for path in made:
        print(path)
