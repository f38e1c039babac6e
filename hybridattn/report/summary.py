"""The two paragraphs on top of the report: what was gained and lost, and whether the choice of layers was
worth it. Nothing is said that `verdict.comparisons` does not bear out.
"""

from __future__ import annotations

import math
from typing import Any

from .._core import mixers
from . import numbers as n
from . import speed
from .verdict import (
    BASELINES,
    LABELS,
    beside_training,
    cache_bytes,
    cell,
    comparisons,
    entry,
    evaluation,
    read_on,
    score_measures,
    stage_shown,
)

_COUNT = {2: "two", 3: "three"}


def summary(results: dict[str, Any]) -> list[str]:
    """Two paragraphs: what was gained and lost; whether the choice of layers was worth it."""
    return [_trade(results), _choice(results)]


def _trade(results: dict[str, Any]) -> str:
    teacher, chosen = entry(results, "teacher"), entry(results, "chosen")
    total, kept = results["teacher"]["num_layers"], results["chosen"]["softmax_layers"]
    kind = results["mixer"]["kind"]
    what = mixers().get(kind, {}).get("phrase")
    text = [
        f"{results['teacher']['name']} has {total} layers of softmax attention, each of which looks back at "
        f"every earlier token. In the hybrid {total - len(kept)} of them are linear "
        f"(`{kind}`{': ' + what if what else ''}), so their memory does not grow with the text; {len(kept)} "
        f"{'stays' if len(kept) == 1 else 'stay'} softmax."
    ]
    context = max(results["lengths"]["all"])
    before, now = cache_bytes(teacher, context), cache_bytes(chosen, context)
    if before and now:
        per_token = [n.size(m["cache"]["bytes_per_token"]) for m in (chosen, teacher)]
        text.append(
            f"**Gained:** each further token adds {per_token[0]} instead of {per_token[1]} to the cache, "
            f"which a model keeps for every text it is writing; at {n.count(context)} tokens the cache takes "
            f"{n.size(now)} instead of {n.size(before)} ({_change(now / before)})."
        )
    speeds = [s for s in (speed.clause(results, what) for what in speed.VERBS) if s]
    if speeds:
        clause = " and ".join(speeds)
        text.append(clause[0].upper() + clause[1:] + ".")
    when = stage_shown(results)
    train = results["lengths"]["train"]
    lost, base = cell(chosen, when, train), cell(teacher, "before", train)
    if lost:
        text.append(
            f"**Lost:** on held-out text of {n.count(train)} tokens at a time the hybrid's predictions are "
            f"{n.kl(lost['kl'], lost['kl_stderr'])} nats per token of KL divergence away from the teacher's "
            "(0 would be the same predictions)"
        )
        if base:
            text[-1] += (
                f"; its perplexity is {n.perplexity(lost['perplexity'])}, the teacher's "
                f"{n.perplexity(base['perplexity'])} "
                f"({_change(lost['perplexity'] / base['perplexity'], 'higher', 'lower')})"
            )
        text[-1] += "."
        far, far_base = cell(chosen, when, context), cell(teacher, "before", context)
        if context > train and far and far_base:
            text.append(
                f"At {n.count(context)} tokens, {beside_training(results, context)}, the KL divergence "
                f"is {n.kl(far['kl'])} and perplexity goes from {n.perplexity(far_base['perplexity'])} to "
                f"{n.perplexity(far['perplexity'])}."
            )
    return " ".join(text)


