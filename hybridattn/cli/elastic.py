"""hybridattn elastic: one folder for any number of softmax layers."""

from __future__ import annotations

import argparse

from ..model.model import Model
from ..select import LayerScores, elastic
from .common import Parser, apply_threads, refuse_overwrite, show, writing

EXAMPLE = "hybridattn elastic probe --scores scores.json --out elastic"


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "elastic",
        "Write a model that holds both mixers of every layer and the order in which layers deserve their "
        "softmax: Model.from_pretrained(folder, softmax_layers=8) chooses how many "
        "there are.",
        EXAMPLE,
    )
    p.add_argument("probe", help="folder that `align` wrote")
    p.add_argument("--scores", required=True, metavar="FILE", help="what `score --out` wrote")
    p.add_argument("--out", required=True, metavar="DIR", help="folder to save the model in")
    p.add_force()
    p.add_threads()
    p.add_json()
    return p


def run(args: argparse.Namespace) -> None:
    """Order the layers and save."""
    refuse_overwrite(args.probe, args.out)
    apply_threads(args)
    scores = LayerScores.load(args.scores)
    with writing(args.out, args.force):
        made = elastic.make(Model.from_pretrained(args.probe), scores)
        made.save_pretrained(args.out)
    order = list(made.softmax_order or ())
    data = {"saved": args.out, "softmax_order": order, "scores": scores.method}
    show(args, data, (), [["scores by", scores.method], ["order", order], ["saved", args.out]])
