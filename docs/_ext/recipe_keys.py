"""`{recipe-keys}`: every key of a recipe with its default and what its field says about it."""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from typing import Any

from command_line import plain
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from hybridattn.pipeline.recipe import Recipe


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
    said = {field.name: field.metadata.get("help") for field in dataclasses.fields(part)} if part else {}
    lines = []
    for name, value in defaults.items():
        more = plain(said.get(name))
        lines.append(f"- `{name} = {shown(value)}`" + (f": {more}" if more else ""))
    return [*lines, ""]


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
