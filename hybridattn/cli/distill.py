"""hybridattn distill: RADLADS steps 2 and 3."""

from __future__ import annotations

import argparse

from .. import radlads
from ..data.split import Texts, aligned_tokens, locate
from ..distributed.state import OVERLAP, REDUCE
from ..model.base import tokenizer_of
from ..model.model import Model
from ..model.plan import Plan
from ..pipeline.recipe_parts import DistillPart
from ..radlads.schedules import SCHEDULES
from .common import Parser, apply_threads, positive, refuse_overwrite, show, training_summary, writing
from .memory import add_memory, chosen

EXAMPLE = "hybridattn distill probe --plan plan.json --text wikipedia --tokens 100000 --out hybrid"


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "distill",
        "Step 2: train a hybrid, all of it, on the teacher's next-token predictions. Step 3, with "
        "--finetune-tokens: a short training on the text itself.",
        EXAMPLE,
    )
    p.add_argument("probe", help="folder made by hybridattn align; it holds the teacher too")
    p.add_argument("--plan", required=True, metavar="FILE", help="file made by hybridattn plan")
    p.add_argument(
        "--lr-mixers",
        type=float,
        default=DistillPart.lr_mixers,
        help="learning rate of linear mixers (default: %(default)s)",
    )
    p.add_argument(
        "--lr-rest",
        type=float,
        default=DistillPart.lr_rest,
        help="learning rate of the rest (default: %(default)s)",
    )
    p.add_argument(
        "--schedule",
        default=DistillPart.schedule,
        choices=SCHEDULES,
        help="of the mixers' learning rate (default: %(default)s)",
    )
    p.add_argument("--finetune-tokens", type=positive, metavar="N", help="tokens of step 3 (default: none)")
    p.add_argument(
        "--cache-teacher", metavar="FILE.npy", help="keep the teacher's outputs here and reuse them"
    )
    add_ranks(p)
    p.add_training(DistillPart.tokens, DistillPart.batch_size)
    add_memory(p)
    return p


def add_ranks(p: Parser) -> None:
    """--reduce, --leaves and --overlap."""
    p.add_argument(
        "--reduce",
        choices=REDUCE,
        help="with mpiexec: add gradients for the same bits on any number of ranks (default), or fast",
    )
    p.add_argument(
        "--leaves",
        type=positive,
        help="with mpiexec: parts of a step, added as a tree (default: 8); ranks beyond them idle",
    )
    p.add_argument(
        "--overlap",
        choices=OVERLAP,
        help="with mpiexec: send gradients during the backward pass (default: auto, between machines)",
    )


def run(args: argparse.Namespace) -> None:
    """Distil, save the hybrid, say how it went."""
    apply_threads(args)
    refuse_overwrite(args.probe, args.out)
    plan, per_step = Plan.load(args.plan), args.seq_len * args.batch_size
    steps, more = (max(1, tokens // per_step) for tokens in (args.tokens, args.finetune_tokens or per_step))
    with writing(args.out, args.force) as checkpoint:
        teacher = Model.from_pretrained(args.probe, compute=args.compute)
        hybrid = teacher.to_hybrid(plan)
        if args.memory:  # its linear mixers would count
            teacher = teacher.to_hybrid(range(len(teacher.layers)))
        teacher.gates[:] = 1.0  # with its softmax mixers alone the probe is the teacher
        texts = Texts(locate(args.text, "--text"), answers_only=args.answers_only)
        seen = aligned_tokens(args.probe, texts)
        data = texts.training(tokenizer_of(hybrid), args.tokens, args.seq_len, skip=seen)
        result = radlads.distill(
            hybrid,
            teacher,
            data,
            steps=steps,
            batch_size=args.batch_size,
            lr_mixers=args.lr_mixers,
            lr_rest=args.lr_rest,
            schedule=args.schedule,
            window_dropout=args.window_dropout,
            seed=args.seed,
            cache_teacher=args.cache_teacher,
            checkpoint=checkpoint,
            checkpoint_last=bool(args.finetune_tokens),
            progress=not args.quiet,
            **chosen(args),
        )
        del teacher
        summary, rows = training_summary(result.losses, steps * per_step, result.seconds, args.out)
        if args.finetune_tokens:
            tuned = radlads.finetune(
                hybrid,
                data,
                steps=more,
                batch_size=args.batch_size,
                seed=args.seed + 1,
                checkpoint=checkpoint / "finetune.safetensors",
                checkpoint_last=False,
                progress=not args.quiet,
                **chosen(args),
            )
            summary["finetune"], extra = training_summary(
                tuned.losses, more * per_step, tuned.seconds, args.out
            )
            rows = rows[:-1] + [[f"fine-tuning {name}", value] for name, value in extra[:-1]] + rows[-1:]
        hybrid.save_pretrained(args.out)
    show(args, summary, (), rows)
