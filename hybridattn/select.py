"""Layer scores: what does the model lose if this layer is linear? High means: keep it softmax.

T is the teacher (every layer of the probe softmax), H(A) the hybrid in which the layers in A stay softmax and
the others use the probe's linear mixers, and L(A) the mean KL(T || H(A)) in nats per token over the scoring
text.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .config import refuse
from .data import slices
from .errors import DataError
from .files import atomic_write
from .plan import permutation, without_nan

if TYPE_CHECKING:
    from ._core import KLScorer
    from .data import TokenData, Windows
    from .model import Model

Floats = npt.NDArray[np.float64]
FORMAT = "hybridattn-scores-1"
SLICE_TOKENS = 2048  # scored at a time: what the core takes as one batch

SELECTORS = {
    "kl_replace": "KL when only this layer is linear (forward passes with shared prefixes)",
    "kl_restore": "KL won back when only this layer of an all-linear model is softmax (forward passes)",
    "kl_gate": "slope of the KL with all layers mixed half softmax, half linear (one backward pass)",
    "uniform": "baseline: softmax layers at even distances, no text needed",
    "random": "baseline: softmax layers drawn at random from a seed",
}


def selectors() -> dict[str, str]:
    """The scoring methods and what each one measures, in one line."""
    return dict(SELECTORS)


@dataclass(frozen=True)
class LayerScores:
    """One score per layer and the values it is the mean of.

    per_sequence float64 [num_layers, m]: the score on each of the m sequences (m = 0 for the baselines).
    `base_kl` is the KL of the model that single layers were changed in: 0 for kl_replace, the all-linear KL
    for kl_restore, the KL at the (first) alpha for kl_gate. `all_linear_kl` is L(none), NaN where it was not
    measured. KLs are in nats per token.
    """

    method: str
    per_sequence: Floats
    base_kl: float = math.nan
    all_linear_kl: float = math.nan
    seconds: float = 0.0
    text: str = "plain"
    mixer: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def num_layers(self) -> int:
        return len(self.per_sequence)

    @property
    def num_sequences(self) -> int:
        return int(self.per_sequence.shape[1])

    @property
    def values(self) -> Floats:
        """float64 [num_layers]: the mean over sequences. The random baseline's values are its own order."""
        if self.method == "random":
            order = permutation(self.num_layers, int(self.options["seed"]))
            return (self.num_layers - 1 - order.argsort()).astype(np.float64)
        return self.per_sequence.mean(axis=1) if self.num_sequences else np.zeros(self.num_layers)

    @property
    def stderr(self) -> Floats:
        """float64 [num_layers]: standard error of the mean over sequences; NaN for fewer than two."""
        if self.num_sequences < 2:
            return np.full(self.num_layers, math.nan)
        return self.per_sequence.std(axis=1, ddof=1) / math.sqrt(self.num_sequences)

    @property
    def rank(self) -> npt.NDArray[np.int64]:
        """int64 [num_layers]: 0 for the highest score. Equal scores rank by layer."""
        return _order(self.values).argsort(kind="stable")

    def top(self, k: int) -> list[int]:
        """The k highest-scored layers, ascending."""
        return sorted(int(i) for i in _order(self.values)[:k])

    @property
    def sum_single(self) -> float:
        """The sum of all layers' scores: for kl_replace, the sum of the single-layer KLs."""
        return float(self.values.sum())

    @property
    def additivity_gap(self) -> float:
        """all_linear_kl - sum_single: what the layers lose together beyond what they lose one by one (NaN:
        not measured).
        """
        return self.all_linear_kl - self.sum_single

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, every digit kept."""
        content = {"format": FORMAT, **asdict(self), "per_sequence": self.per_sequence.tolist()}
        content["values"], content["stderr"] = self.values.tolist(), self.stderr.tolist()
        atomic_write(path, json.dumps(without_nan(content), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LayerScores:
        """Read what `save` wrote. Raises DataError naming the file when it is something else."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"format is {content['format']!r}; allowed: {FORMAT!r}")
            values = {name: content[name] for name in cls.__dataclass_fields__}
            values["per_sequence"] = np.array(values["per_sequence"], np.float64)
            values["per_sequence"] = values["per_sequence"].reshape(len(content["values"]), -1)
            for name in ("base_kl", "all_linear_kl"):
                values[name] = math.nan if values[name] is None else float(values[name])
            return cls(**values)
        except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a file of layer scores: {error}") from None