def _choice(results: dict[str, Any]) -> str:
    train = results["lengths"]["train"]
    compared = [r for r in comparisons(results) if r["length"] == train]
    # after distillation when a baseline was distilled too, else all before it
    when = "after" if any(r["when"] == "after" for r in compared) else "before"
    rows = {r["baseline"]: r for r in compared if r["when"] == when}
    if not rows:
        return "No baseline was evaluated, so this run cannot say whether the choice of layers mattered."
    chosen_kl = next(iter(rows.values()))["chosen_kl"]
    chosen = results["chosen"]
    text = [
        "**Was the choice of layers worth it?** The layers that stay softmax "
        f"({n.layers(chosen['softmax_layers'])}, counted from 0) were picked by `{chosen['method']}`: "
        f"{score_measures(chosen['method'])}{read_on(chosen)}. "
        f"{'After the same distillation' if when == 'after' else 'Before distillation'} the hybrid with "
        f"these layers is {n.kl(chosen_kl)} nats from the teacher"
    ]
    others = []
    for baseline, row in rows.items():
        sets = (evaluation(results, baseline, when, train) or {}).get("sets", 1)
        name = {
            "uniform": "layers at even distances",
            "diagnostic": "the layers that a diagnostic's answers need most",
            "all-linear": "no softmax layer at all",
            "random": f"random layers (mean of {sets} sets)" if sets > 1 else "one random set of layers",
        }[baseline]
        others.append(f"{n.kl(row['baseline_kl'])} with {name}")
    text[0] += ", against " + ", ".join(others[:-1]) + (" and " if len(others) > 1 else "") + others[-1] + "."
    text.append(_judgement({b: r for b, r in rows.items() if b in BASELINES}))
    first = evaluation(results, "chosen", "before", train)
    if when == "after" and first:
        helped = "Distillation" if chosen_kl < first["kl"] else "Distillation did not help: it"
        text.append(f"{helped} took the chosen hybrid from {n.kl(first['kl'])} to {n.kl(chosen_kl)}.")
    long = max(results["lengths"]["all"])
    if long > train:
        far = [
            r
            for r in comparisons(results)
            if r["when"] == when and r["length"] == long and r["baseline"] in BASELINES
        ]
        text.append(_at_length(long, far))
    return " ".join(filter(None, text))


def _judgement(rows: dict[str, dict[str, Any]]) -> str:
    """One or two sentences that say yes only where every baseline is beaten beyond chance."""
    if not rows:
        return ""
    best = min(rows.values(), key=lambda r: r["baseline_kl"])
    farther = _named(rows, "farther")
    if farther:
        return (
            f"**Not in this run:** the {farther} choice is closer to the teacher, beyond what chance on this "
            f"much text explains ({_gaps(rows)})."
        )
    if best["difference"] < 0:
        return (
            f"**Not in this run:** the {LABELS[best['baseline']]} choice came out slightly closer, by a "
            f"difference too small to tell from chance on this much text ({_gaps(rows)})."
        )
    if best["difference"] == 0:
        return "**Not in this run:** the choices come out the same."
    chosen = best["chosen_kl"]
    ratio = best["baseline_kl"] / chosen if chosen > 0 else math.inf
    lead = (
        f"the best of the other {_COUNT[len(rows)]} is {ratio:.2f} times as far from the teacher"
        if len(rows) > 1
        else f"the baseline is {ratio:.2f} times as far from the teacher"
    )
    undecided = _named(rows, "undecided")
    if undecided:
        return (
            f"{lead[0].upper()}{lead[1:]}, but the difference to the {undecided} choice is too small to tell "
            f"from chance on this much text ({_gaps(rows)})."
        )
    return f"So yes: {lead}, and no baseline comes near by chance ({_gaps(rows)})."


def _at_length(length: int, rows: list[dict[str, Any]]) -> str:
    """Whether the same can be said at another length."""
    by_baseline = {r["baseline"]: r for r in rows}
    farther, undecided = _named(by_baseline, "farther"), _named(by_baseline, "undecided")
    if not rows:
        return ""
    if farther:
        return f"At {n.count(length)} tokens the {farther} choice is closer to the teacher, beyond chance."
    if undecided:
        return (
            f"At {n.count(length)} tokens this much text cannot tell the chosen layers from the {undecided} "
            "choice."
        )
    return f"At {n.count(length)} tokens, too, the chosen layers are closer to the teacher, beyond chance."


def _named(rows: dict[str, dict[str, Any]], verdict: str) -> str:
    """The baselines of which this is said, "" for none."""
    names = [LABELS[baseline] for baseline, row in rows.items() if row["verdict"] == verdict]
    return n.layers(names) if names else ""


def _gaps(rows: dict[str, dict[str, Any]]) -> str:
    """KL(baseline) - KL(chosen) against each baseline."""
    if any(r["stderr"] is None for r in rows.values()):
        return "too few sequences for a standard error"
    parts = [f"{n.kl(r['difference'], r['stderr'])} to {LABELS[b]}" for b, r in rows.items()]
    return "paired difference " + n.layers(parts)


def _change(ratio: float, more: str = "more", less: str = "less") -> str:
    if abs(ratio - 1) < 0.0005:
        return "the same"
    return f"{n.percent(abs(ratio - 1))} {more if ratio > 1 else less}"
