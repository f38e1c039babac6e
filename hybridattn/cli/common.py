"""What the sub-commands share: the parser, common options, tables, text files."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from .._core import set_num_threads
from ..checks import LARGEST
from ..compute import COMPUTES
from ..distributed import by_first, current, is_writer
from ..errors import ConfigError
from ..files import refuse_foreign
from ..locks import beside, locked
from ..model.saved import is_hybrid
from ..radlads import checkpoint
from ..report import numbers
from ..results.progress import is_quiet, quiet

COLUMNS = 100  # of a table in a terminal
_LEAST = 24  # columns that a wrapped cell needs
_FIGURE = re.compile(r"[-+<>~]?[.\d]|-?$|nan|inf")  # how a figure begins; an empty cell is one

TEXT_HELP = (
    ".txt, .txt.gz, .jsonl or .parquet file, a folder of them or one that datasets saved, or built in: "
    "wikipedia, articles, bible"
)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Options as --tokens N, and room for them before their help."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return "X" if action.type is float else "N"


class Parser(argparse.ArgumentParser):
    """An argparse parser whose help ends with an example and whose errors are one line."""

    def __init__(self, name: str, description: str, example: str) -> None:
        indented = "\n".join(f"  {line}" for line in example.strip().splitlines())
        super().__init__(
            prog=f"hybridattn {name}",
            description=textwrap.fill(description, 79),
            epilog=f"example:\n{indented}\n",
            formatter_class=_Help,
            allow_abbrev=False,
        )
        messages = self.add_argument_group("messages")
        messages.add_argument("--quiet", action="store_true", help="no progress")
        messages.add_argument("--verbose", action="store_true", help="say on stderr what is done")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")

    def add_threads(self) -> None:
        """--threads."""
        self.add_argument(
            "--threads", type=positive, metavar="N", help="threads of the C core (default: one per core)"
        )

    def add_compute(self) -> None:
        """--compute."""
        self.add_argument(
            "--compute",
            choices=COMPUTES,
            default="float32",
            help="arithmetic of products: bfloat16 is faster where the processor has it, auto takes it there "
            "(default: %(default)s)",
        )

    def add_storage(self) -> None:
        """--dtype and --calibration."""
        self.add_argument(
            "--dtype", metavar="TYPE", default="float32",
            help="how weights are held: float32, auto (as in the files), bfloat16, float16, q8_0, q4_0, q4_1 "
            "(default: %(default)s)",
        )  # fmt: skip
        self.add_argument(
            "--calibration", metavar="FILE", help="text by which blocks of 8 or 4 bits are rounded"
        )

    def add_sampling(self, max_tokens: int) -> None:
        """How a text is continued."""
        self.add_argument(
            "--max-tokens",
            type=positive,
            default=max_tokens,
            help="tokens to write at most (default: %(default)s)",
        )
        self.add_argument(
            "--temperature",
            type=float,
            default=0.0,
            help="0 takes the likeliest token (default: %(default)s)",
        )
        self.add_argument(
            "--top-k", type=int, default=0, help="draw among the k likeliest, 0: all (default: %(default)s)"
        )
        self.add_argument(
            "--top-p",
            type=float,
            default=1.0,
            help="draw among this share of probability (default: %(default)s)",
        )
        self.add_argument(
            "--stop",
            action="append",
            default=[],
            metavar="TEXT",
            help="end before this text; may be repeated",
        )
        self.add_argument("--seed", type=natural, default=0, help="of the draws (default: %(default)s)")
        self.add_argument(
            "--cache-dtype",
            choices=("f32", "f16"),
            default="f32",
            help="how keys and values are kept, f16: in half the memory (default: %(default)s)",
        )
        self.add_argument(
            "--speculative",
            type=natural,
            default=0,
            metavar="TOKENS",
            help="guess so many tokens ahead, check them in one pass; the text stays the same (0: none)",
        )
        self.add_argument(
            "--draft",
            metavar="WHAT",
            help="what guesses: lookup (what followed the same tokens before, the default), linear (the "
            "model with all layers linear), or another model of the same vocabulary",
        )

    def add_answers_only(self) -> None:
        """--answers-only."""
        self.add_argument(
            "--answers-only",
            action="store_true",
            help="the text is rows of messages, and only what assistants say counts in losses and scores",
        )

    def add_json(self) -> None:
        """--json."""
        self.add_argument("--json", action="store_true", help="print JSON instead of a table")

    def add_force(self) -> None:
        """--force."""
        self.add_argument(
            "--force", action="store_true", help="write into a folder that holds other files, too"
        )

    def add_training(self, tokens: int, batch_size: int) -> None:
        """The options of a training step."""
        self.add_argument(
            "--text",
            required=True,
            metavar="FILE",
            help=TEXT_HELP + "; its first tenth is set aside for scores and evaluation",
        )
        self.add_answers_only()
        self.add_argument(
            "--tokens", type=positive, default=tokens, help="tokens to train on (default: %(default)s)"
        )
        self.add_argument(
            "--seq-len", type=positive, default=512, help="tokens per sequence (default: %(default)s)"
        )
        self.add_argument(
            "--batch-size",
            type=positive,
            default=batch_size,
            help="sequences per optimizer step (default: %(default)s)",
        )
        self.add_argument("--seed", type=natural, default=0, help="order of the text (default: %(default)s)")
        self.add_argument(
            "--window-dropout",
            type=float,
            default=0.0,
            metavar="SHARE",
            help="share of the steps in which window_linear hides its softmax window (default: 0)",
        )
        self.add_argument("--out", required=True, metavar="DIR", help="folder to save the model in")
        self.add_force()
        self.add_compute()
        self.add_threads()
        self.add_json()


MAX_LAYERS = 10_000  # far above any model; a mistyped range ends here


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    try:
        value = int(text.replace("_", ""))
    except ValueError:
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return _bounded(value)


def natural(text: str) -> int:
    """A whole number from 0 on, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return _bounded(int(text))


