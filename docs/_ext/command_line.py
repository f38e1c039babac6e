"""`{command-line}`: every sub-command of `hybridattn`, read from the parsers that the program itself uses."""

from __future__ import annotations

import argparse
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from hybridattn.cli import COMMANDS, load

MARKS = re.compile(r"[\\*_<>\[\]{}|#$]")


class CommandLine(SphinxDirective):
    """A section for each command: what it does, its usage, its options, examples."""

    def run(self) -> list[nodes.Node]:
        parts = [section(name, load(name).parser()) for name in COMMANDS]
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


def section(name: str, parser: argparse.ArgumentParser) -> str:
    """One command as Markdown."""
    lines = [f"## {name}", "", plain(parser.description), "", "```text", usage(parser), "```", ""]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if actions:
            title = (group.title or "options").rstrip(":")
            lines += [f"**{title[:1].upper()}{title[1:]}**", ""]
            lines += [line for action in actions for line in entry(parser, action)]
    return "\n".join([*lines, *examples(parser)])


def usage(parser: argparse.ArgumentParser) -> str:
    return parser.format_usage().removeprefix("usage: ").replace("\n       ", "\n").rstrip()


def entry(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    """One option as an item of a definition list."""
    formatter = parser._get_formatter()
    term = formatter._format_action_invocation(action)
    return [f"`{term}`", f": {plain(formatter._expand_help(action))}", ""]


def examples(parser: argparse.ArgumentParser) -> list[str]:
    """The parser's epilog is `example:` and indented commands."""
    commands = [line.strip() for line in (parser.epilog or "").splitlines()[1:] if line.strip()]
    return ["**Examples**", "", "```console", *(f"$ {line}" for line in commands), "```"] if commands else []


def plain(text: str | None) -> str:
    """Help text means what it says: nothing in it is Markdown but `code`."""
    parts = " ".join((text or "").split()).split("`")
    if len(parts) % 2 == 0:
        parts = ["\\`".join(parts)]
    return "`".join(part if n % 2 else MARKS.sub(r"\\\g<0>", part) for n, part in enumerate(parts))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
