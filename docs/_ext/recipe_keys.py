"""`{recipe-keys}`: every key of a recipe with its default and what its dataclass says about it.

What it says is the field's `help`, where there is one, or else the comment beside it in the source.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from typing import Any

from command_line import plain
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from hybridattn.pipeline.recipe import Recipe

LINE = re.compile(r"^    (\w+): [^#\n]*(?:# (.*))?$")
COMMENT = re.compile(r"^    # (.*)$")


class RecipeKeys(SphinxDirective):
    """A section for each table of the built-in recipe."""

    def run(self) -> list[nodes.Node]:
        written = Recipe().to_toml()
        defaults = tomllib.loads(written)
        lines = keys(Recipe, {name: v for name, v in defaults.items() if not isinstance(v, dict)})
        for field in dataclasses.fields(Recipe):
            part = getattr(Recipe(), field.name)
            if isinstance(defaults.get(field.name), dict):
                known = dataclasses.is_dataclass(part)
                lines += [f"## {field.name}", "", plain(inspect.getdoc(part)) if known else "", ""]
                lines += keys(type(part) if known else None, defaults[field.name])
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def keys(part: type | None, defaults: dict[str, Any]) -> list[str]:
    """A list of keys; part: the dataclass, None for a table of free keys."""
    said = comments(part) if part else {}
    lines = []
    for name, value in defaults.items():
        more = plain(said.get(name))
        lines.append(f"- `{name} = {shown(value)}`" + (f": {more}" if more else ""))
    return [*lines, ""]


def comments(part: type) -> dict[str, str]:
    """What a dataclass says of its fields: the comment lines above one, and the comment after it."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(part).splitlines():
        if comment := COMMENT.match(line):
            above.append(comment[1])
        elif field := LINE.match(line):
            found[field[1]] = " ".join([*above, field[2] or ""]).strip()
            above = []
        else:
            above = []
    for field_ in dataclasses.fields(part):
        found[field_.name] = field_.metadata.get("help") or found.get(field_.name, "")
    return found


def shown(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("recipe-keys", RecipeKeys)
    return {"parallel_read_safe": True}
