"""The report's content: results in, a list of blocks out. Every number is written here, once."""

from __future__ import annotations

from typing import Any

from . import answers, quality, speed, verdict
from . import numbers as n
from .blocks import Code, Details, Facts, Figure, Heading, LayerMap, Paragraph, Samples, Table
from .summary import summary


def build(results: dict[str, Any], charts: bool = True) -> list[Any]:
    """All blocks of the report. `charts` False: no figures, and a note that says how to get them."""
    blocks: list[Any] = [Heading(results["title"], 1)]
    lead, choice = summary(results)
    blocks += [Facts(_headline(results)), Paragraph(lead, "lead"), Paragraph(choice, "lead")]
    blocks += speed.warning(results)
    if not charts:
        blocks.append(
            Paragraph(
                "Charts are left out because matplotlib is not installed: "
                '`pip install "hybridattn[report]"`, then run again.',
                "note",
            )
        )
    blocks += quality.section(results, charts) + answers.section(results)
    blocks += _layers(results, charts) + speed.section(results, charts)
    blocks += _training(results, charts) + _samples(results) + _made(results)
    return blocks


def _headline(results: dict[str, Any]) -> list[tuple[str, str]]:
    total, kept = results["teacher"]["num_layers"], len(results["chosen"]["softmax_layers"])
    items = [(f"{total - kept} of {total}", "layers made linear")]
    teacher, chosen = verdict.entry(results, "teacher"), verdict.entry(results, "chosen")
    context = max(results["lengths"]["all"])
    old, new = verdict.cache_bytes(teacher, context), verdict.cache_bytes(chosen, context)
    if old and new:
        items.append(
            (f"{'−' if new < old else '+'}{n.percent(abs(1 - new / old))}", f"cache at {n.count(context)}")
        )
    for length in speed.lengths(chosen)[-1:]:
        if found := speed.told(results, chosen, "decode", length):
            items.append((n.times(found[0]), f"the teacher's speed of writing at {n.count(length)}"))
    when, train = verdict.stage_shown(results), results["lengths"]["train"]
    lost, base = verdict.cell(chosen, when, train), verdict.cell(teacher, "before", train)
    if lost:
        items.append((n.kl(lost["kl"]), "nats from the teacher"))
    if lost and base:
        items.append(
            (f"{n.perplexity(base['perplexity'])} → {n.perplexity(lost['perplexity'])}", "perplexity")
        )
    return items


def _layers(results: dict[str, Any], charts: bool) -> list[Any]:
    chosen, total = results["chosen"], results["teacher"]["num_layers"]
    blocks: list[Any] = [Heading("Which layers stay softmax")]
    scored = bool(chosen["text"])  # else a fixed pattern, which reads none
    blocks.append(
        Paragraph(
            (
                "A layer's score says how much of the teacher is lost when that layer is linear; a "
                "negative one says that the hybrid was better off without its softmax. "
                if scored
                else ""
            )
            + f"`{chosen['method']}`, {verdict.score_measures(chosen['method'])}{verdict.read_on(chosen)}"
            + (f", decided by {verdict.rule(chosen['method'])}" if scored else "")
            + ": softmax stays in "
            f"{'layers' if len(chosen['softmax_layers']) > 1 else 'layer'} "
            f"{n.layers(chosen['softmax_layers'])}."
        )
    )
    rows = [(verdict.LABELS["chosen"], "chosen", chosen["softmax_layers"])]
    rows += [
        (verdict.label(m["id"]), m["id"].split("-")[0], m["softmax_layers"])
        for m in results["models"]
        if m["id"].split("-")[0] in verdict.BASELINES
    ]
    blocks.append(LayerMap(total, rows))
    if results["scores"] and charts:
        blocks.append(
            Figure(
                "layer_scores",
                "Bar chart of layer scores with error bars, chosen layers in another colour",
                "Score of each layer with its standard error over sequences, in the method's own unit. "
                "Coloured: the layers that stay softmax.",
            )
        )
    if results["scores"]:
        blocks.append(
            Table(
                [
                    "method",
                    "read on",
                    "stability",
                    "Spearman with the one that chose",
                    "layers shared",
                    "time",
                ],
                [
                    [
                        f"`{s['method']}`",
                        _plain(s["text"]),
                        _plain(s.get("stability")),
                        _plain(s.get("spearman")),
                        _plain(s.get("shared")),
                        n.seconds(s.get("seconds")),
                    ]
                    for s in results["scores"]
                ],
                "How firm the scores are and how far they agree. Stability: mean Jaccard overlap of the "
                f"{len(chosen['softmax_layers'])} layers that a method chooses on one half of the sequences "
                "with those it chooses on the other (1: always the same; the whole text is firmer than its "
                "halves). Layers shared: how many of those that each would choose are in the chosen set.",
            )
        )
    gap = results.get("additivity")
    if gap:
        share = gap["sum_single_kl"] / gap["all_linear_kl"] if gap["all_linear_kl"] else 0.0
        blocks.append(
            Paragraph(
                "**Do single layers add up?** Making one layer linear at a time costs "
                f"{n.kl(gap['sum_single_kl'])} nats in all; making every layer linear at once costs "
                f"{n.kl(gap['all_linear_kl'])}. The difference, {n.kl(gap['gap'])}, is the additivity gap: "
                f"single-layer scores account for {n.percent(share)} of the whole, "
                + (
                    "so scores of one layer at a time are a fair guide here."
                    if 0.75 <= share <= 1.25
                    else "so layers interact, and scores of one layer at a time are to be taken with care."
                )
            )
        )
    if results["scores"]:
        names = [", ".join(filter(None, (s["method"], s["text"]))) for s in results["scores"]]
        values = [
            [str(i) + (" ●" if i in chosen["softmax_layers"] else "")]
            + [n.kl(s["values"][i], s["stderr"][i]) for s in results["scores"]]
            for i in range(total)
        ]
        blocks.append(
            Details("The scores as numbers", [Table(["layer", *names], values, "● stays softmax.")])
        )
    return blocks


