"""What every selector returns: one score per layer, the values behind it, and what it cost."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import stats
from ..errors import DataError
from ..files import write_sheet
from .patterns import permutation, smart, uniform

Floats = npt.NDArray[np.float64]
FORMAT = "hybridattn-scores-1"


@dataclass(frozen=True)
class LayerScores:
    """One score per layer and the values it is the mean of.

    per_sequence float64 [num_layers, m]: the score on each of the m sequences (m = 0 for the baselines).
    `base_kl` is the KL of the model that single layers were changed in: 0 for kl_replace, the all-linear KL
    for kl_restore, the KL at the (first) alpha for kl_gate, the KL of the found set for a search.
    `all_linear_kl` is L(none), NaN where it was not measured. KLs are in nats per token; `measure`
    says what stands in their place for models without an LM head, see `KLScorer.measure`. `options` holds the
    method's settings, and `order` (layers, best first) where a search ranks otherwise than by the values.
    `cost`: forwards, in passes of the teacher over the scoring text (backward counts twice), and
    reference_forwards, what all_linear_kl took beside them. `tokens` [m]: what each sequence counts in the
    means, the tokens it predicts (None: all alike, as windows of one length and those with `weights` do).
    """

    method: str
    per_sequence: Floats
    base_kl: float = math.nan
    all_linear_kl: float = math.nan
    seconds: float = 0.0
    text: str = "plain"
    mixer: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    measure: str = "kl"
    tokens: Floats | None = None

    @property
    def num_layers(self) -> int:
        return len(self.per_sequence)

    @property
    def num_sequences(self) -> int:
        return int(self.per_sequence.shape[1])

    @property
    def searched(self) -> bool:
        """Whether the order is a search's own, not that of the values."""
        return "order" in self.options

    @property
    def values(self) -> Floats:
        """float64 [num_layers]: the mean over sequences; of a baseline with an order of its own, that
        order.
        """
        if self.num_sequences:
            return np.asarray(np.average(self.per_sequence, axis=1, weights=self.tokens), np.float64)
        fixed = self._fixed_order()
        return (
            np.zeros(self.num_layers) if fixed is None else np.float64(self.num_layers - 1) - fixed.argsort()
        )

    @property
    def stderr(self) -> Floats:
        """float64 [num_layers]: standard error of the mean over sequences; NaN for fewer than two."""
        if self.num_sequences < 2:
            return np.full(self.num_layers, math.nan)
        shares = None if self.tokens is None else self.tokens.tolist()
        return np.array([stats.mean(row, shares)[1] for row in self.per_sequence.tolist()])

    def part(self, sequences: slice | npt.NDArray[np.int64]) -> LayerScores:
        """The scores on some of the sequences."""
        tokens = None if self.tokens is None else self.tokens[sequences]
        return replace(self, per_sequence=self.per_sequence[:, sequences], tokens=tokens)

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """int64 [num_layers]: layers, the one to keep softmax first. Equal scores go by layer."""
        fixed = self._fixed_order()
        return np.argsort(-self.values, kind="stable") if fixed is None else fixed

    @property
    def rank(self) -> npt.NDArray[np.int64]:
        """int64 [num_layers]: 0 for the first layer of `order`."""
        return self.order.argsort(kind="stable")

    @property
    def nested(self) -> bool:
        """Whether the sets of all sizes are the beginnings of one order; `uniform` and `smart` place each set
        anew.
        """
        return self.method not in ("uniform", "smart")

    @property
    def by_mean(self) -> bool:
        """Whether sets are those of the highest mean scores, so that any part of the text gives sets too."""
        return self.nested and not self.searched and self.num_sequences > 0

    def top(self, k: int) -> list[int]:
        """The k layers that stay softmax, ascending: the first of `order`, or where the method's rule puts
        them.
        """
        if self.method == "uniform":
            return list(uniform(self.num_layers, k).softmax_layers)
        if self.method == "smart":
            return list(smart(self.values.tolist(), k))
        return sorted(int(i) for i in self.order[:k])

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

    def _fixed_order(self) -> npt.NDArray[np.int64] | None:
        if self.method == "random":
            return permutation(self.num_layers, int(self.options["seed"]))
        return np.array(self.options["order"], np.int64) if self.searched else None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, every digit kept."""
        content = {"format": FORMAT, **asdict(self), "per_sequence": self.per_sequence.tolist()}
        content["tokens"] = None if self.tokens is None else self.tokens.tolist()
        content["values"], content["stderr"] = self.values.tolist(), self.stderr.tolist()
        write_sheet(path, content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LayerScores:
        """Read what `save` wrote. Raises DataError naming the file when it is something else."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"format is {content['format']!r}; allowed: {FORMAT!r}")
            content.setdefault("cost", {})
            content.setdefault("measure", "kl")
            content.setdefault("tokens", None)
            values = {name: content[name] for name in cls.__dataclass_fields__}
            values["per_sequence"] = np.array(values["per_sequence"], np.float64)
            values["per_sequence"] = values["per_sequence"].reshape(len(content["values"]), -1)
            if values["tokens"] is not None:
                values["tokens"] = np.array(values["tokens"], np.float64).reshape(-1)
                if len(values["tokens"]) != values["per_sequence"].shape[1]:
                    raise ValueError("tokens and per_sequence differ in length")
            for name in ("base_kl", "all_linear_kl"):
                values[name] = math.nan if values[name] is None else float(values[name])
            return cls(**values)
        except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a file of layer scores: {error}") from None
