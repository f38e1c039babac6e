"""What the numbers say, in words: paired comparisons of layer choices, and the two paragraphs on top."""

from __future__ import annotations

import math
from typing import Any

from . import numbers as n

LABELS = {
    "teacher": "teacher",
    "all-linear": "all linear",
    "uniform": "uniform",
    "random": "random",
    "chosen": "KL-chosen",
}
MIXERS = {
    "window_linear": "exact attention to a short window and the first few tokens, linear attention to the "
    "rest",
    "gated_delta": "a recurrent state that is overwritten by a gated delta rule",
}


def label(model_id: str) -> str:
    """The name a model has in tables: 'random-0' -> 'random 1'."""
    base, _, number = model_id.rpartition("-")
    return f"random {int(number) + 1}" if base == "random" else LABELS.get(model_id, model_id)


def model(results: dict[str, Any], model_id: str) -> dict[str, Any] | None:
    """The entry of results["models"] with this id, or None."""
    return next((m for m in results["models"] if m["id"] == model_id), None)


def entry(results: dict[str, Any], model_id: str) -> dict[str, Any]:
    """`model`, which must be there."""
    return next(m for m in results["models"] if m["id"] == model_id)


def cell(found: dict[str, Any] | None, when: str, length: int) -> dict[str, Any] | None:
    """The evaluation of a model before or after distillation at a length, or None."""
    return ((found or {}).get(when) or {}).get(str(length))


def random_entries(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of all random sets."""
    return [m for m in results["models"] if m["id"].startswith("random")]


def random_mean(results: dict[str, Any], when: str, length: int) -> dict[str, Any] | None:
    """The random sets as one: means over the sets of KL (also per sequence) and of log perplexity.

    `kl_stderr` is over sets when there are two or more, since a new random set would differ by that, else
    over text. Sets that were not distilled are left out of "after".
    """
    cells = [c for c in (cell(m, when, length) for m in random_entries(results)) if c]
    if not cells:
        return None
    values = [c["kl"] for c in cells]
    mean = sum(values) / len(values)
    spread = cells[0].get("kl_stderr")
    if len(values) > 1:
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    return {
        "kl": mean,
        "kl_stderr": spread,
        "sets": len(cells),
        "tokens": cells[0].get("tokens"),
        "perplexity": math.exp(sum(math.log(c["perplexity"]) for c in cells) / len(cells)),
        "per_sequence": [sum(v) / len(v) for v in zip(*(c.get("per_sequence") or [] for c in cells))],
    }


def evaluation(results: dict[str, Any], model_id: str, when: str, length: int) -> dict[str, Any] | None:
    """`cell` by model id, where the id "random" stands for the mean of the random sets."""
    if model_id == "random":
        return random_mean(results, when, length)
    return cell(model(results, model_id), when, length)


def stage_shown(results: dict[str, Any]) -> str:
    """'after' when the chosen hybrid was distilled and evaluated, else 'before'."""
    return "after" if (model(results, "chosen") or {}).get("after") else "before"


def comparisons(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The chosen set against each baseline at every length, before and after distillation, in pairs.

    difference: KL(baseline) - KL(chosen), above 0 when the chosen set is closer to the teacher. verdict:
    "closer" or "farther" when Student's t at 95% for the number of windows (or sets) says so, else
    "undecided".
    """
    rows = []
    for length in results["lengths"]["all"]:
        for when in ("before", "after"):
            chosen = evaluation(results, "chosen", when, length)
            for baseline in ("uniform", "random", "all-linear"):
                other = evaluation(results, baseline, when, length)
                if not chosen or not other:
                    continue
                difference, stderr = _paired(chosen, other)
                if stderr is not None and other.get("sets", 1) > 1:
                    # another draw of random sets would differ too, not only another text
                    stderr = math.hypot(stderr, other["kl_stderr"])
                freedom = len(chosen.get("per_sequence") or []) - 1
                if other.get("sets", 1) > 1:
                    freedom = min(freedom, other["sets"] - 1)
                certain = stderr is not None and abs(difference) > student_t(freedom) * stderr
                rows.append(
                    {
                        "baseline": baseline,
                        "when": when,
                        "length": length,
                        "chosen_kl": chosen["kl"],
                        "baseline_kl": other["kl"],
                        "difference": difference,
                        "stderr": stderr,
                        "verdict": ("closer" if difference > 0 else "farther") if certain else "undecided",
                    }
                )
    return rows


# Two-sided 95% points of Student's t: a standard error from few windows is itself uncertain.
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


def student_t(freedom: int) -> float:
    """The 95% point for `freedom` degrees of freedom; beyond the table an upper bound that tends to 1.96."""
    if freedom < 1:
        return math.inf
    return _T95[freedom - 1] if freedom <= len(_T95) else 1.96 + 2.5 / freedom


def _paired(chosen: dict[str, Any], other: dict[str, Any]) -> tuple[float, float | None]:
    """Mean and standard error of the differences by sequence; None as error of fewer than two."""
    a, b = chosen.get("per_sequence") or [], other.get("per_sequence") or []
    if len(a) < 2 or len(a) != len(b):
        return other["kl"] - chosen["kl"], None
    differences = [y - x for x, y in zip(a, b)]
    mean = sum(differences) / len(differences)
    variance = sum((d - mean) ** 2 for d in differences) / (len(differences) - 1)
    return mean, math.sqrt(variance / len(differences))


def cache_bytes(found: dict[str, Any] | None, context: float) -> float | None:
    """Bytes of decode state a model holds after `context` tokens."""
    cache = (found or {}).get("cache")
    return cache["fixed_bytes"] + cache["bytes_per_token"] * context if cache else None


def summary(results: dict[str, Any]) -> list[str]:
    """Two paragraphs: what was gained and lost; whether the choice of layers was worth it."""
    return [_trade(results), _choice(results)]


def _trade(results: dict[str, Any]) -> str:
    teacher, chosen = entry(results, "teacher"), entry(results, "chosen")
    total, kept = results["teacher"]["num_layers"], results["chosen"]["softmax_layers"]
    kind = results["mixer"]["kind"]
    what = MIXERS.get(kind)
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
    speeds = [s for s in (_speed(teacher, chosen, "prefill"), _speed(teacher, chosen, "decode")) if s]
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
                f"At {n.count(context)} tokens, longer than the windows of step 2, the KL divergence "
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
        f"({n.layers(chosen['softmax_layers'])}, counted from 0) were picked by `{chosen['method']}`, a KL "
        f"divergence between teacher and hybrid, read on {text_name(chosen['text'])}. "
        f"{'After the same distillation' if when == 'after' else 'Before distillation'} the hybrid with "
        f"these layers is {n.kl(chosen_kl)} nats from the teacher"
    ]
    others = []
    for baseline, row in rows.items():
        sets = (evaluation(results, baseline, when, train) or {}).get("sets", 1)
        name = {
            "uniform": "layers at even distances",
            "all-linear": "no softmax layer at all",
            "random": f"random layers (mean of {sets} sets)" if sets > 1 else "one random set of layers",
        }[baseline]
        others.append(f"{n.kl(row['baseline_kl'])} with {name}")
    text[0] += ", against " + ", ".join(others[:-1]) + (" and " if len(others) > 1 else "") + others[-1] + "."
    text.append(_judgement({b: r for b, r in rows.items() if b in ("uniform", "random")}))
    first = evaluation(results, "chosen", "before", train)
    if when == "after" and first:
        helped = "Distillation" if chosen_kl < first["kl"] else "Distillation did not help: it"
        text.append(f"{helped} took the chosen hybrid from {n.kl(first['kl'])} to {n.kl(chosen_kl)}.")
    long = max(results["lengths"]["all"])
    if long > train:
        far = {
            r["baseline"]: r
            for r in comparisons(results)
            if r["when"] == when and r["length"] == long and r["baseline"] in ("uniform", "random")
        }
        worse = [b for b, r in far.items() if r["difference"] < 0]
        if far and worse:
            text.append(
                f"At {n.count(long)} tokens the order is another one: there the {n.layers(worse)} choice is "
                "closer to the teacher."
            )
        elif far and all(r["difference"] > 0 for r in rows.values()):
            text.append(f"The order is the same at {n.count(long)} tokens.")
    return " ".join(text)


