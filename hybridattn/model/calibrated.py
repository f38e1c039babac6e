"""A start for recurrences that is fitted to what the teacher's attention does on a text.

After Taylor-Calibrate (arXiv 2606.16429): decays from how far a head looks, beta from how many keys it looks
at, the output gate and the output projection by least squares against what softmax gives. Forward passes of
the teacher and of the mixers, layer by layer; nothing is trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._core import Model as CoreModel
from .._core import ops
from ..checks import check_choice, refuse

if TYPE_CHECKING:
    from ..data.tokens import TokenData, Windows

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

INITS = ("transfer", "calibrated")
KINDS = ("gated_delta", "kda", "gla", "mamba2")
TOKENS = 8_192  # of the text are read, in whole windows

_STRONGEST = 0.3  # beta of a head that looks at one key; much more, and what a head reads on average is lost
_LONGEST = 4_096.0  # mean distance, in tokens: what looks farther is kept as long
_RATE = 4.0  # exp(A_log); softplus(dt_bias) makes the rest of a decay
_OPEN = 2.0  # logit of the output gate while it is fitted
_DAMPING = 0.3  # the text is short: benchmarks/calibrated.py reads held-out text


@dataclass(frozen=True)
class Calibration:
    """What a calibrated start has cost and found: tokens read by the teacher, seconds, and of each layer and
    head the geometric mean distance of what attention reads, in tokens, and its spread, 0 (one key) to 1
    (all alike); float64 [num_layers, num_heads], NaN where a layer holds one mixer only.
    """

    tokens: int
    seconds: float
    distance: Doubles
    spread: Doubles


def check(mixer: Mapping[str, Any], init: str, data: TokenData | None) -> None:
    """ConfigError for an unknown start, for a mixer that no start is fitted for, and where the text is
    missing or of no use.
    """
    check_choice("init", init, INITS)
    if init == "calibrated":
        if mixer["kind"] not in KINDS:
            raise refuse("init", init, f'"transfer" for {mixer["kind"]}, "calibrated" for {", ".join(KINDS)}')
        if own := [name for name in ("heads", "key_heads", "head_dim") if mixer.get(name)]:
            raise refuse("init", init, f'"transfer" where {own[0]} gives heads a shape of their own')
    if (init == "calibrated") != (data is not None):
        raise refuse("data", data, 'TokenData with init "calibrated", None without')


def read_windows(data: TokenData) -> Windows:
    """Its first windows that hold `TOKENS` together, one at least."""
    ends = np.cumsum(data.windows[:, 1] - data.windows[:, 0])
    return data.windows[: max(1, int(np.searchsorted(ends, TOKENS, side="right")))]


def calibrate(probe: CoreModel, data: TokenData) -> Calibration:
    """Fit the linear mixers of `probe`, in place, on the first windows of `data`. Same bits for every number
    of threads. Raises ConfigError for kinds without such a start, DataError.
    """
    began = time.monotonic()
    windows = read_windows(data)
    shape = len(probe.layers), int(probe.config["num_heads"])
    distance, spread = np.full(shape, np.nan), np.full(shape, np.nan)
    arrays = {name: tensor.numpy() for name, tensor in probe.parameters(stored=False).items()}
    stream: Floats | None = None
    for layer, specs in enumerate(probe.layers):
        text: dict[str, Any] = {"tokens": data.tokens, "windows": windows, "segments": data.segments}
        text["incoming"] = stream
        found = probe.trace_layer(layer, **text)
        if "reach" in found:
            count, far, wide = found["reach"].T
            distance[layer] = np.expm1(far / np.maximum(count, 1))
            spread[layer] = wide / np.maximum(count, 1)
            kind = next(spec["kind"] for spec in specs if spec["kind"] != "softmax")
            prefix = f"layers.{layer}.{kind}."
            own = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
            fit = _Fit(kind, own, found, partial(probe.trace_layer, layer, **text, linear=True))
            fit.run(distance[layer], spread[layer])
        stream = found["stream"]
    return Calibration(int((windows[:, 1] - windows[:, 0]).sum()), time.monotonic() - began, distance, spread)


class _Fit:
    """One layer. own: the linear mixer's parameters by name; found: `_core.Model.trace_layer` of it, and
    linear() the same with linear=True, of the weights as they are then.
    """

    def __init__(
        self,
        kind: str,
        own: dict[str, Floats],
        found: dict[str, Any],
        linear: Callable[[], dict[str, Any]],
    ) -> None:
        self.kind, self.own, self.linear = kind, own, linear
        self.input: Floats = found["input"]
        self.wanted: Floats = found["softmax_output"]
        self.heads: Floats = found["softmax_read"]
        self.count = len(found["reach"])
        rows, width = self.input.shape
        # x . constant is 1 for every row, as nearly as a linear function of x can be: a bias in a matrix
        self.constant = ops.least_squares(
            self.input, np.ones((rows, 1), np.float32), np.zeros((1, width), np.float32), damping=1e-4
        )[0]

    def run(self, distance: Doubles, spread: Doubles) -> None:
        self._decay(distance)
        if "b_proj.weight" in self.own:
            matrix = self.own["b_proj.weight"]
            beta = np.clip(_STRONGEST * (1.0 - _of_states(spread, len(matrix))), 0.02, _STRONGEST)
            matrix[...] = np.outer(np.log(beta / (1.0 - beta)), self.constant)
        self._gate()
        self._output()

    def _decay(self, distance: Doubles) -> None:
        """Weights exp(g)^n of what lies n tokens back have the mean distance 1 / (exp(-g) - 1)."""
        rate = np.log1p(1.0 / np.clip(distance, 0.1, _LONGEST))  # -g, a number a head
        own = self.own
        if "w_bias" in own:  # g = log(sigmoid(w)) / 16
            rate = _of_states(rate, own["w_bias"].size // self._dim)
            own["w_bias"][...] = np.repeat(-_inverse_softplus(16.0 * rate), self._dim)
            return
        rate = _of_states(rate, own["A_log"].size)
        own["A_log"][...] = np.log(_RATE)
        own["dt_bias"][...] = np.repeat(_inverse_softplus(rate / _RATE), own["dt_bias"].size // len(rate))
        if "a_proj.weight" in own:
            own["a_proj.weight"][...] = 0.0

    def _gate(self) -> None:
        """A gate that opens with the size of what softmax gives: a number a head, linear in x."""
        if not {"g_proj.weight", "g_up.weight"} & self.own.keys():
            return
        whole = self._set_gate(np.outer(np.full(self.count, _OPEN), self.constant).astype(np.float32))
        if not whole or self.kind == "mamba2":  # whose norm is behind the gate: a factor a head is lost in it
            return
        logit = _OPEN * ops.linear(self.input, self.constant[None])[:, 0].astype(np.float64)
        opened = 1.0 / (1.0 + np.exp(-logit))
        if self.kind == "kda":  # sigmoid
            size = np.clip(0.5 * self._sizes(opened), 0.05, 0.95)
            self._set_gate(self._linear(np.log(size / (1.0 - size))))
        else:  # silu
            self._set_gate(self._linear(_inverse_silu(self._sizes(logit * opened))))

    def _set_gate(self, logits: Floats) -> bool:
        """Give all channels of a head the logit x . logits[head]; False where the gate's rank is too low to
        tell heads apart, and all have that of the first one.
        """
        if "g_proj.weight" in self.own:
            self.own["g_proj.weight"][...] = np.repeat(logits, self._dim, axis=0)
            return True
        down, up = self.own["g_down.weight"], self.own["g_up.weight"]
        whole = self.count <= len(down)
        used = self.count if whole else 1
        down[:used] = logits[:used]
        up[:, used:] = 0.0
        up[:, :used] = np.repeat(
            np.eye(self.count)[:, :used] if whole else np.ones((self.count, 1)), self._dim, axis=0
        )
        return whole

    @property
    def _dim(self) -> int:
        return self.heads.shape[1] // self.count

    def _by_head(self, rows: Floats) -> Floats:
        return rows.reshape(len(rows), self.count, self._dim)

    def _sizes(self, gate: Doubles) -> Doubles:
        """[rows, heads]: what the normed state of each token and head must be multiplied with to come
        nearest to softmax's, in units of its mean; gate [rows]: what it is multiplied with now.
        """
        normed, wanted = self._by_head(self.linear()["linear_read"]), self._by_head(self.heads)
        along = np.einsum("rhd,rhd->rh", normed, wanted, dtype=np.float64)
        size = np.einsum("rhd,rhd->rh", normed, normed, dtype=np.float64)
        with np.errstate(all="ignore"):
            best = np.where(size > 0, along / size, 0.0) * gate[:, None]
        best[np.abs(gate) < 0.05] = 0.0
        mean = np.maximum(best, 0.0).mean(axis=0)
        return np.clip(best / np.where(mean > 0, mean, 1.0), 0.0, 4.0)

    def _linear(self, wanted: Doubles) -> Floats:
        """[columns of wanted, hidden]: the linear function of x that is nearest to `wanted` [rows, n]."""
        start = np.outer(wanted.mean(axis=0), self.constant).astype(np.float32)
        return ops.least_squares(self.input, wanted.astype(np.float32), start, damping=_DAMPING)

    def _output(self) -> None:
        weight, read = self.own["o_proj.weight"], self.linear()["linear_read"]
        now, wanted = self._by_head(read), self._by_head(self.heads)
        along = np.einsum("rhd,rhd->h", now, wanted, dtype=np.float64)
        size = np.einsum("rhd,rhd->h", now, now, dtype=np.float64)
        scale = np.where(size > 0, along / np.where(size > 0, size, 1.0), 1.0)
        start = weight * np.repeat(scale, self._dim).astype(np.float32)
        wanted_output = self.wanted - self.own.get("o_proj.bias", np.float32(0.0))
        weight[...] = ops.least_squares(read, wanted_output, start, damping=_DAMPING)


def _of_states(values: Doubles, states: int) -> Doubles:
    """One of each state [states]: the mean over the heads that read it."""
    return values.reshape(states, -1).mean(axis=1)


def _inverse_softplus(y: Doubles) -> Doubles:
    return y + np.log(-np.expm1(-y))


def _inverse_silu(y: Doubles) -> Doubles:
    """z with z sigmoid(z) = y, for y of 0 or more, by Newton's method."""
    z = np.maximum(y, 0.5)
    for _ in range(12):
        open_ = 1.0 / (1.0 + np.exp(-z))
        z = z - (z * open_ - y) / (open_ * (1.0 + z * (1.0 - open_)))
    return z
