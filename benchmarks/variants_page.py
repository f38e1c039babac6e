"""docs/results/variants.md from the verdicts of variants.py."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from variants import KINDS, ROOT

from hybridattn.files import atomic_write

PAGE = ROOT / "docs" / "results" / "variants.md"
VERDICTS = ("equal", "warned", "refused", "WRONG")


def write_page(results: dict[str, Any]) -> None:
    """results: by version of transformers, as variants.py keeps them."""
    atomic_write(PAGE, page(results))


def page(results: dict[str, Any]) -> str:
    versions = sorted(results, key=lambda version: [int(part) for part in version.split(".")], reverse=True)
    return "\n".join([*_answer(results, versions), *_tables(results, versions), *_method(results, versions)])


def _counts(result: dict[str, Any]) -> Counter[str]:
    return Counter(row["verdict"] for kind in KINDS for row in result[kind].values())


def _answer(results: dict[str, Any], versions: list[str]) -> list[str]:
    newest = _counts(results[versions[0]])
    wrong = sum(_counts(results[version])["WRONG"] for version in versions)
    ending = "None is silently different." if not wrong else "These are silently different."
    answer = f"Not always: {wrong} verdicts are wrong" if wrong else "Yes, or it is refused by name"
    lines = [
        "# Is an unusual checkpoint read right?",
        "",
        f"**{answer}.** Of",
        f"{newest.total()} variants of configs, weights, tokenizers and chat templates",
        f"{newest['equal'] + newest['warned']} give what transformers {versions[0]} gives, "
        f"{newest['warned']} of them with a warning that",
        f"names the key; {newest['refused']} are refused by an error that names it. {ending}",
        "",
        f"| transformers | {' | '.join(VERDICTS)} | of |",
        f"| --- |{' ---: |' * (len(VERDICTS) + 1)}",
    ]
    for version in versions:
        counts = _counts(results[version])
        cells = [str(counts[verdict]) for verdict in VERDICTS]
        lines.append(f"| {version} | {' | '.join(cells)} | {counts.total()} |")
    return [*lines, ""]


def _tables(results: dict[str, Any], versions: list[str]) -> Iterator[str]:
    for kind, (cases, _) in KINDS.items():
        yield from (f"## {kind.capitalize()}", "", f"| case | {' | '.join(versions)} | what it says |")
        yield f"| --- |{' --- |' * (len(versions) + 1)}"
        for name in cases:
            rows = [results[version][kind].get(name) for version in versions]
            why = next((row["why"] for row in rows if row and "why" in row), "")
            verdicts = " | ".join(row["verdict"] if row else "" for row in rows)
            yield f"| {name} | {verdicts} | {_cell(why)} |"
        yield ""


def _cell(message: str) -> str:
    """A message of one line for a table: without the name of its file, as code."""
    text = re.sub(r"^[\w.]+\.\w+: ", "", message)
    text = text if len(text) <= 110 else text[:107].rstrip() + "..."
    return f"`{text.replace('`', chr(39)).replace('|', chr(92) + '|')}`" if text else ""


def _method(results: dict[str, Any], versions: list[str]) -> list[str]:
    torch = ", ".join(f"{version} with torch {results[version]['torch']}" for version in versions)
    return [
        "## Method",
        "",
        "Every checkpoint is a random model of two layers that the version itself writes. Its config.json",
        "then gets the case's keys, and the folder is read by transformers and here.",
        "",
        "- Equal: logits (hidden states of a base model) of 2 x 37 tokens differ by less than 1e-4 of the",
        "  largest, in float32; the ids of eight texts, or the prompt of a conversation, are the same.",
        "- Warned: equal, with a warning that names the key.",
        "- Refused: an error that names the key, the file or the tensor.",
        "- An empty cell: this version does not know the keys or cannot open the folder.",
        "",
        "Where versions read keys differently (`rope_parameters` means nothing to 4.57), the newest counts.",
        f"transformers {torch}.",
        "",
        "```console",
        "$ python benchmarks/variants.py --json benchmarks/results/variants.json",
        "$ python benchmarks/variants.py --page",
        "```",
        "",
        "Stored as `variants.json`; one run of the first command for each version. A part runs in",
        "`tests/test_variants.py`.",
        "",
    ]