def _judgement(rows: dict[str, dict[str, Any]]) -> str:
    """One or two sentences that admit it when the chosen set is not the best."""
    if not rows:
        return ""
    best = min(rows.values(), key=lambda r: r["baseline_kl"])
    chosen = best["chosen_kl"]
    if best["difference"] < 0:
        name = LABELS[best["baseline"]]
        if best["verdict"] == "undecided":
            return (
                f"**Not in this run:** the {name} choice came out slightly closer, by a difference too small "
                f"to tell from chance on this much text ({_gap(best)})."
            )
        return (
            f"**Not in this run:** the {name} choice is closer to the teacher, beyond what chance on this "
            f"much text explains ({_gap(best)})."
        )
    if best["difference"] == 0:
        return "**Not in this run:** the choices come out the same."
    ratio = best["baseline_kl"] / chosen if chosen > 0 else math.inf
    lead = (
        f"The best of the other two is {ratio:.2f} times as far from the teacher"
        if len(rows) > 1
        else f"The baseline is {ratio:.2f} times as far from the teacher"
    )
    if best["verdict"] == "undecided":
        return (
            f"{lead}, but the difference is too small to tell from chance on this much text ({_gap(best)})."
        )
    return f"So yes: {lead[0].lower()}{lead[1:]} ({_gap(best)})."


def _gap(row: dict[str, Any]) -> str:
    if row["stderr"] is None:
        return "too few sequences for a standard error"
    return f"paired difference {n.kl(abs(row['difference']), row['stderr'])}"


def _speed(teacher: dict[str, Any], chosen: dict[str, Any], what: str) -> str | None:
    """A clause on the longest length both were timed at."""
    shared = [int(k) for k in teacher.get(what) or {} if k in (chosen.get(what) or {})]
    if not shared:
        return None
    length = str(max(shared))
    old, new = teacher[what][length], chosen[what][length]
    ratio = old / new
    verb = {"prefill": f"reading {n.count(int(length))} tokens", "decode": "writing one token after them"}[
        what
    ]
    pace = (
        "about as fast"
        if 0.97 < ratio < 1.03
        else f"{ratio:.2f} times as fast"
        if ratio >= 1.05
        else f"{n.percent(abs(1 - ratio))} {'faster' if ratio > 1 else 'slower'}"
    )
    return f"{verb} takes {n.seconds(new)} instead of {n.seconds(old)} ({pace})"


def _change(ratio: float, more: str = "more", less: str = "less") -> str:
    if abs(ratio - 1) < 0.0005:
        return "the same"
    return f"{n.percent(abs(ratio - 1))} {more if ratio > 1 else less}"


def text_name(text: str) -> str:
    """'recall' -> 'synthetic recall prompts'."""
    return {
        "recall": "synthetic recall prompts (lists to look things up in, and copies)",
        "plain": "plain text",
        "mix": "a mix of plain text and recall prompts",
    }.get(text, text)
