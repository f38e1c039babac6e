"""hybridattn align: RADLADS step 1."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from .. import radlads
from ..data.split import Texts, locate, note_aligned
from ..errors import ConfigError, Unfinished
from ..model.base import tokenizer_of
from ..model.calibrated import INITS
from ..model.model import Model
from ..model.saved import named_options
from ..pipeline.recipe import MIXER
from ..pipeline.recipe_parts import AlignPart
from ..report import numbers
from .common import (
    Parser,
    apply_threads,
    refuse_overwrite,
    show,
    training_summary,
    writing,
)
from .memory import add_memory, chosen
from .models import MODEL_HELP
from .shards import UNFINISHED, shard

EXAMPLE = """\
hybridattn align smollm2-135m --text wikipedia --tokens 50000 --out probe
hybridattn align smollm2-135m --text wikipedia --out probe --folder work --shard 0/2"""


def mixer_spec(kind: str, options: Sequence[str]) -> dict[str, Any]:
    """{"kind": kind, "window": 64} from ["window=64"]; ConfigError for anything but NAME=NUMBER, or NAME=TEXT
    for an option whose values have names.
    """
    spec: dict[str, Any] = {"kind": kind}
    named = named_options(kind)
    for option in options:
        name, equals, value = option.partition("=")
        try:
            spec[name] = value if name in named else int(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"--option {option!r}: write it as NAME=NUMBER, for example window=64")
    return spec


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "align",
        "Step 1: give every layer of a teacher a linear mixer that imitates its softmax mixer. The result, "
        "the probe, holds both mixers in every layer; score, plan and distill start from it.",
        EXAMPLE,
    )
    p.add_argument("teacher", help=MODEL_HELP)
    p.add_argument(
        "--mixer", metavar="KIND", default=MIXER, help="kind of linear mixer (default: %(default)s)"
    )
    p.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the mixer, such as window=64 or output_gate=low_rank; may be repeated",
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
        "--init",
        choices=INITS,
        default=AlignPart.init,
        help="where the mixers start: the softmax weights alone, or fitted to the teacher on 8192 tokens "
        "(gated_delta, kda, gla, mamba2; default: %(default)s)",
    )
    p.add_argument(
        "--layerwise", action="store_true", help="one layer after the other: slower, memory of one layer"
    )
    p.add_argument("--folder", metavar="DIR", help="finished layers, to go on from")
    p.add_argument(
        "--shard", type=shard, metavar="I/N", help="only layers I, I + N, ..; --folder is where all meet"
    )
    p.add_training(AlignPart.tokens, AlignPart.batch_size)
    add_memory(p)
    return p


def run(args: argparse.Namespace) -> None:
    """Align, save the probe, say how it went."""
    apply_threads(args)
    refuse_overwrite(args.teacher, args.out)
    # shards run at the same time, and only the last one writes
    with nullcontext() if args.shard else writing(args.out, args.force) as checkpoint:
        teacher = Model.from_pretrained(args.teacher, compute=args.compute)
        texts = Texts(locate(args.text, "--text"), answers_only=args.answers_only)
        data = texts.training(tokenizer_of(teacher), args.tokens, args.seq_len)
        steps = max(1, args.tokens // (args.seq_len * args.batch_size))
        try:
            probe = radlads.align(
                teacher,
                mixer_spec(args.mixer, args.option),
                data,
                steps=steps,
                batch_size=args.batch_size,
                lr=args.lr or None,
                lr_final=args.lr_final,
                init=args.init,
                window_dropout=args.window_dropout,
                seed=args.seed,
                layerwise=args.layerwise,
                shard=args.shard,
                folder=args.folder,
                checkpoint=None if args.folder else checkpoint,
                checkpoint_last=False,
                progress=not args.quiet,
                **chosen(args),
            )
        except Unfinished as waiting:
            print(waiting, file=sys.stderr)
            raise SystemExit(UNFINISHED) from None
        with writing(args.out, args.force) if args.shard else nullcontext():
            probe.save_pretrained(args.out)
            note_aligned(args.out, texts, args.tokens)
    result = probe.train_result
    assert result is not None  # align sets it
    report = training_summary(result.losses, steps * args.seq_len * args.batch_size, result.seconds, args.out)
    if (cost := probe.calibration) is not None:
        report[0]["calibration"] = {"tokens": cost.tokens, "seconds": cost.seconds}
        report[1].insert(
            0, ["calibration", f"{numbers.count(cost.tokens)} tokens, {numbers.seconds(cost.seconds)}"]
        )
    show(args, report[0], (), report[1])
