"""The `hybridattn` command: finds the sub-command, runs it, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 an error that is explained on stderr, 2 wrong usage, 130 stopped by Ctrl-C, by SIGTERM
or by the end of the terminal: all three keep what was finished.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress

from ..checks import nearest
from ..errors import HybridAttnError
from . import COMMANDS, load, ranks

USAGE = """\
usage: hybridattn COMMAND [OPTIONS]

Turn a pretrained softmax Transformer into a hybrid of softmax and linear attention, on an ordinary CPU.

{commands}

hybridattn COMMAND --help explains one command.

example:
  hybridattn run --demo --out demo
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be gone
            print("\nstopped; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing reads on: end quietly
        return 0
    except SystemExit as stop:  # argparse, after help or a usage error
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except Exception as error:
        if not _expected(error):
            raise
        print(f"error: {describe(error)}", file=sys.stderr)
        return 1


def _stopped_as_by_ctrl_c() -> AbstractContextManager[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does, unless something else is made of them (by nohup)."""
    from ..stop import on_signals  # slow: loads the core, as above

    return on_signals("SIGINT", "SIGTERM", "SIGHUP")


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if arguments[:1] == ["help"] and len(arguments) > 1:
            return _main([arguments[1], "--help"])
        width = max(map(len, COMMANDS))
        listed = "\n".join(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items())
        print(USAGE.format(commands=listed), end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version"):
        from .. import __version__  # slow: loads the core, 0.1 s that no command's help needs

        print(f"hybridattn {__version__}")
        return 0
    if name not in COMMANDS:
        print(f'error: unknown command "{name}"{nearest(name, COMMANDS)}', file=sys.stderr)
        return 2
    from .common import bars_and_log  # slow: loads the core, as above

    ranks.first_speaks()
    command = load(name)
    parser = command.parser()
    options = parser.parse_intermixed_args(rest)
    with bars_and_log(options), _stopped_as_by_ctrl_c():
        ranks.run(name, command.run, options)
    sys.stdout.flush()
    return 0


def _expected(error: Exception) -> bool:
    """Errors that say what is wrong with what the user gave; anything else is a bug, with a traceback."""
    # the core says in plain ValueErrors what it was given and what is allowed
    return isinstance(error, (HybridAttnError, OSError, MemoryError)) or type(error) is ValueError


def describe(error: Exception) -> str:
    """One line for a user."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return (
            f"out of memory{f': {error}' if str(error) else ''}; use a smaller batch size or sequence length"
        )
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
