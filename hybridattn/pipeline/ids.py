"""Which models a recipe makes, by the ids that stages and the report use."""

from __future__ import annotations

from .recipe import Recipe


def model_ids(recipe: Recipe) -> list[str]:
    """The models of the report."""
    diagnostic = ["diagnostic"] if recipe.plan.diagnostic else []
    return ["teacher", "all-linear", "uniform", *_random_ids(recipe.plan.random_seeds), *diagnostic, "chosen"]


def distilled_ids(recipe: Recipe) -> list[str]:
    """The models that step 2 is run on, the chosen one first; none when distill.tokens is 0."""
    if recipe.distill.tokens == 0:
        return []
    seeds = min(recipe.distill.random_seeds, recipe.plan.random_seeds)
    ids = [m for name in recipe.distill.models for m in (_random_ids(seeds) if name == "random" else [name])]
    ids = [m for m in ids if m in model_ids(recipe)]
    return sorted(dict.fromkeys(ids), key=lambda m: m != "chosen")


def score_methods(recipe: Recipe) -> list[str]:
    """The methods that score layers: the recipe's, and its diagnostic baseline."""
    baseline = [f"diagnostic:{recipe.plan.diagnostic}"] if recipe.plan.diagnostic else []
    return list(dict.fromkeys([*recipe.score.methods, *baseline]))


def shown_ids(recipe: Recipe) -> list[str]:
    """The models that are timed, sampled from and asked tasks; one random set stands for all."""
    return [m for m in model_ids(recipe) if not m.startswith("random") or m == "random-0"]


def _random_ids(count: int) -> list[str]:
    return [f"random-{seed}" for seed in range(count)]


def state_shown(recipe: Recipe, model_id: str) -> str:
    """The last state of a model, "before" or "after" distillation: what is sampled from."""
    return "after" if model_id in distilled_ids(recipe) else "before"
