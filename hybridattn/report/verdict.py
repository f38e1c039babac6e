"""What the numbers say: models and their evaluations, paired comparisons of layer choices, and what a
score measures. `summary` puts it into words.
"""

from __future__ import annotations

import math
from typing import Any

from .. import stats

LABELS = {
    "teacher": "teacher",
    "all-linear": "all linear",
    "uniform": "uniform",
    "random": "random",
    "diagnostic": "diagnostic",
    "chosen": "chosen",
}
BASELINES = ("uniform", "random", "diagnostic")  # other choices of as many layers


def label(model_id: str) -> str:
    """The name a model has in tables: 'random-0' -> 'random 1'."""
    base, _, number = model_id.rpartition("-")
    return f"random {int(number) + 1}" if base == "random" else LABELS.get(model_id, model_id)


def chosen_rows(rows: list[list[str]]) -> tuple[int, ...]:
    """The rows to emphasise."""
    return tuple(i for i, row in enumerate(rows) if row[0] == LABELS["chosen"])


def model(results: dict[str, Any], model_id: str) -> dict[str, Any] | None:
    """The entry of results["models"] with this id, or None."""
    return next((m for m in results["models"] if m["id"] == model_id), None)


def entry(results: dict[str, Any], model_id: str) -> dict[str, Any]:
    """`model`, which must be there."""
    return next(m for m in results["models"] if m["id"] == model_id)


def cell(found: dict[str, Any] | None, when: str, length: int) -> dict[str, Any] | None:
    """The evaluation of a model before or after distillation at a length, or None."""
    return ((found or {}).get(when) or {}).get(str(length))


def table_ids(results: dict[str, Any]) -> list[str]:
    """The rows of a table of models, in order; "random" stands for all random sets."""
    present = {("random" if m["id"].startswith("random") else m["id"]) for m in results["models"]}
    return [m for m in ("teacher", "all-linear", *BASELINES, "chosen") if m in present]


def shown(results: dict[str, Any], model_id: str) -> dict[str, Any]:
    """The entry that stands for a row of `table_ids`: the first random set for all."""
    return random_entries(results)[0] if model_id == "random" else entry(results, model_id)


def random_entries(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of all random sets."""
    return [m for m in results["models"] if m["id"].startswith("random")]


def random_mean(results: dict[str, Any], when: str, length: int) -> dict[str, Any] | None:
    """The random sets as one: means over the sets of KL (also per sequence), agreement and log perplexity.

    The same sets before and after distillation: those that were distilled, or all when none was. `kl_stderr`
    is over sets when there are two or more, since a new random set would differ by that, else over text.
    """
    entries = random_entries(results)
    entries = [m for m in entries if m.get("after")] or entries
    cells = [c for c in (cell(m, when, length) for m in entries) if c]
    if not cells:
        return None
    mean, over_sets = stats.mean([c["kl"] for c in cells])
    spread = over_sets if len(cells) > 1 else cells[0].get("kl_stderr")
    shares = [c["agreement"] for c in cells if c.get("agreement") is not None]  # runs of old have none
    share, share_over_sets = stats.mean(shares) if len(shares) == len(cells) else (None, None)
    return {
        "kl": mean,
        "kl_stderr": spread,
        "agreement": share,
        "agreement_stderr": share_over_sets if len(cells) > 1 else cells[0].get("agreement_stderr"),
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
            for baseline in (*BASELINES, "all-linear"):
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
                certain = stderr is not None and abs(difference) > stats.student_t95(freedom) * stderr
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


def _paired(chosen: dict[str, Any], other: dict[str, Any]) -> tuple[float, float | None]:
    """Mean and standard error of the differences by sequence; None as error of fewer than two."""
    a, b = chosen.get("per_sequence") or [], other.get("per_sequence") or []
    if len(a) < 2 or len(a) != len(b):
        return other["kl"] - chosen["kl"], None
    return stats.paired(b, a)


def cache_bytes(found: dict[str, Any] | None, context: float) -> float | None:
    """Bytes of decode state a model holds after `context` tokens."""
    cache = (found or {}).get("cache")
    return cache["fixed_bytes"] + cache["bytes_per_token"] * context if cache else None


def score_measures(method: str) -> str:
    """What a scoring method measures of a layer, with its unit."""
    answers = (
        "the rise of the answers' negative log-likelihood when this layer alone is linear, in nats per token"
    )
    beside = "the KL divergence it saves beside the set that the search found, in nats per token"
    return {
        "kl_gate": "the slope of the KL divergence as the layer's gate is moved from softmax to linear, with "
        "all layers half way, in nats per token and unit of gate",
        "kl_replace": "the KL divergence when this layer alone is linear, in nats per token",
        "kl_restore": "the KL divergence won back when this layer alone of an all-linear model is softmax, "
        "in nats per token",
        "kl_restore_distilled": "the KL divergence won back, after a short step 2, when this layer alone of "
        "an all-linear model is softmax, in nats per token",
        "kl_greedy_add": beside,
        "kl_greedy_remove": beside,
        "kl_joint": "its gate at the end of the search, 0 linear to 1 softmax",
        "mse": "the length of what step 1 left between the outputs of the two mixers, as a share of the "
        "softmax output's",
        "perplexity": "the rise of the negative log-likelihood when the layer's attention is silent, in nats "
        "per token",
        "smart": "the KL divergence won back when this layer alone of an all-linear model is softmax, in "
        "nats per token",
        "uniform": "even distances",
        "random": "a seeded draw",
        "first_last": "from both ends inwards",
    }.get(method, answers)


def rule(method: str) -> str:
    """How a method's scores become a set."""
    if method in ("kl_greedy_add", "kl_greedy_remove", "kl_joint"):
        return "the order that its search found"
    return "its rule for places" if method == "smart" else "its highest scores"


def read_on(chosen: dict[str, Any]) -> str:
    """', read on plain text' of the method that chose, '' when it reads none."""
    return f", read on {text_name(chosen['text'])}" if chosen["text"] else ""


def beside_training(results: dict[str, Any], length: int) -> str:
    """How windows of `length` compare with those of the last training."""
    trained, step = results["lengths"]["trained"], results["lengths"]["step"]
    if length == trained:
        return f"the windows of step {step}"
    return f"{'longer' if length > trained else 'shorter'} than the windows of step {step}"


def text_name(text: str) -> str:
    """'recall' -> 'synthetic recall prompts'."""
    return {
        "recall": "synthetic recall prompts (lists to look things up in, and copies)",
        "plain": "plain text",
        "mix": "a mix of plain text and recall prompts",
    }.get(text, text)
