"""Lengths of a recipe that nobody chose follow a teacher with few positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .recipe import Recipe


def fitted(recipe: Recipe, positions: int, log: Callable[[str], None] = print) -> Recipe:
    """`recipe` with every length that is the default's cut to the teacher's positions; `log` says which. A
    length that a recipe names stays, so that it is refused where it does not fit.
    """
    usual, cut = Recipe(), []

    def shorter(name: str, value: int, default: int, limit: int) -> int:
        if value != default or value <= limit:
            return value
        cut.append(f"{name} {limit:,}")
        return limit

    def several(name: str, values: tuple[int, ...], default: tuple[int, ...], limit: int) -> tuple[int, ...]:
        if values != default or max(values) <= limit:
            return values
        kept = tuple(sorted({min(value, limit) for value in values}))
        cut.append(f"{name} {list(kept)}")
        return kept

    parts = {
        name: replace(
            getattr(recipe, name),
            seq_len=shorter(
                f"{name}.seq_len", getattr(recipe, name).seq_len, getattr(usual, name).seq_len, positions
            ),
        )
        for name in ("align", "score", "distill")
    }
    evaluate = replace(
        recipe.evaluate,
        lengths=several("evaluate.lengths", recipe.evaluate.lengths, usual.evaluate.lengths, positions),
    )
    room = positions - recipe.measure.decode_tokens
    measure = replace(
        recipe.measure,
        lengths=several("measure.lengths", recipe.measure.lengths, usual.measure.lengths, room),
    )
    if cut:
        log(f"the teacher has {positions:,} positions: {', '.join(cut)}")
    return replace(recipe, **parts, evaluate=evaluate, measure=measure)