def score(
    probe: Model,
    data: TokenData | None,
    method: str = "kl_gate",
    *,
    alpha: float | Sequence[float] = 0.5,
    seed: int = 0,
    progress: bool = True,
) -> LayerScores:
    """Score every layer of `probe` (both mixers in every layer, as `radlads.align` returns it) on `data`'s
    windows.

    method: a key of SELECTORS. alpha: for kl_gate, the gate of all layers (0 linear, 1 softmax) at which the
    slope is taken; several are averaged, and (0, .25, .5, .75) integrates the KL along the way. At 1 the
    slope is zero: refused. seed: for random. The probe's own gates are left as they were. Raises ConfigError;
    DataError when data is missing.
    """
    if method not in SELECTORS:
        raise refuse("method", method, ", ".join(SELECTORS))
    layers = len(probe.layers)
    linear = linear_mixer(probe)
    started = time.monotonic()
    options: dict[str, Any] = {}
    if method in ("uniform", "random"):
        options = {"seed": seed} if method == "random" else options
        return LayerScores(method, np.zeros((layers, 0)), mixer=linear, options=options)
    if data is None:
        raise DataError(f"data is None; allowed for method {method!r}: windows of text to score on")
    from ._core import KLScorer

    scorer = KLScorer(probe)
    parts = slices(data.windows, SLICE_TOKENS)
    bar = tqdm(parts, desc=f"score {method}", disable=not progress, leave=False)
    if method == "kl_gate":
        alphas = _alphas(alpha)
        rows, base, linear_kl = _each(bar, lambda windows: _gate(scorer, data, windows, layers, alphas))
        options = {"alpha": list(alphas)}
    else:
        function = _replace if method == "kl_replace" else _restore
        rows, base, linear_kl = _each(bar, lambda windows: function(scorer, data, windows, layers))
    return LayerScores(
        method, rows, base, linear_kl, time.monotonic() - started, data.label, mixer=linear, options=options
    )


Measured = tuple[Floats, Floats, Floats]  # scores [L, m], base KL [m], all-linear KL [m]


def _each(parts: Iterable[Windows], measure: Callable[[Windows], Measured]) -> tuple[Floats, float, float]:
    """Measure windows part by part, so that progress shows and Ctrl-C is served; join what came out."""
    results = [measure(part) for part in parts]
    rows = np.concatenate([r[0] for r in results], axis=1)
    return (
        rows,
        float(np.concatenate([r[1] for r in results]).mean()),
        float(np.concatenate([r[2] for r in results]).mean()),
    )


def _replace(scorer: KLScorer, data: TokenData, windows: Windows, layers: int) -> Measured:
    """L(all but l): from the teacher, make one layer linear."""
    base, rows = scorer.flip(data.tokens, windows, np.ones(layers, np.float32), list(range(layers)))
    return rows, base, scorer.kl(data.tokens, windows, np.zeros(layers, np.float32))


def _restore(scorer: KLScorer, data: TokenData, windows: Windows, layers: int) -> Measured:
    """L(none) - L({l}): from the all-linear model, make one layer softmax."""
    base, rows = scorer.flip(data.tokens, windows, np.zeros(layers, np.float32), list(range(layers)))
    return base[None, :] - rows, base, base


