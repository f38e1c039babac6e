"""What a model costs to run: seconds of prefill and of decoding a token, and the bytes its cache takes, by
context length.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core import get_num_threads
from ..charts import views
from ..checks import refuse
from ..lazy import contents
from ..model.base import switchable, switched
from ..model.prefill import prefill
from ..results.evaluation import Evaluation
from ..results.markup import box, figure, table
from ..select import linear_mixer

if TYPE_CHECKING:
    from ..model.model import Model

__all__ = ["Latency", "LayerCosts", "latency", "layer_costs", "processor"]
__dir__ = contents(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class Latency(Evaluation):
    """Of `latency`, by context length: seconds of prefill, seconds of decoding a token, and bytes of the
    cache; bytes that one more token adds, and threads.
    """

    prefill: dict[int, float]
    decode: dict[int, float]
    cache_bytes: dict[int, int]
    bytes_per_token: int
    threads: int

    def _frame_rows(self) -> list[dict[str, Any]]:
        return [
            {"length": n, "prefill": self.prefill[n], "decode": self.decode[n], "cache_bytes": bytes_held}
            for n, bytes_held in self.cache_bytes.items()
        ]

    def plot(self) -> Any:
        """A matplotlib figure: tokens a second of reading and of writing by length."""
        return views.speeds(self)

    def __repr__(self) -> str:
        timed = "; ".join(
            f"{n}: {figure(n / self.prefill[n])} read and {figure(1.0 / self.decode[n])} written a second"
            for n in list(self.prefill)[:2]
        )
        more = f"; and {len(self.prefill) - 2} lengths more" if len(self.prefill) > 2 else ""
        return f"Latency({timed}{more}; {self.threads} threads)"

    def _repr_html_(self) -> str:
        head = ["tokens", "prefill, s", "decode, ms a token", "cache, bytes"]
        rows = [
            [f"{n:,}", figure(self.prefill[n]), figure(1000.0 * self.decode[n]), f"{self.cache_bytes[n]:,}"]
            for n in self.prefill
        ]
        title = f"Latency with {self.threads} threads; a token adds {self.bytes_per_token:,} bytes"
        return box(title, table(rows, head))


@dataclass(frozen=True, eq=False, repr=False)
class LayerCosts(Evaluation):
    """Of `layer_costs`: ms_per_token and cache_bytes of the model with all layers softmax and with all
    linear, after `context` tokens on this machine.
    """

    all_softmax: dict[str, float]
    all_linear: dict[str, float]
    context: int
    num_layers: int
    mixer: dict[str, Any]
    machine: str
    threads: int

    def _frame_rows(self) -> list[dict[str, Any]]:
        return [{"layers": name} | getattr(self, name) for name in ("all_softmax", "all_linear")]

    def _repr_html_(self) -> str:
        rows = [
            [row["layers"].replace("_", " "), figure(row["ms_per_token"]), f"{row['cache_bytes']:,}"]
            for row in self._frame_rows()
        ]
        title = f"{self.num_layers} layers, {self.context:,} tokens, {self.threads} threads of {self.machine}"
        return box(title, table(rows, ["layers", "ms a token", "cache, bytes"]))


def latency(
    model: Model,
    lengths: Sequence[int] = (512, 1024, 2048),
    *,
    decode_tokens: int = 16,
    repeats: int = 3,
    prefill_chunk: int = 2048,
    seed: int = 0,
    cache_dtype: str = "f32",
    beyond_positions: bool = False,
) -> Latency:
    """Time batch-1 prefill and decoding at each context length, on random tokens.

    Returns a `Latency`: prefill {length: seconds}, decode {length: seconds per token}, cache_bytes {length:
    bytes the cache holds then}, bytes_per_token (what one more token adds), and threads. Times are the least
    of `repeats` runs, since other work on the machine only adds; a run's decode time is the median of its
    steps. beyond_positions: lengths past the model's positions are measured, not refused.
    """
    limit = 2**29 if beyond_positions else model.model_config.max_positions
    for name, value in (
        ("decode_tokens", decode_tokens),
        ("repeats", repeats),
        ("prefill_chunk", prefill_chunk),
    ):
        if value < 1:
            raise refuse(name, value, "1 or more")
    for length in lengths:
        if not 1 <= length <= limit - decode_tokens:
            raise refuse(
                "lengths", length, f"1 to {limit - decode_tokens}: {limit} positions less decode_tokens"
            )
    vocabulary, count = model.config["vocab_size"], max(lengths) + decode_tokens
    tokens = np.random.default_rng(seed).integers(0, vocabulary, count, dtype=np.int32)
    prefill_seconds, decode_seconds, cache_bytes = {}, {}, {}
    bytes_per_token = 0
    for length in sorted(set(lengths)):
        whole, decoding = [], []
        for _ in range(repeats):
            cache = model.cache(dtype=cache_dtype)
            cache.reserve([length + decode_tokens])
            started = time.perf_counter()
            prefill(model, [tokens[:length].tolist()], cache, prefill_chunk)
            whole.append(time.perf_counter() - started)
            cache_bytes[length], bytes_per_token = int(cache.nbytes), int(cache.bytes_per_token)
            steps = []
            for i in range(decode_tokens):
                started = time.perf_counter()
                model.logits(tokens[None, length + i : length + i + 1], cache=cache, last=True)
                steps.append(time.perf_counter() - started)
            decoding.append(statistics.median(steps))
        prefill_seconds[length] = min(whole)
        decode_seconds[length] = min(decoding)
    return Latency(prefill_seconds, decode_seconds, cache_bytes, bytes_per_token, get_num_threads())


def layer_costs(
    probe: Model, context: int = 2048, *, decode_tokens: int = 8, repeats: int = 3, seed: int = 0
) -> LayerCosts:
    """What decoding a token after `context` others takes with all layers softmax and with all linear,
    timed on this machine, and the bytes of one sequence's cache then: the two ends between which every
    plan lies.

    Returns a `LayerCosts`: all_softmax and all_linear, each {ms_per_token, cache_bytes}; context, num_layers,
    mixer, machine, threads.
    """
    found: dict[str, dict[str, float]] = {}
    for name, layers in (("all_softmax", switchable(probe)), ("all_linear", [])):
        with switched(probe, layers):
            timed = latency(probe, [context], decode_tokens=decode_tokens, repeats=repeats, seed=seed)
            found[name] = {
                "ms_per_token": 1000.0 * timed["decode"][context],
                "cache_bytes": _cache_bytes(probe, softmax=bool(layers), context=context),
            }
    return LayerCosts(
        **found,
        context=context,
        num_layers=len(probe.layers),
        mixer=linear_mixer(probe),
        machine=processor(),
        threads=get_num_threads(),
    )


def _cache_bytes(probe: Model, softmax: bool, context: int) -> int:
    """The exact need of one sequence, without the room that a cache keeps for more."""
    total = 0.0
    for layer in probe.cost(float(context)):
        for kind, cost in layer.items():
            if (kind == "softmax") == softmax or len(layer) == 1:
                total += cost["state_bytes"] + cost["bytes_per_token"] * context
    return int(total)


def processor() -> str:
    """The processor's name, so that timings are not taken for those of another machine."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
