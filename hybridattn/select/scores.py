"""What every selector returns: one score per layer, the values behind it, and what it cost."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__, stats
from ..charts import views
from ..errors import DataError
from ..families.config import MAX_LAYERS
from ..files import write_sheet
from ..reading import field as field_of
from ..reading import read_json
from ..results import markup
from ..results.equality import Comparable
from .patterns import permutation, smart, uniform

Floats = npt.NDArray[np.float64]
FORMAT = "hybridattn-scores-1"
_MOST = 1e100  # whose square is a number still


@dataclass(frozen=True, eq=False, repr=False)
class LayerScores(Comparable):
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
    `layers` and `total`: which of how many layers of the model the rows are of, where others are linear for
    good; None: all of them. Numbers of layers elsewhere in this class are those of rows.
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
    layers: tuple[int, ...] | None = None
    total: int | None = None

    @property
    def num_layers(self) -> int:
        return len(self.per_sequence)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of each row, the number of its layer in the model."""
        return tuple(range(self.num_layers)) if self.layers is None else self.layers

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

    def __repr__(self) -> str:
        best = ", ".join(f"{self.numbers[i]}: {self.values[i]:.3g}" for i in self.order[:3])
        more = ", .." if self.num_layers > 3 else ""
        kind = f" of {self.mixer['kind']}" if "kind" in self.mixer else ""
        return (
            f"LayerScores({self.method}{kind}, {self.num_layers} layers, {self.num_sequences} sequences of "
            f"{self.text}, best {{{best}{more}}})"
        )

    def _repr_html_(self) -> str:
        """Bars with errors; the best quarter of the layers, what `score` takes for k, in colour."""
        k = max(1, round(self.num_layers / 4))
        title = f"{self.method}: {self.num_layers} layers on {self.num_sequences} sequences of {self.text}"
        values, errors = self.values.tolist(), self.stderr.tolist()
        drawn = markup.bars(values, errors, self.top(k), f"scores of {self.method}", self.numbers)
        note = f"In colour: the {k} layers to keep softmax first. Whiskers: one standard error."
        return markup.box(title, drawn, note)

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each layer: score, stderr, rank. ImportError without pandas."""
        import pandas

        columns = {"score": self.values, "stderr": self.stderr, "rank": self.rank}
        return pandas.DataFrame(columns, index=pandas.Index(self.numbers, name="layer"))

    def plot(self, k: int | None = None) -> Any:
        """A matplotlib figure: a bar for each layer, the k that stay softmax in colour (default: a quarter).
        Needs the extra `report`.
        """
        chosen = self.top(max(1, round(self.num_layers / 4)) if k is None else k)
        return views.scores(self, chosen)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, every digit kept."""
        content = {"format": FORMAT, "version": __version__, **asdict(self)}
        content["per_sequence"] = self.per_sequence.tolist()
        content["tokens"] = None if self.tokens is None else self.tokens.tolist()
        content["values"], content["stderr"] = self.values.tolist(), self.stderr.tolist()
        write_sheet(path, content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LayerScores:
        """Read what `save` wrote, in this version or an earlier one. Raises DataError naming the file, and
        the version that wrote it, when it is something else.
        """
        content = read_json(path, DataError)
        version = content.get("version") if isinstance(content, dict) else None
        written = f", written by version {version}" if isinstance(version, str) else ""
        where = f"{os.fspath(path)}: not a file of layer scores{written}"
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            got = content.get("format") if isinstance(content, dict) else type(content).__name__
            advice = "; open it with that version, or score again with this one" if written else ""
            raise DataError(f"{where}: format is {got!r}; allowed: {FORMAT!r}{advice}")
        content = {"cost": {}, "measure": "kl", "tokens": None, "layers": None, "total": None, **content}
        number = (int, float)
        kinds: dict[str, type | tuple[type, ...]] = {
            "method": str, "text": str, "measure": str, "mixer": dict, "options": dict, "cost": dict,
            "seconds": number, "values": list, "base_kl": (*number, type(None)),
            "all_linear_kl": (*number, type(None)),
        }  # fmt: skip
        values = {name: field_of(content, name, kind, where, DataError) for name, kind in kinds.items()}
        layers = len(values.pop("values"))
        for name in ("base_kl", "all_linear_kl"):
            values[name] = math.nan if values[name] is None else float(values[name])
        table = numbers(content.get("per_sequence"), f"{where}: per_sequence")
        if not 0 < layers <= MAX_LAYERS or table.ndim > 2 or len(table) != layers:
            raise DataError(f"{where}: per_sequence has the shape {list(table.shape)} for {layers} layers")
        values["per_sequence"] = table.reshape(layers, -1)
        values["tokens"] = None
        if content["tokens"] is not None:
            values["tokens"] = numbers(content["tokens"], f"{where}: tokens").reshape(-1)
            if len(values["tokens"]) != values["per_sequence"].shape[1]:
                raise DataError(f"{where}: tokens and per_sequence differ in length")
            if (values["tokens"] <= 0).any():
                raise DataError(f"{where}: tokens holds {values['tokens'].min():g}; allowed: numbers above 0")
        _check_options(values["method"], values["options"], layers, where)
        values |= _place(content, layers, where)
        return cls(**values)


def numbers(value: Any, where: str) -> Floats:
    """A list of numbers, or of lists of them, as finite float64; else DataError that names `where`."""
    try:
        table = np.array(value)
        if table.dtype.kind not in "iuf" and table.size:
            raise ValueError(f"it holds {table.dtype.name}")
        table = table.astype(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where}: {error}; allowed: numbers, or lists of one length of them") from None
    if not isinstance(value, list) or not (np.abs(table) <= _MOST).all():
        raise DataError(f"{where} holds what is no number up to {_MOST:g}; allowed: lists of such numbers")
    return table


def _place(content: dict[str, Any], layers: int, where: str) -> dict[str, Any]:
    """`layers` and `total` of scores of a part of a model's layers."""
    given, total = content["layers"], content["total"]
    if given is None and total is None:
        return {}
    whole = isinstance(given, list) and all(type(i) is int for i in given) and type(total) is int
    ascending = whole and len(given) == layers and given == sorted(set(given))
    if not ascending or given[0] < 0 or not given[-1] < total <= MAX_LAYERS:
        raise DataError(
            f"{where}: layers is {given!r}, total {total!r}; allowed: {layers} ascending numbers below total"
        )
    return {"layers": tuple(given), "total": total}


def _check_options(method: str, options: dict[str, Any], layers: int, where: str) -> None:
    """DataError for options without which the order of the layers cannot be told."""
    order, seed = options.get("order"), options.get("seed")
    if "order" in options:
        given = order if isinstance(order, list) and all(type(i) is int for i in order) else []
        if sorted(given) != list(range(layers)):
            raise DataError(f"{where}: options.order is {order!r}; allowed: every layer below {layers} once")
    if method == "random" and (type(seed) is not int or not 0 <= seed < 1 << 63):
        raise DataError(f"{where}: options.seed is {seed!r}; allowed with random: a whole number from 0 on")
