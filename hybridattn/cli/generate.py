"""hybridattn generate: continue a text."""

from __future__ import annotations

import argparse
import json
import sys

from ..errors import DataError
from ..model.model import Model
from .common import Parser, apply_threads, natural, positive

EXAMPLE = """\
hybridattn generate hybrid "The moon is" --max-tokens 40
hybridattn generate hybrid --chat "Why is the sky blue?" --temperature 0.7 --seed 1"""


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "generate", "Continue a text with a teacher or a hybrid; the text appears as it is made.", EXAMPLE
    )
    p.add_argument("model", help="model folder, .gguf file, hub id, or smollm2-135m (built in)")
    p.add_argument("prompt", nargs="?", help="text to continue (default: read from standard input)")
    p.add_argument(
        "--max-tokens", type=positive, default=128, help="tokens to write at most (default: %(default)s)"
    )
    p.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the likeliest token (default: %(default)s)"
    )
    p.add_argument(
        "--top-k", type=int, default=0, help="draw among the k likeliest, 0: all (default: %(default)s)"
    )
    p.add_argument(
        "--top-p", type=float, default=1.0, help="draw among this share of probability (default: %(default)s)"
    )
    p.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be repeated"
    )
    p.add_argument("--seed", type=natural, default=0, help="of the draws (default: %(default)s)")
    p.add_argument(
        "--cache-dtype",
        choices=("f32", "f16"),
        default="f32",
        help="how keys and values are kept, f16: in half the memory (default: %(default)s)",
    )
    p.add_argument("--chat", action="store_true", help="put the prompt into the model's chat template")
    p.add_compute()
    p.add_threads()
    p.add_argument("--json", action="store_true", help="print prompt and continuation as JSON when done")
    return p


def run(args: argparse.Namespace) -> None:
    """Stream the continuation to standard output."""
    prompt = sys.stdin.read() if args.prompt is None else args.prompt
    if not prompt.strip():
        raise DataError("the prompt is empty; give some text to continue")
    apply_threads(args)
    model = Model.from_pretrained(args.model, compute=args.compute)
    if args.chat:
        if model.tokenizer is None:
            raise DataError("the model has no tokenizer, so no chat template; leave --chat out")
        prompt = model.tokenizer.apply_chat_template([{"role": "user", "content": prompt}])
    options = {
        "max_new_tokens": args.max_tokens,
        "temperature": args.temperature,
        "top_k": args.top_k,
        "top_p": args.top_p,
        "stop": args.stop,
        "seed": args.seed,
        "cache_dtype": args.cache_dtype,
    }
    if args.json:
        json.dump(
            {"prompt": prompt, "text": model.generate(prompt, **options)}, sys.stdout, ensure_ascii=False
        )
        print()
        return
    if not args.chat:
        print(prompt, end="", flush=True)
    for piece in model.stream(prompt, **options):
        print(piece, end="", flush=True)
    print()
