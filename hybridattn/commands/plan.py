"""hybridattn plan: scores to a set of softmax layers."""

from __future__ import annotations

import argparse

from .common import Parser, fraction, layer_list, positive, show

EXAMPLE = """\
hybridattn plan scores.json --layers 8 --out plan.json
hybridattn plan --uniform --num-layers 30 --layers 8 --out uniform.json"""


def parser() -> Parser:
    """Its command line."""
    p = Parser("plan", "Choose which layers stay softmax: the highest scores, or a baseline.", EXAMPLE)
    p.add_argument("scores", nargs="?", help="file made by hybridattn score")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--layers", type=positive, metavar="K", help="how many layers stay softmax")
    size.add_argument("--ratio", type=fraction, help="which share of the layers stays softmax")
    way = p.add_mutually_exclusive_group()
    way.add_argument("--uniform", action="store_true", help="layers at even distances, instead of scores")
    way.add_argument("--random", type=int, metavar="SEED", help="layers drawn at random, instead of scores")
    way.add_argument("--softmax", type=layer_list, metavar="LIST", help="these layers, such as 3,5,8-10")
    p.add_argument(
        "--num-layers", type=positive, metavar="L", help="layers of the model, when there are no scores"
    )
    p.add_argument("--out", metavar="FILE", help="save the plan as JSON, for hybridattn distill")
    p.add_json()
    return p


def run(args: argparse.Namespace) -> None:
    """Make the plan, save it, show it."""
    from .. import plan as plans
    from ..select import LayerScores

    baseline = args.uniform or args.random is not None or args.softmax is not None
    complain = parser().error
    if not args.scores and not baseline:
        complain("give a file of scores, or one of --uniform, --random, --softmax")
    scores = LayerScores.load(args.scores) if args.scores else None
    layers = scores.num_layers if scores else args.num_layers
    if layers is None:
        complain("--num-layers is needed when there is no file of scores")
    mixer = scores.mixer if scores else None
    if args.softmax is not None:
        plan = plans.explicit(layers, args.softmax, mixer)
    else:
        if args.layers is None and args.ratio is None:
            complain("give --layers or --ratio")
        k = args.layers if args.layers is not None else int(args.ratio * layers + 0.5)
        if args.uniform:
            plan = plans.uniform(layers, k, mixer)
        elif args.random is not None:
            plan = plans.random(layers, k, args.random, mixer)
        elif scores is not None:
            plan = plans.make(scores, k=k)
    if args.out:
        plan.save(args.out)
    drawn = "".join("■" if layer in plan.softmax_layers else "·" for layer in range(layers))
    show(
        args,
        plan.to_dict(),
        (),
        [
            ("softmax layers", " ".join(map(str, plan.softmax_layers))),
            ("of", str(layers)),
            ("chosen by", plan.method),
            ("", drawn),
        ],
    )
