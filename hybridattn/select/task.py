"""What selectors share: the probe, the text, the scorer with the teacher's states, and the count of the
cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .._core import KLScorer
from ..config import refuse
from ..data import slices
from ..elastic import gates_for, switched

if TYPE_CHECKING:
    from ..data import TokenData
    from ..model import Model

Floats = npt.NDArray[np.float64]
Gates = npt.NDArray[np.float32]
SLICE_TOKENS = 2048  # scored at a time: what the core takes as one batch


@dataclass
class Result:
    """What a selector found: rows [num_layers, m], per-sequence KLs [m] (or one value), options to note."""

    rows: Floats
    base: Floats | float = math.nan
    all_linear: Floats | float = math.nan
    options: dict[str, Any] = field(default_factory=dict)
    text: str | None = None  # where it is not that of the data given


class Task:
    """One scoring job. Everything that runs layers goes through it, so that the cost is counted.

    probe: both mixers in every layer; data: the text, whose `weights` say which tokens count.
    """

    def __init__(self, probe: Model, data: TokenData, name: str, progress: bool) -> None:
        self.probe, self.name, self.progress = probe, name, progress
        self.data = data.within(probe.model_config.max_positions)
        self.layers = len(probe.layers)
        self.scorer = KLScorer(probe)
        self.parts = slices(data.windows, SLICE_TOKENS)
        self.extra = 0.0  # tokens times layers that the scorer did not see
        self.reference = 0.0

    # ---- cost

    @property
    def passes(self) -> float:
        return self.scorer.layer_passes + self.extra

    def cost(self) -> dict[str, float]:
        """In passes of the teacher over the text."""
        unit = self.layers * self.data.num_tokens
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
        with switched(self.probe, range(self.layers)):
            yield self.probe

    @cached_property
    def teacher_hidden(self) -> npt.NDArray[np.float32]:
        """float32 [n, D]: the teacher's final hidden states on the text, computed once."""
        out = np.zeros((len(self.data.tokens), self.probe.config["hidden_size"]), np.float32)
        with self.teacher() as teacher:
            for part in self.parts:
                teacher.forward_windows(self.data.tokens, part, out, self.data.segments)
        self.extra += self.layers * self.data.num_tokens
        return out

    def prepare(self) -> None:
        """Compute the teacher's states now, so that their cost is the method's and not a reference's."""
        _ = self.teacher_hidden

    # ---- passes over the text, part by part, so that progress shows and Ctrl-C is served

    def bar(self, parts: Sequence[Any], what: str = "") -> Iterator[Any]:
        label = f"score {self.name}{' ' + what if what else ''}"
        return iter(tqdm(parts, desc=label, disable=not self.progress, leave=False))

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
        data = self.data
        found = [
            self.scorer.flip(data.tokens, part, gates, layers, teacher, data.weights, nll, data.segments)
            for part in self.bar(self.parts, what)
        ]
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found], axis=1)

    def kl(self, gates: Gates) -> Floats:
        """KL [m] with these gates."""
        data = self.data
        found = [
            self.scorer.kl(data.tokens, part, gates, self.teacher_hidden, data.weights, data.segments)
            for part in self.parts
        ]
        return np.concatenate(found)

    def gradient(self, gates: Gates) -> tuple[Floats, Floats]:
        """(KL [m], its slope by every gate [num_layers, m])."""
        data = self.data
        found = [
            self.scorer.gate_gradient(
                data.tokens, part, gates, self.teacher_hidden, data.weights, data.segments
            )
            for part in self.parts
        ]
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found]).T

    def set_gates(self, softmax: Sequence[int] | set[int]) -> Gates:
        """Gates of the hybrid in which these layers are softmax."""
        return gates_for(self.probe, list(softmax))

    def budget(self, k: int | None) -> int:
        """The size of the set to search for: k, by default a quarter of the layers, as in the paper."""
        found = max(1, round(self.layers / 4)) if k is None else k
        if not 1 <= found < self.layers:
            raise refuse("k", k, f"1 to {self.layers - 1}, one less than the layers")
        return found
