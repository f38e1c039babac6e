"""The README's figure: how far hybrids are from their teacher, by the way their softmax layers were chosen.

    python benchmarks/readme_figure.py

It draws docs/figures/kl-by-selector.svg from benchmarks/results/selection.json.

Every selector that reads text is shown as read on recall prompts, the default; all sets had the same step 2.
The drawing has a background of its own, so it is readable on light and on dark pages.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "selection.json"
FIGURE = ROOT / "docs" / "figures" / "kl-by-selector.svg"

KEPT = 8  # softmax layers, of 30
ROWS = {  # label in the results: name in the figure, whether it reads KL
    "kl_replace, recall": ("kl_replace (the default)", True),
    "kl_restore, recall": ("kl_restore", True),
    "kl_greedy_add, recall": ("kl_greedy_add, a search", True),
    "diagnostic:needle": ("needle in a haystack", False),
    "kl_gate, recall": ("kl_gate, the quickest", True),
    "mse, recall": ("loss of step 1", False),
    "diagnostic:associative_recall": ("associative recall", False),
    "perplexity, recall": ("perplexity", False),
    "random": ("random", False),
    "uniform": ("uniform", False),
    "first_last": ("first and last", False),
}
WIDTH, LEFT, RIGHT, TOP, STEP, BAR = 760, 200, 90, 76, 24, 15
BY_KL, OTHER, INK, FAINT = "#0072b2", "#b5b5b5", "#1f2328", "#59636e"
TEXT = 'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"'


def rows(results: dict) -> list[tuple[str, bool, float, float]]:
    """(name, reads KL, mean over the seeds, its standard deviation) after step 2, the closest set first."""
    found = {row["label"]: row["results"]["distilled"] for row in results["selectors"] if row["k"] == KEPT}
    listed = [
        (name, by_kl, found[label]["kl_512"], found[label]["kl_512_spread"] or 0.0)
        for label, (name, by_kl) in ROWS.items()
    ]
    return sorted(listed, key=lambda row: row[2])


def draw(listed: list[tuple[str, bool, float, float]]) -> str:
    """The figure as SVG."""
    height = TOP + STEP * len(listed) + 16
    scale = (WIDTH - LEFT - RIGHT) / max(mean + spread for _, _, mean, spread in listed)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" {TEXT} font-size="13" fill="{INK}">',
        "<title>KL divergence from the teacher by the way of choosing softmax layers</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        f'<text x="20" y="28" font-size="15" font-weight="600">How far is the hybrid from its teacher? '
        f"{KEPT} of its 30 layers stay softmax, chosen by</text>",
        f'<text x="20" y="50" fill="{FAINT}">KL(teacher || hybrid) after the same short distillation, '
        "nats per token; lines: deviation over three seeds</text>",
    ]
    for number, (name, by_kl, mean, spread) in enumerate(listed):
        y = TOP + STEP * number
        end = LEFT + scale * mean
        colour, weight = (BY_KL, "600") if by_kl else (OTHER, "400")
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 12}" text-anchor="end" font-weight="{weight}">'
            f"{escape(name)}</text>"
            f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
        )
        if spread > 1e-9:
            low, high = end - scale * spread, end + scale * spread
            parts.append(f'<path d="M{low:.1f} {y + 7.5}H{high:.1f}" stroke="{INK}" stroke-width="1.2"/>')
            end = high
        parts.append(f'<text x="{end + 8:.1f}" y="{y + 12}">{f"{mean:.3f}".lstrip("0")}</text>')
    parts.append(
        f'<rect x="{WIDTH - 190}" y="{TOP}" width="12" height="12" rx="2" fill="{BY_KL}"/>'
        f'<text x="{WIDTH - 172}" y="{TOP + 11}">KL divergence</text>'
        f'<rect x="{WIDTH - 190}" y="{TOP + 22}" width="12" height="12" rx="2" fill="{OTHER}"/>'
        f'<text x="{WIDTH - 172}" y="{TOP + 33}">something else</text>'
    )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    FIGURE.write_text(draw(rows(json.loads(RESULTS.read_text()))), encoding="utf-8")
    print(FIGURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
