"""The first section: how far each model is from the teacher, and what it costs."""

from __future__ import annotations

from typing import Any

from . import numbers as n
from . import speed, verdict
from .blocks import Bullets, Details, Figure, Heading, Table


def section(results: dict[str, Any], charts: bool) -> list[Any]:
    """Its blocks."""
    train, lengths = results["lengths"]["train"], results["lengths"]["all"]
    distilled = verdict.stage_shown(results) == "after"
    blocks: list[Any] = [Heading("What was gained and lost")]
    blocks.append(_overview(results))
    blocks.append(
        Bullets(
            [
                "**KL** (nats per token) is how far a model's predictions are from the teacher's, on text "
                "neither was trained on here. 0 means the same predictions; ± is the standard error over "
                "stretches of text" + (" (over sets for random)." if _random_sets(results) > 1 else "."),
                "**Same token** is the share of tokens after which the model holds the same next token "
                "likeliest as the teacher does.",
                "**Perplexity** is between how many equally likely tokens the model hesitates, on average. "
                "The teacher's is the one to match.",
                "**Cache** is the memory kept for every token of a text being written; linear layers keep "
                "a fixed amount instead.",
                "**Reading** a prompt and **writing** after it are timed at the given length, in times the "
                "teacher's speed.",
            ]
        )
    )
    if charts:
        blocks.append(
            Figure(
                "quality",
                "KL divergence from the teacher for each choice of layers, before and after distillation",
                "Distance from the teacher, closer to 0 is better"
                + (
                    ": before distillation (hollow) and after (filled)."
                    if distilled
                    else ", before distillation."
                ),
            )
        )
    blocks += [_quality_table(results, length, train) for length in lengths if length != train]
    randoms = [m for m in verdict.random_entries(results) if m.get("before")]
    if len(randoms) > 1:
        rows = [
            [verdict.label(m["id"]), *_pair(m, length, "kl"), *_pair(m, length, "perplexity")]
            for length in lengths
            for m in randoms
        ]
        for index, row in enumerate(rows):
            row.insert(1, n.count(lengths[index // len(randoms)]))
        blocks.append(
            Details(
                "Each random set",
                [
                    Table(
                        [
                            "set",
                            "tokens at a time",
                            "KL before",
                            "KL after",
                            "perplexity before",
                            "perplexity after",
                        ],
                        rows,
                    )
                ],
            )
        )
    return blocks


def _overview(results: dict[str, Any]) -> Table:
    train = results["lengths"]["train"]
    longest = max(speed.lengths(verdict.entry(results, "teacher")), default=None)
    header = ["model", "softmax layers", "KL before", "KL after", "same token", "perplexity"]
    header.append("cache per token")
    if longest:
        header += [f"reading {n.count(longest)}", f"writing at {n.count(longest)}"]
    rows: list[list[str]] = []
    for model_id in verdict.table_ids(results):
        entry = verdict.shown(results, model_id)
        before, after = (verdict.evaluation(results, model_id, w, train) for w in ("before", "after"))
        row = [_row_label(results, model_id), str(len(entry["softmax_layers"]))]
        row += ["0", "0"] if model_id == "teacher" else [_kl(before), _kl(after)]
        perplexities = [n.perplexity(c["perplexity"]) for c in (before, after) if c]
        row += [
            _same(model_id, before, after),
            " → ".join(perplexities) or n.MISSING,
            n.size((entry.get("cache") or {}).get("bytes_per_token")),
        ]
        if longest:
            row += [
                speed.seconds(entry, what, longest)
                if model_id == "teacher"
                else speed.beside_teacher(results, entry, what, longest)
                for what in speed.VERBS
            ]
        rows.append(row)
    tokens = (verdict.cell(verdict.model(results, "teacher"), "before", train) or {}).get("tokens")
    distilled = verdict.stage_shown(results) == "after"
    note = "before → after distillation, – where there was none" if distilled else "no model was distilled"
    return Table(
        header,
        rows,
        f"KL and perplexity on {n.count(tokens)} tokens of held-out text, {n.count(train)} at a time "
        f"({note}). All but the first two have the same number of softmax layers"
        + (" and those distilled got the same training" if distilled else "")
        + "."
        + (" Of the text, what assistants say is all that counts." if results.get("answers_only") else "")
        + (f" {speed.note(results)}" if longest else ""),
        verdict.chosen_rows(rows),
    )


def _quality_table(results: dict[str, Any], length: int, train: int) -> Table:
    rows: list[list[str]] = []
    for model_id in verdict.table_ids(results):
        before, after = (verdict.evaluation(results, model_id, w, length) for w in ("before", "after"))
        kls = ["0", "0"] if model_id == "teacher" else [_kl(before), _kl(after)]
        ppl = [
            n.perplexity(c["perplexity"] if c else None)
            for c in (before, before if model_id == "teacher" else after)
        ]
        same = _same(model_id, before, after)
        rows.append([_row_label(results, model_id), *kls, same, *ppl])
    base = verdict.cell(verdict.model(results, "teacher"), "before", length) or {}
    where = verdict.beside_training(results, length)
    return Table(
        ["model", "KL before", "KL after", "same token", "perplexity before", "perplexity after"],
        rows,
        f"{n.count(length)} tokens at a time ({where}); {n.count(base.get('tokens'))} held-out tokens.",
        verdict.chosen_rows(rows),
    )


def _row_label(results: dict[str, Any], model_id: str) -> str:
    if model_id != "random":
        return verdict.label(model_id)
    averaged, drawn = _random_sets(results), len(verdict.random_entries(results))
    if averaged < drawn:
        return f"random, the {averaged} of {drawn} sets distilled"
    return f"random, {averaged} sets" if averaged > 1 else "random"


def _random_sets(results: dict[str, Any]) -> int:
    """How many random sets the row "random" is the mean of."""
    found = verdict.random_mean(results, "before", results["lengths"]["train"])
    return found["sets"] if found else 0


def _kl(cell: dict[str, Any] | None) -> str:
    return n.kl(cell["kl"], cell.get("kl_stderr")) if cell else n.MISSING


def _same(model_id: str, *cells: dict[str, Any] | None) -> str:
    """The agreement before and after distillation; a teacher agrees with itself."""
    if model_id == "teacher":
        return n.share(1.0)
    known = [c["agreement"] for c in cells if c and c.get("agreement") is not None]
    return " → ".join(map(n.share, known)) or n.MISSING


def _pair(entry: dict[str, Any], length: int, what: str) -> list[str]:
    cells = [verdict.cell(entry, when, length) for when in ("before", "after")]
    return [_kl(c) if what == "kl" else n.perplexity(c["perplexity"] if c else None) for c in cells]
