"""Blocks to Markdown (GitHub's tables). Charts are PNG files beside the report, under figures/."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from . import blocks as d


def render(blocks: list[Any], figures: dict[str, Any] | None) -> str:
    """The whole file."""
    return "\n\n".join(part for part in (_block(b, figures or {}) for b in blocks) if part) + "\n"


def _block(block: Any, figures: dict[str, Any]) -> str:
    if isinstance(block, d.Heading):
        return f"{'#' * block.level} {_inline(block.text)}"
    if isinstance(block, d.Paragraph):
        text = _inline(block.text)
        return f"*{text}*" if block.role == "note" else text
    if isinstance(block, d.Bullets):
        return "\n".join(f"- {_inline(item)}" for item in block.items)
    if isinstance(block, d.Facts):
        return _table(
            [label for _, label in block.items], [[f"**{value}**" for value, _ in block.items]], first="---"
        )
    if isinstance(block, d.Table):
        rows = [
            [f"**{cell}**" if index in block.marked and cell != "–" else cell for cell in row]
            for index, row in enumerate(block.rows)
        ]
        table = _table(block.header, rows, rest="---" if block.text else "---:")
        return f"{table}\n\n{_inline(block.caption)}" if block.caption else table
    if isinstance(block, d.Figure):
        picture = f"![{_inline(block.alt)}](figures/{block.name}.png)"
        return f"{picture}\n\n{_inline(block.caption)}" if block.name in figures else ""
    if isinstance(block, d.LayerMap):
        width = max(len(label) for label, _, _ in block.rows)
        lines = [
            f"{label:<{width}}  " + "".join("■" if i in layers else "·" for i in range(block.num_layers))
            for label, _, layers in block.rows
        ]
        return (
            "```text\n" + "\n".join(lines) + "\n```\n\n■ softmax, · linear; the first layer is on the left."
        )
    if isinstance(block, d.Samples):
        parts = [f"> {_one_line(block.prompt)}"]
        parts += [f"**{label}:** {_one_line(text)}" for label, _, text in block.items]
        return "\n\n".join(parts)
    if isinstance(block, d.Details):
        inner = render(block.blocks, figures).strip()
        return f"<details><summary>{escape(block.summary)}</summary>\n\n{inner}\n\n</details>"
    if isinstance(block, d.Code):
        return f"```toml\n{block.text.strip()}\n```"
    raise TypeError(type(block).__name__)


def _table(header: list[str], rows: list[list[str]], first: str = "---", rest: str = "---:") -> str:
    lines = [header, [first] + [rest] * (len(header) - 1), *rows]
    return "\n".join(
        "| " + " | ".join(_inline(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _inline(text: str) -> str:
    """Text with `code` and **bold** on one line, in which names cannot begin HTML, a link or an image."""
    parts = re.split(r"((?<!`)`[^`]+`(?!`))", " ".join(text.splitlines()))
    return "".join(
        part if index % 2 else re.sub(r"[\\<\[\]`]", r"\\\g<0>", part) for index, part in enumerate(parts)
    )


def _one_line(text: str) -> str:
    """Model output as prose: no line breaks, nothing that Markdown would act on."""
    flat = " ".join(text.split())
    for sign in "\\`*_<>[]#|":
        flat = flat.replace(sign, "\\" + sign)
    return flat
