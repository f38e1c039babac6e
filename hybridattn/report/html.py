"""Blocks to one self-contained HTML file: inline style and SVG, no scripts, nothing fetched."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from . import blocks as d
from .style import CSS


def render(blocks: list[Any], figures: dict[str, Any] | None) -> str:
    """The whole file."""
    title = next((b.text for b in blocks if isinstance(b, d.Heading)), "hybridattn")
    body = "\n".join(_block(b, figures or {}) for b in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n'
        f"<style>\n{CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"<footer>Written by hybridattn. The same numbers are in report.json.</footer>\n</body>\n</html>\n"
    )


def _block(block: Any, figures: dict[str, Any]) -> str:
    if isinstance(block, d.Heading):
        return f"<h{block.level}>{_inline(block.text)}</h{block.level}>"
    if isinstance(block, d.Paragraph):
        return (
            f'<p class="{block.role}">{_inline(block.text)}</p>'
            if block.role
            else f"<p>{_inline(block.text)}</p>"
        )
    if isinstance(block, d.Bullets):
        return '<ul class="legend">' + "".join(f"<li>{_inline(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, d.Facts):
        items = "".join(
            f"<div><dd>{escape(value)}</dd><dt>{escape(label)}</dt></div>" for value, label in block.items
        )
        return f'<dl class="facts">{items}</dl>'
    if isinstance(block, d.Table):
        return _table(block)
    if isinstance(block, d.Figure):
        return _figure(block, figures)
    if isinstance(block, d.LayerMap):
        return _layer_map(block)
    if isinstance(block, d.Samples):
        items = "".join(
            f'<div class="sample"><h3><i class="dot" style="background:var(--{colour})"></i>'
            f"{escape(label)}</h3>"
            f'<p><span class="prompt">{escape(block.prompt)}</span>{escape(text)}</p></div>'
            for label, colour, text in block.items
        )
        return f'<div class="samples">{items}</div>'
    if isinstance(block, d.Details):
        inner = "\n".join(_block(b, figures) for b in block.blocks)
        return f"<details><summary>{escape(block.summary)}</summary>\n{inner}\n</details>"
    if isinstance(block, d.Code):
        return f"<pre><code>{escape(block.text.strip())}</code></pre>"
    raise TypeError(type(block).__name__)


def _table(block: d.Table) -> str:
    head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in block.header)
    rows = []
    for index, row in enumerate(block.rows):
        mark = ' class="marked"' if index in block.marked else ""
        cells = f'<th scope="row">{_inline(row[0])}</th>' + "".join(
            f"<td>{_cell(cell)}</td>" for cell in row[1:]
        )
        rows.append(f"<tr{mark}>{cells}</tr>")
    caption = f"<figcaption>{_inline(block.caption)}</figcaption>" if block.caption else ""
    kind = ' class="text"' if block.text else ""
    return (
        f'<figure class="table"><div class="scroll" tabindex="0"><table{kind}>'
        f"<thead><tr>{head}</tr></thead><tbody>" + "".join(rows) + f"</tbody></table></div>{caption}</figure>"
    )


def _cell(text: str) -> str:
    """A table cell; a standard error or an interval is set smaller than its value."""
    return re.sub(r"(±\u00a0[\d.,]+|\([+−]?[\d.]+ to [+−]?[\d.]+\))", r"<small>\1</small>", _inline(text))


def _figure(block: d.Figure, figures: dict[str, Any]) -> str:
    chart = figures.get(block.name)
    if chart is None:
        return ""
    pictures = "".join(
        f'<div class="{size}" role="img" aria-label="{escape(block.alt)}">{chart[size]}</div>'
        for size in ("wide", "narrow")
    )
    return f'<figure class="chart">{pictures}<figcaption>{_inline(block.caption)}</figcaption></figure>'


def _layer_map(block: d.LayerMap) -> str:
    rows = []
    for label, colour, layers in block.rows:
        cells = "".join(
            f'<i class="on" title="layer {i}: softmax"></i>'
            if i in layers
            else f'<i title="layer {i}: linear"></i>'
            for i in range(block.num_layers)
        )
        spoken = f"{label}: softmax layers " + ", ".join(map(str, layers))
        rows.append(
            f'<div class="row" style="--on:var(--{colour})"><span>{escape(label)}</span>'
            f'<div class="cells" role="img" aria-label="{escape(spoken)}">{cells}</div></div>'
        )
    return (
        '<figure class="map">'
        + "".join(rows)
        + "<figcaption>Coloured: softmax. Grey: linear. The first layer is on the "
        "left.</figcaption></figure>"
    )


def _inline(text: str) -> str:
    """Escaped text with `code` and **bold**; a number and its unit stay on one line."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
    return re.sub(r"(?<=\d) (?=[±→]|(?:ms|s|min|[KMG]iB|B)\b)|(?<=[±→]) (?=\d)", "\u00a0", html)