def _bounded(value: int) -> int:
    if value > LARGEST:
        raise argparse.ArgumentTypeError(f"{value} is more than {LARGEST}")
    return value


def fraction(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def layer_list(text: str) -> list[int]:
    """'3,5,8-10' -> [3, 5, 8, 9, 10], 'none' -> [], for argparse."""
    layers: set[int] = set()
    try:
        for part in text.split(",") if text != "none" else ():
            first, dash, last = part.partition("-")
            start, stop = int(first), int(last if dash else first)
            if start > stop or stop >= MAX_LAYERS:
                raise ValueError(part)
            layers.update(range(start, stop + 1))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers like 3,5,8-10, or none") from None
    return sorted(layers)


def apply_threads(args: argparse.Namespace) -> None:
    """Set the number of threads when the command line names one."""
    if args.threads:
        set_num_threads(args.threads)
        if (world := current()) is not None:
            world.check_threads()


def shows(args: argparse.Namespace) -> bool:
    """Whether a command whose result is a table shows bars beside it: on a terminal."""
    return sys.stderr.isatty() and not args.quiet


@contextmanager
def bars_and_log(args: argparse.Namespace) -> Iterator[None]:
    """--quiet and --verbose; whoever calls `main` has bars again afterwards."""
    before = is_quiet()
    if args.verbose:
        logging.basicConfig(
            level=logging.INFO, stream=sys.stderr, format="%(relativeCreated)d ms: %(message)s"
        )
    try:
        quiet(before or args.quiet)
        yield
    finally:
        quiet(before)


def refuse_overwrite(source: str, out: str) -> None:
    """ConfigError when the result would be written over the model that it is made from."""
    if Path(source).exists() and Path(source).resolve() == Path(out).resolve():
        raise ConfigError(f"--out {out!r} is the model to read; give another folder")


@contextmanager
def writing(out: str, force: bool) -> Iterator[Path]:
    """Keep other runs out of an output folder; gives the folder of its checkpoint, which is taken away at the
    end. DataError when the folder holds what is no model of ours, unless `force`.
    """
    by_first(lambda: refuse_foreign(out, is_hybrid, force))
    with locked(beside(out, "lock")) if is_writer() else nullcontext():
        yield beside(out, "checkpoint")
        if is_writer():
            checkpoint.remove(beside(out, "checkpoint"))


def show(args: argparse.Namespace, data: Any, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print `data` as JSON when asked for, else a table of at most COLUMNS columns where last cells can be
    wrapped: figures right, words left.
    """
    if args.json:
        json.dump(data, sys.stdout, indent=1, ensure_ascii=False)
        print()
        return
    lines = [[str(cell) for cell in row] for row in ([header, *rows] if header else rows)]
    body = lines[1:] if header else lines
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    right = [i > 0 and all(_FIGURE.match(line[i]) for line in body) for i in range(len(widths))]
    room = COLUMNS - sum(widths[:-1]) - 2 * (len(widths) - 1)
    for line in lines:
        wrap = widths[-1] > room >= _LEAST and not right[-1]
        last = textwrap.wrap(line[-1], room) if wrap else [line[-1]]
        for number, part in enumerate(last or [""]):
            cells = [*(line[:-1] if number == 0 else [""] * (len(line) - 1)), part]
            placed = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right)]
            print("  ".join(placed).rstrip())


def training_summary(
    losses: Any, tokens: int, seconds: float, out: str
) -> tuple[dict[str, Any], list[list[str]]]:
    """(JSON data, table rows) that tell how a training step went."""
    flat = losses.mean(axis=1) if losses.ndim > 1 else losses
    tail = flat[-max(1, len(flat) // 10) :]
    data: dict[str, Any] = {
        "tokens": tokens,
        "steps": len(flat),
        "first_loss": float(flat[0]),
        "last_loss": float(tail.mean()),
        "seconds": seconds,
        "tokens_per_second": tokens / seconds if seconds else None,
        "saved": out,
    }
    rows = [
        ["tokens", numbers.count(tokens)],
        ["first loss", numbers.kl(data["first_loss"])],
        ["last loss", numbers.kl(data["last_loss"])],
        ["time", numbers.seconds(seconds)],
        ["saved", out],
    ]
    return data, rows