def _gate(
    scorer: KLScorer, data: TokenData, windows: Windows, layers: int, alphas: Sequence[float]
) -> Measured:
    """- dL / d alpha_l with all gates at alpha, averaged over alphas."""
    found = [scorer.gate_gradient(data.tokens, windows, np.full(layers, a, np.float32)) for a in alphas]
    rows = -np.mean([gradient for _, gradient in found], axis=0).T
    at_zero = [kl for (kl, _), a in zip(found, alphas, strict=True) if a == 0.0]
    linear = at_zero[0] if at_zero else scorer.kl(data.tokens, windows, np.zeros(layers, np.float32))
    return rows, found[0][0], linear


def _alphas(alpha: float | Sequence[float]) -> tuple[float, ...]:
    alphas = tuple(float(a) for a in alpha) if isinstance(alpha, Sequence) else (float(alpha),)
    if not alphas or not all(0.0 <= a < 1.0 for a in alphas):
        raise refuse(
            "alpha", alpha, "0 up to, but not, 1 (there the KL is at its minimum and its slope is zero)"
        )
    return alphas


def linear_mixer(probe: Model) -> dict[str, Any]:
    """The spec of the probe's linear mixer. Raises ConfigError when a layer does not hold softmax and a
    linear mixer.
    """
    for i, specs in enumerate(probe.layers):
        kinds = [spec["kind"] for spec in specs]
        if len(kinds) != 2 or kinds.count("softmax") != 1:
            raise refuse(f"layer {i} of the probe", kinds, "softmax and a linear mixer (see Model.to_probe)")
    return dict(next(spec for spec in probe.layers[0] if spec["kind"] != "softmax"))


def topk_stability(scores: LayerScores, k: int, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """How firmly the top-k set stands: bootstrap over sequences.

    Returns `jaccard` (mean overlap of a resample's top-k with the set itself, 1 = always the same), `low` and
    `high` (its 5% and 95% quantiles), and `inclusion` [num_layers], the share of resamples in which each
    layer is in the set.
    """
    if not 1 <= k <= scores.num_layers:
        raise refuse("k", k, f"1 to the number of layers, {scores.num_layers}")
    if scores.num_sequences < 2:
        raise DataError(
            f"scores by {scores.method!r} hold {scores.num_sequences} sequences; allowed: 2 or more"
        )
    m = scores.num_sequences
    chosen = np.zeros(scores.num_layers, bool)
    chosen[scores.top(k)] = True
    rng = np.random.default_rng(seed)
    inclusion = np.zeros(scores.num_layers)
    overlap = np.empty(resamples)
    for r in range(resamples):
        weights = np.bincount(rng.integers(0, m, m), minlength=m) / m
        top = _order(scores.per_sequence @ weights)[:k]
        inclusion[top] += 1
        both = int(chosen[top].sum())
        overlap[r] = both / (2 * k - both)
    low, high = np.quantile(overlap, [0.05, 0.95])
    return {
        "jaccard": float(overlap.mean()),
        "low": float(low),
        "high": float(high),
        "inclusion": (inclusion / resamples).tolist(),
        "resamples": resamples,
    }


def jaccard(a: Iterable[int], b: Iterable[int]) -> float:
    """Size of the intersection over size of the union; 1 for two empty sets."""
    left, right = set(a), set(b)
    return len(left & right) / len(left | right) if left | right else 1.0


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Rank correlation of two score vectors, ties at their mean rank; NaN when one is constant."""
    x, y = _mean_ranks(np.asarray(a, np.float64)), _mean_ranks(np.asarray(b, np.float64))
    if x.shape != y.shape or x.ndim != 1:
        raise DataError(f"a, b have shapes {x.shape}, {y.shape}; allowed: one shape [n]")
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm else math.nan


def _order(values: Floats) -> npt.NDArray[np.int64]:
    """Layers from the highest value to the lowest; equal values by layer."""
    return np.argsort(-values, kind="stable")


def _mean_ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
