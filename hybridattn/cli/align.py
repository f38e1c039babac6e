"""hybridattn align: RADLADS step 1."""

from __future__ import annotations

import argparse

from .. import radlads
from ..data.split import Texts, locate, note_aligned
from ..model.base import tokenizer_of
from ..model.model import Model
from ..pipeline.recipe_parts import AlignPart
from .common import Parser, apply_threads, mixer_spec, refuse_overwrite, show, training_summary, writing

EXAMPLE = "hybridattn align smollm2-135m --text wikipedia --tokens 50000 --out probe"


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "align",
        "Step 1: give every layer of a teacher a linear mixer that imitates its softmax mixer. The result, "
        "the probe, holds both mixers in every layer; score, plan and distill start from it.",
        EXAMPLE,
    )
    p.add_argument("teacher", help="model folder, .gguf file, hub id, or smollm2-135m (built in)")
    p.add_argument(
        "--mixer", metavar="KIND", default="window_linear", help="kind of linear mixer (default: %(default)s)"
    )
    p.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="option of the mixer, such as window=64; may be repeated",
    )
    p.add_argument(
        "--lr",
        type=float,
        default=AlignPart.lr,
        help="learning rate at the start (default: the mixer's own, see radlads.align_lr)",
    )
    p.add_argument(
        "--lr-final", type=float, default=AlignPart.lr_final, help="and at the end (default: %(default)s)"
    )
    p.add_argument(
        "--layerwise", action="store_true", help="one layer after the other: slower, memory of one layer"
    )
    p.add_training(AlignPart.tokens, AlignPart.batch_size)
    return p


def run(args: argparse.Namespace) -> None:
    """Align, save the probe, say how it went."""
    apply_threads(args)
    refuse_overwrite(args.teacher, args.out)
    with writing(args.out, args.force) as checkpoint:
        teacher = Model.from_pretrained(args.teacher, compute=args.compute)
        texts = Texts(locate(args.text, "--text"))
        data = texts.training(tokenizer_of(teacher), args.tokens, args.seq_len)
        steps = max(1, args.tokens // (args.seq_len * args.batch_size))
        probe = radlads.align(
            teacher,
            mixer_spec(args.mixer, args.option),
            data,
            steps=steps,
            batch_size=args.batch_size,
            lr=args.lr or None,
            lr_final=args.lr_final,
            seed=args.seed,
            layerwise=args.layerwise,
            checkpoint=checkpoint,
            checkpoint_last=False,
            progress=not args.quiet,
        )
        probe.save_pretrained(args.out)
        note_aligned(args.out, texts, args.tokens)
    result = probe.train_result
    assert result is not None  # align sets it
    report = training_summary(result.losses, steps * args.seq_len * args.batch_size, result.seconds, args.out)
    show(args, report[0], (), report[1])
