"""hybridattn quantize: store a model in 16, 8 or 4 bits."""

from __future__ import annotations

import argparse

from ..checks import check_choice
from ..export.gguf import FILE
from ..model.model import SAVE_DTYPES, Model
from ..report import numbers
from .common import Parser, apply_threads, refuse_overwrite, show, writing
from .models import MODEL_HELP, stored_as

EXAMPLE = """\
hybridattn quantize smollm2-135m --dtype q8_0 --out small
hybridattn quantize smollm2-135m --dtype q4_0 --calibration wikipedia --out smaller"""


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "quantize",
        "Write a model with weights of fewer bits. bfloat16 and float16 are a folder of safetensors; blocks "
        "of 8 or 4 bits are a GGUF file, which this package and llama.cpp read, of models that fit into it.",
        EXAMPLE,
    )
    p.add_argument("model", help=MODEL_HELP)
    p.add_argument("--dtype", required=True, metavar="TYPE", help="bfloat16, float16, q8_0, q4_0 or q4_1")
    p.add_argument("--calibration", metavar="FILE", help="text by which blocks are rounded (GPTQ)")
    p.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    p.add_force()
    p.add_threads()
    p.add_json()
    return p


def run(args: argparse.Namespace) -> None:
    """Convert and save."""
    kinds = ("bfloat16", "float16", "q8_0", "q4_0", "q4_1")
    check_choice("--dtype", args.dtype, kinds)
    refuse_overwrite(args.model, args.out)
    apply_threads(args)
    model = Model.from_pretrained(args.model)
    before = model.nbytes
    if args.dtype in SAVE_DTYPES and args.calibration is None:
        with writing(args.out, args.force):
            model.save_pretrained(args.out, dtype=args.dtype)
        saved, after = args.out, model.astype(args.dtype).nbytes
    else:
        small = stored_as(model, args) if args.calibration is not None else model.astype(args.dtype)
        result = small.export(args.out, "gguf", force=args.force)
        saved, after = str(result.folder / FILE), small.nbytes
    data = {"saved": saved, "dtype": args.dtype, "bytes_before": before, "bytes": after}
    rows = [["before", numbers.size(before)], ["after", numbers.size(after)], ["saved", saved]]
    show(args, data, (), rows)