def _training(results: dict[str, Any], charts: bool) -> list[Any]:
    curves = results["curves"]
    align, distill = curves.get("align"), curves.get("distill") or {}
    if not align and not distill:
        return []
    blocks: list[Any] = [Heading("Training")]
    rows = []
    if align:
        rows.append(
            [
                "align, all layers",
                n.count(int(align["tokens"][-1])),
                n.kl(align["loss"][0]),
                n.kl(_tail(align["loss"])),
            ]
        )
    rows += [
        [
            f"distill, {verdict.label(k)}",
            n.count(int(c["tokens"][-1])),
            n.kl(c["loss"][0]),
            n.kl(_tail(c["loss"])),
        ]
        for k, c in distill.items()
    ]
    if charts:
        blocks.append(
            Figure(
                "loss",
                "Training loss against tokens for both steps",
                "align (step 1): the linear mixers learn to imitate the softmax ones. distill (step 2): "
                "the whole model learns the teacher's predictions.",
            )
        )
    blocks.append(
        Table(
            ["step", "tokens", "first loss", "last loss"],
            rows,
            "Loss on the training text, at the first step and averaged over the last tenth of the steps.",
        )
    )
    return blocks


def _samples(results: dict[str, Any]) -> list[Any]:
    items = []
    for entry in results["models"]:
        if entry["id"].startswith("random") and entry is not verdict.random_entries(results)[0]:
            continue
        texts = entry.get("sample") or {}
        when = "after" if texts.get("after") else "before"
        if texts.get(when):
            name = verdict.label(entry["id"])
            tag = "" if entry["id"] == "teacher" else ", distilled" if when == "after" else ", not distilled"
            items.append(
                (
                    name + tag,
                    entry["id"].split("-")[0] if entry["id"] != "all-linear" else "all-linear",
                    texts[when],
                )
            )
    if not items:
        return []
    return [
        Heading("What they write"),
        Paragraph(
            "The same prompt, always taking the likeliest next token. One prompt proves nothing; it shows "
            "the manner."
        ),
        Samples(results["prompt"], items),
    ]


def _made(results: dict[str, Any]) -> list[Any]:
    made, teacher = results["made"], results["teacher"]
    blocks: list[Any] = [Heading("How it was made")]
    tokens = sum(
        s.get("tokens") or 0 for s in made["stages"] if s["name"].split("/")[0] in ("align", "distill")
    )
    small = (
        " Published results of this method use hundreds of millions of tokens: take this as a measurement of "
        "a small budget, not of the method's best."
    )
    blocks.append(
        Paragraph(
            f"Teacher: {teacher.get('weights') or teacher['name']} "
            f"({n.count(teacher['parameters'])} parameters, from `{teacher['source']}`). Training read "
            f"{n.count(tokens)} tokens in all, and the whole job took "
            f"{n.seconds(made['seconds'])}." + (small if tokens < 50_000_000 else "")
        )
    )
    blocks.append(
        Table(
            ["stage", "time", "tokens"],
            [[s["name"], n.seconds(s["seconds"]), n.count(s.get("tokens"))] for s in made["stages"]],
        )
    )
    pairs = [[k, str(v)] for part in ("versions", "machine") for k, v in made[part].items()]
    blocks.append(Details("Versions and machine", [Table(["what", "value"], pairs, text=True)]))
    blocks.append(
        Details(
            "Recipe",
            [
                Paragraph(
                    "Save as `recipe.toml`, then `hybridattn run recipe.toml --out DIR` repeats this job."
                ),
                Code(made["recipe"]),
            ],
        )
    )
    return blocks


def _tail(losses: list[float]) -> float:
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def _plain(value: Any) -> str:
    return n.MISSING if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
