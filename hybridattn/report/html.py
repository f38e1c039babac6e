"""Blocks to one self-contained HTML file: inline style and SVG, no scripts, nothing fetched.

The page is a Jinja template, page.html.jinja, and its style page.css.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from . import blocks as d


def render(blocks: list[Any], figures: dict[str, Any] | None) -> str:
    """The whole file."""
    title = next((b.text for b in blocks if isinstance(b, d.Heading)), "hybridattn")
    css = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    page: str = _template().render(title=title, css=css, blocks=blocks, charts=figures or {})
    return page.lstrip()


@cache
def _template() -> Any:
    import jinja2  # slow: 0.07 s that only a report needs

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        loader=jinja2.PackageLoader("hybridattn", "report"),
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["inline"] = _inline
    environment.filters["cell"] = _cell
    return environment.get_template("page.html.jinja")


def _cell(text: str) -> str:
    """A table cell; a standard error or an interval is set smaller than its value."""
    return re.sub(r"(±\u00a0[\d.,]+|\([+−]?[\d.]+ to [+−]?[\d.]+\))", r"<small>\1</small>", _inline(text))


def _inline(text: str) -> str:
    """Escaped text with `code` and **bold**; a number and its unit stay on one line."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
    return re.sub(r"(?<=\d) (?=[±→]|(?:ms|s|min|[KMG]iB|B)\b)|(?<=[±→]) (?=\d)", "\u00a0", html)
