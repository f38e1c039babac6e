"""hybridattn score: layer scores by KL divergence."""

from __future__ import annotations

import argparse

from ..recipe import PlanPart, ScorePart
from .common import Parser, apply_threads, positive, show

EXAMPLE = """\
hybridattn score probe --method kl_gate --out scores.json
hybridattn score probe --method kl_replace --text wikipedia --tokens 4096"""


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
        default=PlanPart.method,
        help="how to score; hybridattn info lists the methods (default: %(default)s)",
    )
    p.add_argument(
        "--text",
        default=ScorePart.text,
        metavar="FILE",
        help="what scores are read on: recall (synthetic prompts), a text file, or wikipedia or articles; of "
        "a text, a part that align and distill leave out (default: %(default)s)",
    )
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
    p.add_argument("--seed", type=int, default=0, help="of recall prompts and of the method random")
    p.add_argument("--out", metavar="FILE", help="save the scores as JSON, for hybridattn plan")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    p.add_threads()
    p.add_json()
    return p


def run(args: argparse.Namespace) -> None:
    """Score, save, print one row per layer from the highest score to the lowest."""
    from .. import select
    from ..model import Model
    from ..pipeline.texts import Texts, locate, tokenizer_of
    from ..recall import recall_prompts
    from ..report import numbers

    apply_threads(args)
    probe = Model.from_pretrained(args.probe)
    if args.text == "recall":
        count = max(1, args.tokens // args.seq_len)
        data = recall_prompts(tokenizer_of(probe), count, args.seq_len, args.seed)
    else:
        texts = Texts(locate(args.text, "--text"))
        data = texts.read("scoring", tokenizer_of(probe), args.tokens, args.seq_len)
    alpha = args.alpha or 0.5
    scores = select.score(probe, data, args.method, alpha=alpha, seed=args.seed, progress=not args.quiet)
    if args.out:
        scores.save(args.out)
    values, stderr = numbers.finite_list(scores.values), numbers.finite_list(scores.stderr)
    order = sorted(range(len(values)), key=lambda layer: scores.rank[layer])
    result = {
        "method": scores.method,
        "text": scores.text,
        "values": values,
        "stderr": stderr,
        "order": order,
        "all_linear_kl": numbers.finite(scores.all_linear_kl),
        "sequences": scores.num_sequences,
        "seconds": scores.seconds,
    }
    show(
        args,
        result,
        ("layer", "score", "rank"),
        [(layer, numbers.kl(values[layer], stderr[layer]), rank + 1) for rank, layer in enumerate(order)],
    )
