"""`{public-names} MODULE`: what a module offers, from its docstrings; the names of `__all__`, or without it
the module's own names that do not begin with an underscore.

Docstrings here are plain text, so a step before autodoc turns them into reStructuredText: nothing in them is
markup but `code`, lists and indented examples.
"""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import hybridattn

logger = logging.getLogger(__name__)
MODULES = [hybridattn, *(getattr(hybridattn, name) for name in hybridattn._MODULES)]
ITEM = re.compile(r"([-*] |\d+\. )")


class PublicNames(SphinxDirective):
    """The module's docstring, then its classes, functions and constants."""

    required_arguments = 1
    option_spec = {"only": str.split}  # noqa: RUF012  # docutils reads it from the class

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        module = named(name)
        lines: list[str] = []
        if "only" not in self.options:
            lines += [*as_rst((module.__doc__ or "").expandtabs().splitlines()), ""]
        for member in self.options.get("only") or public(module):
            lines += entry(name, member, getattr(module, member))
        holder = nodes.Element()
        self.state.nested_parse(StringList(lines, source=f"<docstrings of {name}>"), 0, holder)
        return holder.children


def named(name: str) -> ModuleType:
    """`hybridattn`, or one of its modules: some are known by a name that is no path."""
    package, _, member = name.partition(".")
    return getattr(hybridattn, member) if package == "hybridattn" and member else hybridattn


def public(module: ModuleType) -> list[str]:
    """Names that a module offers and no page before it has: no modules, nor other libraries' names."""
    listed = getattr(module, "__all__", None)
    if listed is None:
        listed = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
    return [name for name in listed if home(getattr(module, name)) in ("", module.__name__)]


def home(value: Any) -> str:
    """The page of a class or function: the package itself, or the first of its modules that offers it."""
    if inspect.ismodule(value):
        return "a module"
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return ""
    name = getattr(value, "__name__", "")
    found = [
        m for m in MODULES if any(getattr(m, n, None) is value for n in (name, *getattr(m, "__all__", ())))
    ]
    return found[0].__name__ if found else ""


def entry(module: str, name: str, value: Any) -> list[str]:
    """One name as an autodoc directive."""
    if inspect.isclass(value):
        options = ["   :members:"]
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        return [f".. {kind}:: {module}.{name}", *options, ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {module}.{name}", ""]
    return [f".. py:data:: {module}.{name}", "   :no-index:", ""]


def as_rst(lines: list[str]) -> list[str]:
    """A plain docstring as reStructuredText; after the first line the others have a common indent."""
    text = inspect.cleandoc("\n".join(lines)).splitlines()
    out: list[str] = []
    literal = False
    for number, line in enumerate(text):
        before = text[number - 1] if number else ""
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            out.append("")
            continue
        if indent >= 4 and (literal or not before.strip()):
            if not literal:
                out += ["::", ""]
            literal = True
            out.append(line)
            continue
        if literal:
            literal = False
            if before.strip():
                out.append("")
        item = ITEM.match(line.strip())
        if item and before.strip() and not ITEM.match(before.strip()) and not before.startswith("  "):
            out.append("")
        bullet = item[0] if item else ""
        body = line if indent < 4 else line.strip()
        out.append(
            body[: indent + len(bullet)] + escape(body[indent + len(bullet) :]) if item else escape(body)
        )
    return out


def escape(line: str) -> str:
    """`code` as ``code``; every other mark as itself."""
    parts = line.split("`")
    if len(parts) % 2 == 0:
        return re.sub(r"([\\`*_|])", r"\\\1", line)
    return "".join(
        f"``{part}``" if number % 2 else re.sub(r"([\\*_|])", r"\\\1", part)
        for number, part in enumerate(parts)
    )


def process_docstring(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    made_up = len(lines) and lines[0].startswith("Alias for field number")  # of a NamedTuple's fields
    lines[:] = [] if made_up else as_rst(lines)


def nothing_missing(app: Sphinx, env: BuildEnvironment) -> None:
    """Every name of `hybridattn` is on a page, and every module has one."""
    described = env.domaindata["py"]["objects"]
    names = [f"hybridattn.{name}" for name in hybridattn.__all__ if callable(getattr(hybridattn, name))]
    pages = {
        docname.rpartition("/")[2] for docname in env.found_docs if docname.startswith("reference/python/")
    }
    for name in names:
        if name not in described:
            logger.warning("%s is on no page of the reference", name)
    for name in hybridattn._MODULES:
        members = public(getattr(hybridattn, name))
        if any(callable(getattr(getattr(hybridattn, name), m)) for m in members) and name not in {
            *pages,
            "errors",
        }:
            logger.warning("hybridattn.%s has no page docs/reference/python/%s.md", name, name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("env-check-consistency", nothing_missing)
    return {"parallel_read_safe": True}
