"""Draws which room of hybridattn imports which, from the imports themselves: docs/figures/imports.svg.

    python docs/make_imports_picture.py

Rooms stand in the order of tests/test_layering.py, what imports nothing of the package at the bottom. An
arrow goes from a room to one that it imports; imports for types and inside functions count. The script fails
when an arrow would point up.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from test_layering import EVERYWHERE, ROOMS, imports, python_modules  # noqa: E402

WIDTH, STEP, LEFT, BAR = 720, 34, 250, 14
GROUND = "ground"  # the modules at the top of the package that every room may use


def arrows() -> tuple[dict[str, int], Counter[tuple[str, str]]]:
    """(files of each room, top room first; how many imports go from one room to another)."""
    modules = python_modules()
    ground = {room for room in ROOMS if f"{room}.py" in {p.name for p in (ROOT / "hybridattn").glob("*.py")}}
    ground.discard("__main__")

    def room_of(name: str) -> str:
        first = name.split(".")[0]
        return GROUND if first in ground else first

    files = Counter(room_of(name) for name in modules)
    order = [GROUND, *(room for room in ROOMS if room not in ground and files[room])]
    found: Counter[tuple[str, str]] = Counter()
    for name, text in modules.items():
        package = any(other.startswith(name + ".") for other in modules)
        for target in imports(name, text, package):
            inside = target.removeprefix("hybridattn.")
            if inside == target or inside.split(".")[0] in EVERYWHERE:
                continue
            pair = room_of(name), room_of(inside)
            if pair[0] != pair[1] and pair[1] in order:
                found[pair] += 1
    wrong = [pair for pair in found if order.index(pair[1]) > order.index(pair[0])]
    if wrong:
        raise SystemExit(f"imports that point up: {wrong}")
    return {room: files[room] for room in reversed(order)}, found


def draw() -> str:
    """The picture as SVG, in the colours of light and dark pages."""
    rooms, found = arrows()
    place = {room: STEP * (i + 1) for i, room in enumerate(rooms)}
    height = STEP * (len(rooms) + 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="Rooms of hybridattn and what each imports; every arrow points down">',
        "<style>text{font:14px sans-serif;fill:#1b1b1b}.n{font-size:11px;fill:#666}"
        "path{fill:none;stroke:#3b6fb6;stroke-opacity:.45}rect{fill:#3b6fb6}"
        "@media(prefers-color-scheme:dark){text{fill:#eee}.n{fill:#aaa}path{stroke:#8ab4f8}rect{fill:#8ab4f8}}"
        "</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8" style="stroke-opacity:1"/>'
        "</marker></defs>",
    ]
    for (source, target), count in sorted(found.items()):
        top, bottom = place[source], place[target]
        reach = LEFT + BAR + (bottom - top) * (WIDTH - LEFT - BAR - 20) / (height - 2 * STEP)
        lines.append(
            f'<path d="M{LEFT + BAR} {top}C{reach:.0f} {top} {reach:.0f} {bottom} {LEFT + BAR + 2} {bottom}" '
            f'stroke-width="{min(1 + count / 8, 5):.1f}" marker-end="url(#tip)">'
            f"<title>{source} imports {target}: {count}</title></path>"
        )
    for room, files in rooms.items():
        y = place[room]
        name = "errors, checks, files and the like" if room == GROUND else room.strip("_")
        lines += [
            f'<rect x="{LEFT}" y="{y - BAR / 2:.0f}" width="{BAR}" height="{BAR}" rx="3"/>',
            f'<text x="{LEFT - 10}" y="{y + 5}" text-anchor="end">{name} '
            f'<tspan class="n">{files}</tspan></text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    target = ROOT / "docs" / "figures" / "imports.svg"
    target.write_text(draw(), encoding="utf-8")
    print(target.relative_to(ROOT))
