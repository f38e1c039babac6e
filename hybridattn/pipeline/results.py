"""The results of all stages as one dict, in the shape that hybridattn.report takes."""

from __future__ import annotations

from typing import Any

from ..report.numbers import finite
from ..select import LayerScores, reads_text, topk_stability
from ..select.rankings import agreement
from .answers import public
from .ids import distilled_ids, model_ids, score_methods, shown_ids
from .job import Job
from .machine import machine, versions


def assemble(job: Job) -> dict[str, Any]:
    """Needs every stage before the report."""
    recipe, results = job.recipe, job.results
    chosen = job.layers("chosen")
    files, teacher = results["fetch"], results["teacher"]
    decided = results[f"score/{recipe.method}"]
    train = recipe.distill.seq_len if distilled_ids(recipe) else recipe.align.seq_len
    return {
        "title": f"{files['name']} with {len(chosen)} of {job.num_layers} layers softmax",
        "teacher": {
            "name": files["name"],
            "source": recipe.teacher.model,
            "weights": files["weights"],
            "num_layers": job.num_layers,
            "hidden_size": teacher["hidden_size"],
            "parameters": teacher["parameters"],
        },
        "mixer": recipe.mixer,
        "lengths": {
            "train": train if train in recipe.evaluate.lengths else min(recipe.evaluate.lengths),
            "trained": train,
            "step": 2 if distilled_ids(recipe) else 1,
            "all": sorted(recipe.evaluate.lengths),
        },
        "chosen": {"method": recipe.method, "text": _text(decided), "softmax_layers": chosen},
        "scores": [_scores(job, method, decided, chosen) for method in score_methods(recipe)],
        "additivity": _additivity(job),
        "curves": {
            "align": results["align"]["curve"],
            "distill": {m: results[f"distill/{m}"]["curve"] for m in distilled_ids(recipe)},
        },
        "models": [_model(job, model_id) for model_id in model_ids(recipe)],
        "answers_only": recipe.text.answers_only,
        "timing": results["measure"]["timing"],
        "prompt": recipe.samples.prompt,
        "made": {
            "seconds": sum(job.seconds.values()),
            "stages": _stages(job),
            "recipe": recipe.to_toml(),
            "compute": job.compute,
            "versions": versions(),
            "machine": machine(),
        },
    }


def _text(scored: dict[str, Any]) -> str | None:
    """What a method was read on; None for fixed patterns."""
    return scored["text"] if reads_text(scored["method"]) else None


def _scores(job: Job, method: str, decided: dict[str, Any], chosen: list[int]) -> dict[str, Any]:
    """A method's row: what it would choose for as many layers, how firmly, and how far it agrees."""
    found, k = job.results[f"score/{method}"], len(chosen)
    scores, chosen_by = (
        LayerScores.load(job.out / "scores" / f"{name}.json") for name in (method, decided["method"])
    )
    plain = scores.num_sequences > 1 and scores.by_mean
    layers = scores.top(k)
    return {
        **found,
        "text": _text(found),
        "layers": layers,
        "stability": topk_stability(scores, k)["jaccard"] if plain else None,
        "spearman": finite(agreement([scores, chosen_by], k)["spearman"][0][1]),
        "shared": len(set(layers) & set(chosen)),
    }


def _additivity(job: Job) -> dict[str, Any] | None:
    """Single-layer KLs against the all-linear KL, from kl_replace when it was among the methods."""
    found = job.results.get("score/kl_replace")
    if not found or found["all_linear_kl"] is None:
        return None
    whole, parts = found["all_linear_kl"], found["sum_single"]
    return {"all_linear_kl": whole, "sum_single_kl": parts, "gap": whole - parts}


def _model(job: Job, model_id: str) -> dict[str, Any]:
    results = job.results
    entry: dict[str, Any] = {
        "id": model_id,
        "softmax_layers": job.layers(model_id),
        "before": results[f"evaluate/before/{model_id}"],
        "after": results.get(f"evaluate/after/{model_id}"),
        "prefill": {},
        "decode": {},
        "sample": {},
        "tasks": public(results.get(f"tasks/{model_id}")),
    }
    # random sets after the first have its number of softmax layers, so its cache and size too
    shown = model_id if model_id in shown_ids(job.recipe) else "random-0"
    measured = results["measure"]["models"][shown]
    entry |= {key: measured[key] for key in ("cache", "parameters")}
    if shown == model_id:
        entry |= measured
        entry["sample"] = results[f"sample/{model_id}"]
    return entry


def _stages(job: Job) -> list[dict[str, Any]]:
    """Time and tokens, stages of one kind together except align and distill."""
    rows: dict[str, dict[str, Any]] = {}
    for name, seconds in job.seconds.items():
        kind = (
            name if name.split("/")[0] in ("align", "distill", "score") else name.rpartition("/")[0] or name
        )
        row = rows.setdefault(kind, {"name": kind, "seconds": 0.0, "tokens": None})
        row["seconds"] += seconds
        tokens = job.tokens.get(name)
        if tokens:
            row["tokens"] = (row["tokens"] or 0) + tokens
    return list(rows.values())
