"""hybridattn score: layer scores by KL divergence."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .. import select
from ..data.split import Texts, aligned_tokens, locate
from ..data.tokens import TokenData
from ..diagnostics import SCORING_TEXTS, scoring_text
from ..files import room_for_sheet
from ..model.base import tokenizer_of
from ..model.model import Model
from ..pipeline.recipe_parts import ScorePart
from ..report import numbers
from .common import Parser, apply_threads, natural, positive, show
from .shards import UNFINISHED, shard

EXAMPLE = """\
hybridattn score probe --out scores.json
hybridattn score probe --method kl_gate --text wikipedia --tokens 4096
hybridattn score probe --method kl_greedy_add --layers 8 --swaps 2 --text recall+wikipedia
hybridattn score probe --method kl_restore_distilled --train wikipedia --folder work --shard 0/2"""


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "score",
        "Rank the layers of a probe by how much of the teacher is lost when they are linear: KL divergence "
        "in nats, or for kl_gate its slope in nats per unit of gate. High: keep softmax.",
        EXAMPLE,
    )
    p.add_argument("probe", help="folder made by hybridattn align")
    p.add_argument(
        "--method",
        metavar="NAME",
        default=ScorePart.methods[0],
        help="how to score; hybridattn info lists the methods (default: %(default)s)",
    )
    p.add_argument(
        "--text",
        default=ScorePart.text,
        metavar="FILE",
        help="what scores are read on: recall (synthetic prompts), diagnostic:TASK (its answers), a text "
        "file, or wikipedia, articles or bible, a part that align and distill leave out; joined by + in "
        "equal parts (default: %(default)s)",
    )
    p.add_answers_only()
    p.add_argument(
        "--tokens", type=positive, default=ScorePart.tokens, help="tokens of it (default: %(default)s)"
    )
    p.add_argument(
        "--seq-len",
        type=positive,
        default=ScorePart.seq_len,
        help="tokens per sequence (default: %(default)s)",
    )
    p.add_argument(
        "--alpha",
        type=float,
        action="append",
        help="kl_gate: the gate of all layers, 0 linear to 1 softmax; repeated: averaged (default: 0.5)",
    )
    p.add_argument("--seed", type=natural, default=0, help="of synthetic prompts, of random, and of training")
    p.add_argument(
        "--layers", type=positive, metavar="K", help="searches: size of the set (default: a quarter)"
    )
    p.add_argument(
        "--swaps", type=natural, metavar="N", help="greedy searches: at most so many exchanges at the end"
    )
    p.add_argument(
        "--steps",
        type=positive,
        action="append",
        help="kl_joint: gradient steps; kl_restore_distilled: steps of a rung, repeated in ascending order",
    )
    p.add_argument("--train", metavar="FILE", help="kl_restore_distilled: text for step 2")
    p.add_argument("--folder", metavar="DIR", help="kl_restore_distilled: finished candidates, to go on from")
    p.add_argument(
        "--shard", type=shard, metavar="I/N", help="kl_restore_distilled: only candidates I, I + N, .."
    )
    p.add_argument("--wait", type=float, metavar="SECONDS", help="and so long for those of the other shards")
    p.add_argument("--out", metavar="FILE", help="save the scores as JSON, for hybridattn plan")
    p.add_compute()
    p.add_threads()
    p.add_json()
    return p


def scoring_data(args: argparse.Namespace, probe: Model) -> TokenData:
    """The windows of --text, as many of each of its parts."""
    sources = [args.text] if Path(args.text).exists() else args.text.split("+")
    count = max(1, args.tokens // (args.seq_len * len(sources)))
    parts = []
    for source in sources:
        if source in SCORING_TEXTS and source not in ("plain", "mix") and not Path(source).exists():
            parts.append(scoring_text(source, tokenizer_of(probe), count, args.seq_len, seed=args.seed))
        else:
            texts = Texts(locate(source, "--text"), answers_only=args.answers_only)
            tokens = args.tokens // len(sources)
            parts.append(texts.read("scoring", tokenizer_of(probe), tokens, args.seq_len))
    return parts[0] if len(parts) == 1 else TokenData.concat(parts, args.text)


def run(args: argparse.Namespace) -> None:
    """Score, save, print one row per layer from the highest score to the lowest."""
    apply_threads(args)
    if args.out:
        room_for_sheet(args.out)
    probe = Model.from_pretrained(args.probe, compute=args.compute)
    data = scoring_data(args, probe)
    options = {
        name: value
        for name in ("swaps", "folder", "shard", "wait")
        if (value := getattr(args, name)) is not None
    }
    if args.steps:
        options["steps"] = args.steps[-1] if args.method == "kl_joint" else args.steps
    if args.train:
        tokens = max(args.steps or [16]) * args.seq_len
        texts = Texts(locate(args.train, "--train"), answers_only=args.answers_only)
        skip = aligned_tokens(args.probe, texts)
        options["train"] = texts.training(tokenizer_of(probe), tokens, args.seq_len, skip)
    try:
        scores = select.score(
            probe,
            data,
            args.method,
            alpha=args.alpha,
            seed=args.seed,
            k=args.layers,
            progress=not args.quiet,
            **options,
        )
    except select.Unfinished as waiting:
        print(waiting, file=sys.stderr)
        raise SystemExit(UNFINISHED) from None
    if args.out:
        scores.save(args.out)
    values, stderr = numbers.finite_list(scores.values), numbers.finite_list(scores.stderr)
    ranked = sorted(range(len(values)), key=lambda row: scores.rank[row])
    order = [scores.numbers[row] for row in ranked]
    result = {
        "method": scores.method,
        "text": scores.text,
        "values": values,
        "stderr": stderr,
        "layers": list(scores.numbers),
        "order": order,
        "all_linear_kl": numbers.finite(scores.all_linear_kl),
        "sequences": scores.num_sequences,
        "seconds": scores.seconds,
        "cost": scores.cost,
    }
    show(
        args,
        result,
        ("layer", "score", "rank"),
        [
            (scores.numbers[row], numbers.kl(values[row], stderr[row]), rank + 1)
            for rank, row in enumerate(ranked)
        ],
    )
