"""What selectors share: the probe, the text, the scorer with the teacher's states, and the count of the
cost.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from .._core import KLScorer
from ..checks import refuse
from ..data.tokens import Windows, slices
from ..distributed.pieces import agree, spread
from ..distributed.state import current
from ..errors import DataError, HybridAttnError
from ..model.base import gates_for, switchable, switched
from ..radlads.teacher import final_hidden, weights_fingerprint
from ..results.progress import bar

if TYPE_CHECKING:
    from ..data.tokens import TokenData
    from ..model.model import Model

Floats = npt.NDArray[np.float64]
Gates = npt.NDArray[np.float32]
Found = TypeVar("Found")
SLICE_TOKENS = 2048  # scored at a time: what the core takes as one batch


@dataclass
class Result:
    """What a selector found: rows [num_layers, m], per-sequence KLs [m] (or one value), options to note."""

    rows: Floats
    base: Floats | float = math.nan
    all_linear: Floats | float = math.nan
    options: dict[str, Any] = field(default_factory=dict)
    text: str | None = None  # where it is not that of the data given


class Scoring:
    """One scoring of a probe. Everything that runs layers goes through it, so that the cost is counted.

    probe: both mixers in every layer that is scored, its candidates; layers are counted among these, and
    `candidates` has their numbers in the model. data: the text, whose `weights` say which tokens count.
    """

    def __init__(self, probe: Model, data: TokenData, name: str, progress: bool) -> None:
        self.probe, self.name, self.progress = probe, name, progress
        if current() is not None:
            agree(
                f"score {name}",
                {"weights of the probe": weights_fingerprint(probe), "text": data.fingerprint()},
            )
        self.data = data.within(probe.model_config.max_positions).apart()
        _check_weights(self.data, 0 if probe.model_config.bidirectional else 1)
        self.candidates = switchable(probe)
        self.layers, self.total = len(self.candidates), len(probe.layers)
        self.scorer = KLScorer(probe)
        self.tokens = self._tokens()
        self.parts = slices(self.data.windows, SLICE_TOKENS)
        self.extra = 0.0  # tokens times layers that the scorer did not see
        self.reference = 0.0

    def _tokens(self) -> Floats | None:
        """float64 [m]: what each window counts in means, the tokens it predicts, as in `evaluate.kl`; None
        where all count alike.
        """
        length = np.diff(self.data.windows)[:, 0]
        alike = self.data.weights is not None or self.scorer.measure != "kl" or (length == length[0]).all()
        return None if alike else length - 1.0

    def mean(self, rows: Floats) -> Floats:
        """The mean over windows, the last axis of `rows`."""
        return np.asarray(np.average(rows, axis=-1, weights=self.tokens), np.float64)

    # ---- cost

    @property
    def passes(self) -> float:
        return self.scorer.layer_passes + self.extra

    def cost(self) -> dict[str, float]:
        """In passes of the teacher over the text."""
        unit = self.total * self.data.num_tokens
        own = self.passes - self.reference
        return {"forwards": own / unit, "reference_forwards": self.reference / unit}

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """What runs inside is reported beside the scores: it plays no part in choosing."""
        before = self.passes
        yield
        self.reference += self.passes - before

    # ---- the teacher

    @contextmanager
    def teacher(self) -> Iterator[Model]:
        """The probe as the teacher: every gate 1 inside, as they were after."""
        with switched(self.probe, self.candidates):
            yield self.probe

    @cached_property
    def teacher_hidden(self) -> npt.NDArray[np.float32]:
        """float32 [n, D]: the teacher's final hidden states on the text, computed once."""
        with self.teacher() as teacher:
            out = final_hidden(teacher, self.data)
        self.extra += self.total * self.data.num_tokens
        return out

    # ---- passes over the text, part by part, so that progress shows and Ctrl-C is served

    def bar(self, parts: Sequence[Any], what: str = "") -> Iterator[Any]:
        label = f"score {self.name}{' ' + what if what else ''}"
        return iter(bar(parts, label, self.progress))

    def _each(self, work: Callable[[Windows], Found], what: str = "") -> list[Found]:
        """`work` on every part of the text, with a bar, shared out over ranks."""
        before = self.scorer.layer_passes
        found = spread(self.parts, work, lambda parts: self.bar(parts, what), "parts of the text")
        world = current()
        if world is not None and world.size > 1:  # what the other ranks did counts too
            own = self.scorer.layer_passes - before
            self.extra += sum(world.allgather(own)) - own
        return found

    def flip(self, gates: Gates, layers: Sequence[int], what: str = "") -> tuple[Floats, Floats]:
        """(KL [m] with these gates, KL [len(layers), m] with each of `layers` changed over)."""
        return self._flip(gates, layers, self.teacher_hidden, False, what)

    def flip_teacher(self, nll: bool = False) -> tuple[Floats, Floats]:
        """The same from the teacher, for every layer; the base is the teacher, with no pass of its own. nll:
        the negative log-likelihood instead of the KL.
        """
        return self._flip(np.ones(self.layers, np.float32), range(self.layers), None, nll, "")

    def _flip(
        self,
        gates: Gates,
        layers: Sequence[int],
        teacher: npt.NDArray[np.float32] | None,
        nll: bool,
        what: str,
    ) -> tuple[Floats, Floats]:
        data, own, numbers = self.data, self._own(gates), [self.candidates[i] for i in layers]
        found = self._each(
            lambda part: self.scorer.flip(
                data.tokens, part, own, numbers, teacher, data.weights, nll, data.segments
            ),
            what,
        )
        base, rows = np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found], axis=1)
        self._finite(base[None], "these gates", [None])
        self._finite(rows, "layer {} changed over", layers)
        return base, rows

    def kl(self, gates: Gates) -> Floats:
        """KL [m] with these gates."""
        data = self.data
        own, teacher = self._own(gates), self.teacher_hidden
        kl = np.concatenate(
            self._each(
                lambda part: self.scorer.kl(data.tokens, part, own, teacher, data.weights, data.segments)
            )
        )
        self._finite(kl[None], "these gates", [None])
        return kl

    def gradient(self, gates: Gates) -> tuple[Floats, Floats]:
        """(KL [m], its slope by every gate [num_layers, m])."""
        data = self.data
        own, teacher = self._own(gates), self.teacher_hidden
        found = self._each(
            lambda part: self.scorer.gate_gradient(
                data.tokens, part, own, teacher, data.weights, data.segments
            )
        )
        kl, slope = (
            np.concatenate([f[0] for f in found]),
            np.concatenate([f[1] for f in found]).T[self.candidates],
        )
        self._finite(kl[None], "these gates", [None])
        self._finite(slope, "the gate of layer {}", range(self.layers))
        return kl, slope

    def alignment(self) -> tuple[Floats, Floats]:
        """What step 1 left in each layer and what it began with, [num_layers, m] each."""
        data = self.data
        found = self._each(lambda part: self.scorer.alignment(data.tokens, part, data.segments))
        error, zero = (np.concatenate([f[i] for f in found], axis=1)[self.candidates] for i in (0, 1))
        self._finite(error, "layer {}", range(self.layers))
        return error, zero

    def _finite(self, rows: Floats, where: str, layers: Sequence[int | None]) -> None:
        """Nothing is ranked by what is no number: NaN sorts anywhere."""
        for layer, row in zip(layers, rows, strict=True):
            bad = np.flatnonzero(~np.isfinite(row))
            if len(bad):
                raise HybridAttnError(
                    f"{self.name}: {row[bad[0]]} for window {bad[0]} with {where.format(layer)}; allowed: a "
                    "number (is a weight of the probe not finite?)"
                )

    def set_gates(self, softmax: Sequence[int] | set[int]) -> Gates:
        """Gates of the hybrid in which these layers are softmax."""
        return gates_for(self.probe, [self.candidates[i] for i in softmax])[self.candidates]

    def _own(self, gates: Gates) -> Gates:
        """Those of all layers from those of the candidates."""
        own = np.zeros(self.total, np.float32)
        own[self.candidates] = gates
        return own

    def budget(self, k: int | None) -> int:
        """The size of the set to search for: k, by default a quarter of the layers, as in the paper."""
        found = max(1, round(self.layers / 4)) if k is None else k
        try:
            found = operator.index(found)
        except TypeError:
            found = 0
        if not 1 <= found < self.layers:
            raise refuse("k", k, f"1 to {self.layers - 1}, one less than the layers")
        return found


def _check_weights(data: TokenData, first: int) -> None:
    """Every window has a weight from its token `first` on; the core would count windows by the part."""
    if data.weights is None:
        return
    for i, (start, stop) in enumerate(data.windows):
        if not data.weights[start + first : stop].any():
            raise DataError(f"weights are 0 on all tokens of window {i}{' but its first' if first else ''}")
