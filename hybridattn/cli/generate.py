"""hybridattn generate: continue a text."""

from __future__ import annotations

import argparse
import json
import sys

from ..errors import DataError
from .common import Parser, apply_threads
from .models import MODEL_HELP, load_model, sampling

EXAMPLE = """\
hybridattn generate hybrid "The moon is" --max-tokens 40
hybridattn generate hybrid --chat "Why is the sky blue?" --temperature 0.7 --seed 1"""


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "generate", "Continue a text with a teacher or a hybrid; the text appears as it is made.", EXAMPLE
    )
    p.add_argument("model", help=MODEL_HELP)
    p.add_argument("prompt", nargs="?", help="text to continue (default: read from standard input)")
    p.add_sampling(128)
    p.add_storage()
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
    model, options = load_model(args, args.model), sampling(args)
    given: str | list[int] = prompt
    if args.chat:
        if model.tokenizer is None:
            raise DataError("the model has no tokenizer, so no chat template; leave --chat out")
        prompt = model.tokenizer.apply_chat_template([{"role": "user", "content": prompt}])
        given = model.tokenizer.encode(prompt, add_special_tokens=False)  # the template says all there is
    if args.json:
        text = "".join(model.stream(given, **options))
        json.dump({"prompt": prompt, "text": text}, sys.stdout, ensure_ascii=False)
        print()
        return
    if not args.chat:
        print(prompt, end="", flush=True)
    for piece in model.stream(given, **options):
        print(piece, end="", flush=True)
    print()
