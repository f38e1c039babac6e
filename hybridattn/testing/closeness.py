"""Are two models, or two sets of scores, the same? With a tolerance for each reason to differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..checks import check_choice, check_int, check_number
from ..select.rankings import spearman

if TYPE_CHECKING:
    from ..model.base import BaseModel
    from ..select.scores import LayerScores

# The largest difference of logits, as a share of the largest logit, by the reason for which two models may
# differ. "bits": none may. "rounding": float32 sums in another order, also by another instruction set.
# The others: weights stored in that type. Of blocks of 8 or 4 bits the share depends on the model: give it.
TOLERANCES: dict[str, float] = {
    "bits": 0.0,
    "rounding": 1e-4,
    "float16": 5e-3,
    "bfloat16": 3e-2,
}


def assert_models_close(
    actual: BaseModel,
    expected: BaseModel,
    within: str | float = "rounding",
    *,
    tokens: npt.ArrayLike | None = None,
    seed: int = 0,
) -> None:
    """Both models give the same logits (hidden states, where there is no head) on `tokens`.

    within: a key of TOLERANCES, or the largest difference as a share of the largest value expected.
    tokens: int [batch, length]; by default 2 rows of up to 64 drawn from `seed`. AssertionError says where
    the largest difference is, and which parameter is the first to differ.
    """
    limit = TOLERANCES[check_choice("within", within, TOLERANCES)] if isinstance(within, str) else within
    check_number("within", limit)
    for name in ("vocab_size", "hidden_size", "num_layers"):
        ours, theirs = (getattr(model.model_config, name) for model in (actual, expected))
        assert ours == theirs, f"{name} is {ours}; expected {theirs}"
    config = expected.model_config
    rows = (
        np.random.default_rng(seed).integers(0, config.vocab_size, (2, min(64, config.max_positions)))
        if tokens is None
        else np.atleast_2d(np.asarray(tokens))
    ).astype(np.int32)
    what = "logits" if config.lm_head else "hidden states"
    found, wanted = (
        np.asarray(model.logits(rows) if config.lm_head else model.hidden(rows))
        for model in (actual, expected)
    )
    difference = np.abs(found.astype(np.float64) - wanted)
    scale = float(np.abs(wanted).max()) or 1.0
    error = float(difference.max()) / scale
    if limit == 0.0:
        same = found.tobytes() == wanted.tobytes()
    else:
        same = bool(np.isfinite(found).all()) and error <= limit
    if same:
        return
    place = np.unravel_index(int(np.argmax(np.where(np.isnan(difference), np.inf, difference))), found.shape)
    at = [int(i) for i in place]
    raise AssertionError(
        f"{what} differ by {error:.2e} of the largest, allowed: {limit:.0e} ({within}); most in row {at[0]}, "
        f"token {at[1]}: {found[place]:.7g}, expected {wanted[place]:.7g}{_first_parameter(actual, expected)}"
    )


def _first_parameter(actual: BaseModel, expected: BaseModel) -> str:
    ours, theirs = actual.arrays(), expected.arrays()
    if ours.keys() != theirs.keys():
        only = sorted(ours.keys() ^ theirs.keys())
        return f"; parameter {only[0]} is in one of them alone"
    for name in ours:
        if ours[name].shape != theirs[name].shape or not np.array_equal(ours[name], theirs[name]):
            return f"; parameter {name} is the first that differs"
    return "; all parameters are equal"


def assert_same_weights(
    actual: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Both hold the same arrays under the same names, bit for bit."""
    missing = sorted(actual.keys() ^ expected.keys())
    assert not missing, f"{missing[0]} is in one of them alone"
    for name in actual:
        assert actual[name].shape == expected[name].shape, f"{name} has another shape"
        assert actual[name].tobytes() == expected[name].tobytes(), f"{name} differs"


def assert_scores_close(
    actual: LayerScores,
    expected: LayerScores,
    *,
    values: float | None = 1e-4,
    stderrs: float = 0.0,
    k: int | Sequence[int] | None = None,
    rank: float | None = None,
) -> None:
    """Both scores say the same of the layers, by three measures.

    values: the largest difference of a layer's score, as a share of the largest score (None: any); a layer
    may also be off by `stderrs` standard errors of its expected score. k: the sets of that size, or of these
    sizes, hold the same layers; layers whose expected scores are apart by less than the tolerance of values
    may change places. rank: the least Spearman correlation. AssertionError names the layer and both figures.
    """
    assert actual.method == expected.method, f"method is {actual.method}; expected {expected.method}"
    layers = expected.num_layers
    assert actual.num_layers == layers, f"{actual.num_layers} layers; expected {layers}"
    ours, theirs = actual.values, expected.values
    near = (np.inf if values is None else check_number("values", values)) * (
        float(np.abs(theirs).max()) or 1.0
    )
    errors = np.nan_to_num(expected.stderr) * check_number("stderrs", stderrs)
    allowed = np.maximum(near, errors)
    off = np.flatnonzero(~(np.abs(ours - theirs) <= allowed))
    if len(off):
        layer = int(off[np.argmax(np.abs(ours - theirs)[off] / (np.abs(theirs[off]) + 1e-30))])
        raise AssertionError(
            f"score of layer {layer} is {ours[layer]:.6g}; expected {theirs[layer]:.6g}, "
            f"within {allowed[layer]:.2g}{_in_errors(ours[layer] - theirs[layer], expected.stderr[layer])} "
            f"({len(off)} of {layers} layers differ)"
        )
    for size in [] if k is None else [k] if isinstance(k, int) else list(k):
        check_int("k", size, 0, layers)
        first, second = set(actual.top(size)), set(expected.top(size))
        gap = 0.0 if values is None else 2 * near
        lost, won = second - first, first - second
        if any(abs(theirs[a] - theirs[b]) > gap for a in lost for b in won):
            raise AssertionError(
                f"the {size} layers are {sorted(first)}; expected {sorted(second)}: "
                f"{sorted(won)} in the place of {sorted(lost)}"
            )
    if rank is not None:
        rho = spearman(actual.rank.tolist(), expected.rank.tolist())
        assert rho >= rank, f"Spearman correlation of the ranks is {rho:.3f}; allowed: {rank:g} or more"


def _in_errors(difference: float, stderr: float) -> str:
    return f", {abs(difference) / stderr:.1f} standard errors away" if stderr > 0 else ""
