"""hybridattn plan: scores to a set of softmax layers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from .._core import get_num_threads
from ..evaluate import latency as measure
from ..files import room_for_sheet
from ..model.model import Model
from ..model.plan import Plan
from ..select import LayerScores
from ..select import plan as plans
from .common import Parser, fraction, layer_list, natural, positive, show

EXAMPLE = """\
hybridattn plan scores.json --layers 8 --out plan.json
hybridattn plan scores.json --ms-per-token 9 --context 4096 --model probe --out fast.json
hybridattn plan --uniform --num-layers 30 --layers 8 --out uniform.json"""


def parser() -> Parser:
    """Its command line."""
    p = Parser("plan", "Choose which layers stay softmax: the highest scores, or a baseline.", EXAMPLE)
    p.add_argument("scores", nargs="?", help="file made by hybridattn score")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--layers", type=positive, metavar="K", help="how many layers stay softmax")
    size.add_argument("--ratio", type=fraction, help="which share of the layers stays softmax")
    p.add_argument(
        "--ms-per-token", type=float, help="as many softmax layers as decode a token in so many ms"
    )
    p.add_argument(
        "--cache-bytes", type=float, help="as many as keep one sequence's cache within so many bytes"
    )
    p.add_argument(
        "--context", type=positive, default=2048, help="tokens before the decoded one (default: %(default)s)"
    )
    source = p.add_mutually_exclusive_group()
    source.add_argument("--model", metavar="DIR", help="probe to time for these budgets, on this machine")
    source.add_argument("--costs", metavar="FILE", help="an earlier plan, whose timings are taken instead")
    way = p.add_mutually_exclusive_group()
    way.add_argument("--uniform", action="store_true", help="layers at even distances, instead of scores")
    way.add_argument("--random", type=natural, metavar="SEED", help="layers drawn at random")
    way.add_argument("--softmax", type=layer_list, metavar="LIST", help="these, such as 3,5,8-10, or none")
    p.add_argument(
        "--num-layers", type=positive, metavar="L", help="layers of the model, when there are no scores"
    )
    p.add_argument("--out", metavar="FILE", help="save the plan as JSON, for hybridattn distill")
    p.add_json()
    return p


def _costs(args: argparse.Namespace, complain: Callable[[str], NoReturn]) -> Mapping[str, Any]:
    """Measured now, or those of an earlier plan, which have to be of this machine, threads and context."""
    if args.costs:
        costs = Plan.load(args.costs).how.get("costs") or {}
        here = {"machine": measure.processor(), "threads": get_num_threads(), "context": args.context}
        for name, wanted in here.items():
            if costs.get(name) != wanted:
                complain(f"--costs: {name} is {costs.get(name)!r}, not {wanted!r}; measure with --model")
        return costs
    if not args.model:
        complain("a budget needs --model, to measure what layers cost here, or --costs")
    return measure.layer_costs(Model.from_pretrained(args.model), args.context)


def run(args: argparse.Namespace) -> None:
    """Make the plan, save it, show it."""
    baseline = args.uniform or args.random is not None or args.softmax is not None
    complain = parser().error
    if not args.scores and not baseline:
        complain("give a file of scores, or one of --uniform, --random, --softmax")
    scores = LayerScores.load(args.scores) if args.scores else None
    layers = scores.num_layers if scores else args.num_layers
    if layers is None:
        complain("--num-layers is needed when there is no file of scores")
    mixer = scores.mixer if scores else None
    budget = {"ms_per_token": args.ms_per_token, "cache_bytes": args.cache_bytes}
    limited = any(limit is not None for limit in budget.values())
    sized = args.layers is not None or args.ratio is not None
    if args.softmax is not None:
        if limited or sized:
            complain("--softmax names the layers: leave out --layers, --ratio, --ms-per-token, --cache-bytes")
        layers = scores.total if scores and scores.total else layers
        plan = plans.explicit(layers, args.softmax, mixer)
    else:
        if limited == sized:
            complain("give --layers, --ratio, or a budget: --ms-per-token, --cache-bytes")
        if limited:
            if scores is None:
                complain("a budget needs a file of scores")
            plan = plans.make(scores, **budget, costs=_costs(args, complain))
            args.layers, limits = plan.k, {name: plan.how[name] for name in ("budget", "costs")}
        k = args.layers if args.layers is not None else int(args.ratio * layers + 0.5)
        if args.uniform:
            plan = plans.uniform(layers, k, mixer)
            plan = plans.of_model(plan, scores) if scores else plan
        elif args.random is not None:
            plan = plans.random(layers, k, args.random, mixer)
            plan = plans.of_model(plan, scores) if scores else plan
        elif scores is not None and not limited:
            plan = plans.make(scores, k=k)
        if limited:
            plan.how.update(limits)
    if args.out:
        room_for_sheet(args.out)
        plan.save(args.out)
    drawn = "".join("■" if layer in plan.softmax_layers else "·" for layer in range(plan.num_layers))
    show(
        args,
        plan.to_dict(),
        (),
        [
            ("softmax layers", " ".join(map(str, plan.softmax_layers))),
            ("of", str(plan.num_layers)),
            ("chosen by", plan.method),
            ("", drawn),
        ],
    )
