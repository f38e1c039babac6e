"""hybridattn completion: what a shell needs to complete the commands."""

from __future__ import annotations

import argparse

from ..errors import ConfigError
from . import COMMANDS, load
from .common import Parser

EXAMPLE = "hybridattn completion bash"


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "completion",
        "Print the completion of all commands and options for a shell; put it where the shell looks, such as "
        "~/.local/share/bash-completion/completions/hybridattn. Needs shtab: pip install shtab",
        EXAMPLE,
    )
    p.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell to complete in")
    return p


def run(args: argparse.Namespace) -> None:
    """Print the script."""
    try:
        import shtab
    except ImportError:
        raise ConfigError("completion needs shtab: pip install shtab") from None
    whole = argparse.ArgumentParser("hybridattn")
    verbs = whole.add_subparsers(dest="command")
    for name, line in COMMANDS.items():
        own = load(name).parser()
        # argparse reads % in help as a format, and shtab writes help as it is
        verbs.add_parser(name, help=line.replace("%", "%%"))
        verbs.choices[name] = own
    print(shtab.complete(whole, args.shell))
