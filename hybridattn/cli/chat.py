"""hybridattn chat: a conversation of many turns."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from ..model.chat import Chat
from .common import Parser, apply_threads
from .models import MODEL_HELP, load_model, sampling

EXAMPLE = """\
hybridattn chat smollm2-135m --system "You answer in one sentence."
hybridattn chat hybrid --temperature 0.7 --seed 1"""
HELP = "/new begins anew, /quit or the end of input ends; Ctrl-C ends an answer"


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "chat",
        "Talk with a model: a line is a turn, the answer appears as it is made, and what was said stays in "
        f"mind. {HELP}.",
        EXAMPLE,
    )
    p.add_argument("model", help=MODEL_HELP)
    p.add_argument("--system", metavar="TEXT", help="a first message that says how to answer")
    p.add_argument("--template", metavar="NAME", help="which of the tokenizer's chat templates")
    p.add_sampling(512)
    p.add_storage()
    p.add_compute()
    p.add_threads()
    p.add_argument("--json", action="store_true", help="print the whole conversation as JSON at its end")
    return p


def run(args: argparse.Namespace) -> None:
    """Read turns to the end."""
    apply_threads(args)
    model, options = load_model(args, args.model), sampling(args)

    def begin() -> Chat:
        return Chat(model, args.system, args.template)

    chat, shown = begin(), sys.stdin.isatty() and not args.quiet
    if shown:
        print(f"{HELP}.", file=sys.stderr)
    while (line := _read(shown)) is not None:
        if line == "/quit":
            break
        if line == "/new":
            chat = begin()
        elif line:
            _turn(chat, line, options, silent=args.json)
    if args.json:
        json.dump(chat.messages, sys.stdout, indent=1, ensure_ascii=False)
        print()


def _read(shown: bool) -> str | None:
    """A line, None at the end of the input."""
    if shown:
        print("> ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line.strip() if line else None


def _turn(chat: Chat, line: str, options: dict[str, Any], silent: bool) -> None:
    """One answer. Ctrl-C at a terminal ends it there, and the conversation goes on."""
    try:
        for piece in chat.stream(line, **options):
            if not silent:
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    if not silent:
        print(flush=True)
