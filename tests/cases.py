"""The table of op cases: what test_ops.py checks, and what a benchmark may time.

A case is an op of `hybridattn._core.ops` with its arguments: float32 arrays made from a seed, and options.
The sizes are the awkward ones: one token, lengths that are no multiple of a tile, uneven sequences, grouped
heads, windows below and above the length, decays of 1 and of nearly 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Op:
    """How to call an op: arrays by position (integers first in `fixed`), results that have a gradient."""

    arrays: tuple[str, ...]
    results: int = 1
    fixed: tuple[str, ...] = ()  # arrays without a gradient
    keywords: tuple[str, ...] = ()  # arrays passed by keyword, when a case has them
    vjp_drops: tuple[str, ...] = ()  # options that only the forward op takes


OPS = {
    "linear": Op(("x", "weight"), keywords=("bias",)),
    "least_squares": Op(("x", "y", "start")),
    "stored_linear": Op(("x", "weight"), fixed=("weight",), keywords=("bias",)),
    "rms_norm": Op(("x", "weight")),
    "head_norm": Op(("x", "weight")),
    "layer_norm": Op(("x", "weight", "bias")),
    "activation": Op(("x",)),
    "rope": Op(("x", "inv_freq"), fixed=("inv_freq",)),
    "swiglu": Op(("gate_up",)),
    "embed": Op(("tokens", "table"), fixed=("tokens",)),
    "feature_map": Op(("x",), keywords=("weight",)),
    "softmax_attention": Op(("q", "k", "v"), results=3, vjp_drops=("return_stats",)),
    "recurrence": Op(
        ("q", "k", "v"),
        results=2,
        keywords=("g", "beta", "a", "b", "gv", "initial_state"),
        vjp_drops=("return_state",),
    ),
    "gated_delta": Op(
        ("q", "k", "v", "g", "beta"), results=2, keywords=("initial_state",), vjp_drops=("return_state",)
    ),
    "linear_attention": Op(("f", "e", "v"), results=2, keywords=("initial_state",)),
    "short_conv": Op(("x", "weight"), keywords=("initial_state",)),
    "pool": Op(("x", "weight")),
    "cross_entropy": Op(("hidden", "head", "targets"), fixed=("targets",), keywords=("bias",)),
    "kl_divergence": Op(
        ("teacher_hidden", "hidden", "teacher_head", "head"),
        fixed=("teacher_hidden", "teacher_head", "teacher_bias"),
        keywords=("teacher_bias", "bias"),
    ),
    "align_loss": Op(("target", "y"), fixed=("target",)),
    "pool_sequences": Op(("x",)),
    "softmax_cross_entropy": Op(("logits", "targets"), fixed=("targets",)),
    "softmax_kl": Op(("teacher_logits", "logits"), fixed=("teacher_logits",)),
    "squared_error": Op(("target", "y"), fixed=("target",)),
    "relative_error": Op(("target", "y"), fixed=("target",)),
}
# ops whose vjp takes one number for all tokens
LOSSES = (
    "cross_entropy",
    "kl_divergence",
    "align_loss",
    "softmax_cross_entropy",
    "softmax_kl",
    "squared_error",
    "relative_error",
)


@dataclass(frozen=True)
class Case:
    op: str
    name: str
    make: Callable[[np.random.Generator], Arrays]
    options: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 2e-5  # of the result's largest entry, forward
    gradient_tolerance: float = 5e-5  # of a gradient's norm
    gradient_floor: float = 0.0  # root mean square below which a gradient is noise
    gradient: bool = True

    @property
    def id(self) -> str:
        return f"{self.op}-{self.name}"

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(self.id.encode()))

    def arrays(self) -> Arrays:
        """Arrays by name: integers as they are, everything else float32."""
        made = self.make(self.rng())
        return {k: a if a.dtype.kind == "i" else np.ascontiguousarray(a, np.float32) for k, a in made.items()}

    def call(self, module, arrays: Arrays) -> tuple[np.ndarray, ...]:
        """The op's results, always as a tuple."""
        op = OPS[self.op]
        keywords = {name: arrays[name] for name in op.keywords if name in arrays}
        result = getattr(module, self.op)(*(arrays[n] for n in op.arrays), **keywords, **self.options)
        return result if isinstance(result, tuple) else (result,)

    def vjp(self, module, arrays: Arrays, cotangents: tuple[np.ndarray, ...]) -> Arrays:
        """Gradients by name of the array."""
        op = OPS[self.op]
        names = [n for n in (*op.arrays, *op.keywords) if n not in op.fixed]
        keywords = {name: arrays[name] for name in op.keywords if name in arrays}
        options = {k: v for k, v in self.options.items() if k not in op.vjp_drops}
        tangents = (cotangents[0].flat[0],) if self.op in LOSSES else cotangents
        function = getattr(module, f"{self.op}_vjp")
        found = function(*(arrays[n] for n in op.arrays), *tangents, **keywords, **options)
        found = found if isinstance(found, tuple) else (found,)
        return {name: g for name, g in zip(names, found) if name in arrays}


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return scale * rng.standard_normal(shape)


# --- row by row ---


def linear(name: str, rows: int, width: int, out: int, bias: bool = False, **more) -> Case:
    def make(rng):
        arrays = {"x": normal(rng, rows, width), "weight": normal(rng, out, width, scale=width**-0.5)}
        return arrays | ({"bias": normal(rng, out)} if bias else {})

    return Case("linear", name, make, **more)


def least_squares(name: str, rows: int, width: int, out: int, damping: float = 0.01) -> Case:
    def make(rng):
        x = normal(rng, rows, width) @ normal(rng, width, width, scale=width**-0.5)
        return {"x": x, "y": normal(rng, rows, out), "start": normal(rng, out, width)}

    return Case("least_squares", name, make, {"damping": damping}, tolerance=2e-4, gradient=False)


STORAGE_TYPES = ("float32", "bfloat16", "float16", "q8_0", "q4_0", "q4_1")


def stored_linear(name: str, rows: int, width: int, out: int, bias: bool = False) -> list[Case]:
    """One case for every storage type that holds rows of that width."""

    def make(rng):
        weight = normal(rng, out, width, scale=width**-0.5)
        weight[: out // 3, : width // 2] *= 1e-3
        weight[0, :32] = 0.0  # a block without a scale
        return {"x": normal(rng, rows, width), "weight": weight} | (
            {"bias": normal(rng, out)} if bias else {}
        )

    types = [t for t in STORAGE_TYPES if width % 32 == 0 or t.startswith(("b", "f"))]
    return [Case("stored_linear", f"{t}_{name}", make, {"dtype": t}) for t in types]


def rms_norm(name: str, rows: int, d: int, scale: float = 1.0, **options) -> Case:
    def make(rng):
        x = normal(rng, rows, d, scale=scale)
        x[rows // 2] *= 1e-3  # a row under the influence of eps
        return {"x": x, "weight": 1 + normal(rng, d, scale=0.3)}

    return Case("rms_norm", name, make, options)


def head_norm(name: str, rows: int, heads: int, dim: int, **options) -> Case:
    def make(rng):
        return {"x": normal(rng, rows, heads, dim), "weight": 1 + normal(rng, dim, scale=0.3)}

    return Case("head_norm", name, make, options)


def layer_norm(name: str, rows: int, d: int, scale: float = 1.0, mean: float = 0.0, **options) -> Case:
    def make(rng):
        x = normal(rng, rows, d, scale=scale) + mean
        x[rows // 2] = mean + 1e-3 * normal(rng, d)  # a row under the influence of eps
        return {"x": x, "weight": 1 + normal(rng, d, scale=0.3), "bias": normal(rng, d)}

    return Case("layer_norm", name, make, options)


def activation(kind: str, name: str, rows: int, f: int, scale: float = 1.0) -> Case:
    return Case(
        "activation", f"{kind}_{name}", lambda rng: {"x": normal(rng, rows, f, scale=scale)}, {"kind": kind}
    )


def rope(
    name: str, rows: int, heads: int, dim: int, tolerance: float = 2e-5, turning: int | None = None, **options
) -> Case:
    def make(rng):
        inv_freq = 100.0 ** (-np.arange(0, turning or dim, 2) / dim)
        return {"x": normal(rng, rows, heads, dim), "inv_freq": inv_freq}

    return Case("rope", name, make, options, tolerance, 10 * tolerance)


def swiglu(name: str, rows: int, f: int, scale: float = 1.0) -> Case:
    return Case("swiglu", name, lambda rng: {"gate_up": normal(rng, rows, 2 * f, scale=scale)})


def embed(name: str, rows: int, vocabulary: int, d: int) -> Case:
    def make(rng):
        return {"tokens": rng.integers(0, vocabulary, rows), "table": normal(rng, vocabulary, d)}

    return Case("embed", name, make)


def feature_map(
    name: str, rows: int, heads: int, dim: int, scale: float = 1.0, map: str = "hedgehog"
) -> Case:
    def make(rng):
        weight = np.eye(dim) + normal(rng, heads, dim, dim, scale=0.5 * dim**-0.5)
        x = {"x": normal(rng, rows, heads, dim, scale=scale)}
        return x if map in ("elu", "relu") else x | {"weight": weight}

    return Case("feature_map", f"{map}_{name}", make, {"map": map})


# --- attention ---


def attention(name, rows, heads=2, kv_heads=1, dim=16, sharp=1.0, keys=None, **options) -> Case:
    def make(rng):
        length = rows if keys is None else keys
        q = normal(rng, rows, heads, dim, scale=sharp)
        return {"q": q, "k": normal(rng, length, kv_heads, dim), "v": normal(rng, length, kv_heads, dim)}

    options["return_stats"] = True
    return Case("softmax_attention", name, make, options, gradient=keys is None)


def gated_delta(
    name, rows, heads=2, dk=16, dv=16, g=-0.3, beta=None, zero_keys=False, state=False, group=1, **options
) -> Case:
    """g: the mean of the log decays; all of them where it is 0 or below -5. group: heads of q for each."""

    def make(rng):
        q, k = normal(rng, rows, heads * group, dk), normal(rng, rows, heads, dk)
        k /= np.linalg.norm(k, axis=-1, keepdims=True)
        if zero_keys:
            k[:: 3 if rows > 1 else 1] = 0.0
        log_decay = np.full((rows, heads), g) if g == 0 or g < -5 else g * rng.uniform(0, 2, (rows, heads))
        step = rng.uniform(0, 1, (rows, heads)) if beta is None else np.full((rows, heads), beta)
        arrays = {"q": q * dk**-0.5, "k": k, "v": normal(rng, rows, heads, dv), "g": log_decay, "beta": step}
        n = len(options.get("lengths", [rows]))
        return arrays | ({"initial_state": normal(rng, n, heads, dk, dv)} if state else {})

    # the gradient of a decay of nearly 0 is a difference of numbers near 1
    return Case("gated_delta", name, make, options | {"return_state": True}, gradient_floor=0.05)


def recurrence(
    name,
    rows,
    form="add",
    gate="channel",
    heads=2,
    dk=16,
    dv=16,
    g=-0.3,
    zero_keys=False,
    state=False,
    group=1,
    **options,
) -> Case:
    """form: add, delta (beta), erase (a and b, at most 1 long); gate: none, head, channel, value; group:
    heads of q for each.
    """

    def make(rng):
        q, k, v = (normal(rng, rows, heads * n, d) for n, d in ((group, dk), (1, dk), (1, dv)))
        k /= np.linalg.norm(k, axis=-1, keepdims=True)
        if zero_keys:
            k[::2] = 0.0
        arrays = {"q": q * dk**-0.5, "k": k, "v": v}
        if gate != "none":
            shape = {"head": (rows, heads), "channel": (rows, heads, dk), "value": (rows, heads, dv)}[gate]
            arrays["gv" if gate == "value" else "g"] = (
                np.full(shape, g) if g == 0 or g < -5 else g * rng.uniform(0, 2, shape)
            )
        if form == "delta":
            arrays["beta"] = rng.uniform(0, 1, (rows, heads))
        if form == "erase":
            b = normal(rng, rows, heads, dk)
            b /= np.linalg.norm(b, axis=-1, keepdims=True)
            arrays |= {"a": -b * rng.uniform(0, 1, b.shape), "b": b}
        n = len(options.get("lengths", [rows]))
        return arrays | ({"initial_state": normal(rng, n, heads, dk, dv)} if state else {})

    return Case("recurrence", name, make, options | {"return_state": True}, gradient_floor=0.05)


def linear_attention(name, rows, heads=2, kv_heads=1, features=16, dim=8, state=False, **options) -> Case:
    def make(rng):
        f, e = (rng.uniform(0, 1 / features, (rows, n, features)) for n in (heads, kv_heads))
        arrays = {"f": f, "e": e, "v": normal(rng, rows, kv_heads, dim)}
        n = len(options.get("lengths", [rows]))
        start = normal(rng, n, kv_heads, features * (dim + 1))
        return arrays | ({"initial_state": start} if state else {})

    return Case("linear_attention", name, make, options, gradient=not state)


def short_conv(name, rows, d=24, taps=4, state=False, **options) -> Case:
    def make(rng):
        arrays = {"x": normal(rng, rows, d), "weight": normal(rng, d, taps, scale=taps**-0.5)}
        n = len(options.get("lengths", [rows]))
        return arrays | ({"initial_state": normal(rng, n, taps - 1, d)} if state else {})

    options |= {"return_state": True} if state else {}
    return Case("short_conv", name, make, options, gradient=not state)


def pool(name, rows, d=24, slots=4, length=None, **options) -> Case:
    def make(rng):
        size = rows if length is None else length
        return {"x": normal(rng, rows, d), "weight": normal(rng, slots, size, scale=size**-0.5)}

    return Case("pool", name, make, options)


# --- losses ---


def cross_entropy(name, rows, d, vocabulary, scale=1.0, skip=False, bias=False) -> Case:
    def make(rng):
        targets = rng.integers(0, vocabulary, rows)
        if skip:
            targets[::3] = -1
        head = normal(rng, vocabulary, d, scale=scale * d**-0.5)
        arrays = {"hidden": normal(rng, rows, d), "head": head, "targets": targets}
        return arrays | ({"bias": normal(rng, vocabulary)} if bias else {})

    return Case("cross_entropy", name, make)


def kl_divergence(name, rows, d, vocabulary, scale=1.0, apart=1.0, tolerance=2e-5, bias=False) -> Case:
    """apart: how far the student is from the teacher."""

    def make(rng):
        teacher, head = normal(rng, rows, d), normal(rng, vocabulary, d, scale=scale * d**-0.5)
        student_head = head + normal(rng, vocabulary, d, scale=0.1 * apart * scale * d**-0.5)
        arrays = {
            "teacher_hidden": teacher,
            "hidden": teacher + normal(rng, rows, d, scale=apart),
            "teacher_head": head,
            "head": student_head,
        }
        biases = {"teacher_bias": normal(rng, vocabulary), "bias": normal(rng, vocabulary)}
        return arrays | (biases if bias else {})

    return Case("kl_divergence", name, make, tolerance=tolerance)


def align_loss(name, rows, d) -> Case:
    return Case("align_loss", name, lambda rng: {"target": normal(rng, rows, d), "y": normal(rng, rows, d)})


def error(op, name, rows, d) -> Case:
    return Case(op, name, lambda rng: {"target": normal(rng, rows, d), "y": normal(rng, rows, d)})


def pool_sequences(pool, lengths, d) -> Case:
    def make(rng):
        return {"x": normal(rng, sum(lengths), d)}

    return Case("pool_sequences", f"{pool}_{len(lengths)}", make, {"pool": pool, "lengths": lengths})


def softmax_loss(op, name, lengths, scale=1.0, **more) -> Case:
    """Pieces of these lengths; a teacher, or targets, whatever the op takes."""

    def make(rng):
        logits = normal(rng, sum(lengths), scale=scale)
        if op == "softmax_kl":
            return {"teacher_logits": normal(rng, sum(lengths), scale=scale), "logits": logits}
        return {"logits": logits, "targets": np.array([rng.integers(n) for n in lengths])}

    return Case(op, name, make, {"lengths": lengths}, **more)


UNEVEN = [1, 64, 5, 63, 2]  # 135 rows
CASES = [
    least_squares("one_row", 1, 5, 2),
    least_squares("one_output", 40, 7, 1),
    least_squares("wide", 70, 90, 33),
    least_squares("strong", 50, 20, 40, damping=10.0),
    linear("one_number", 1, 1, 1),
    linear("one_row", 1, 70, 65, bias=True),
    linear("few_rows", 4, 33, 130, bias=True),
    linear("odd", 65, 31, 129),
    linear("wide", 130, 300, 515),
    linear("bias", 20, 64, 48, bias=True),
    *stored_linear("one_number", 1, 1, 1),
    *stored_linear("one_row", 1, 96, 131, bias=True),
    *stored_linear("odd", 3, 45, 67),
    *stored_linear("few_rows", 4, 32, 130),
    *stored_linear("batch", 13, 64, 70),
    *stored_linear("tiles", 33, 288, 150, bias=True),
    *stored_linear("pieces", 530, 64, 33),
    *stored_linear("odd_tiles", 20, 301, 130),
    rms_norm("one_number", 1, 1),
    rms_norm("odd", 3, 7, eps=1e-5),
    rms_norm("model_width", 70, 576),
    rms_norm("large", 33, 64, scale=1e4),
    head_norm("smallest", 1, 1, 2),
    head_norm("odd", 7, 3, 5, eps=1e-5),
    head_norm("blocks", 40, 4, 24),
    layer_norm("two_numbers", 1, 2),
    layer_norm("odd", 3, 7, eps=1e-5),
    layer_norm("model_width", 70, 384),
    layer_norm("large", 33, 64, scale=1e4),
    layer_norm("far_from_zero", 9, 50, mean=30.0),
    *(
        case
        for kind in ("none", "gelu", "gelu_tanh", "relu", "silu", "sigmoid", "tanh")
        for case in (
            activation(kind, "one_number", 1, 1),
            activation(kind, "odd", 19, 33),
            activation(kind, "wide", 20, 800),
            activation(kind, "saturated", 5, 40, scale=20.0),
        )
    ),
    rope("smallest", 1, 1, 2),
    rope("part_of_a_head", 9, 3, 10, turning=4),
    rope("sequences", 40, 3, 16, lengths=[1, 30, 9]),
    # angles are float32, as the checkpoints were trained with: at position 8191 the last bit is 5e-4
    rope("positions", 5, 2, 64, positions=[7, 0, 1000, 8191, 3], factor=0.7, tolerance=6e-4),
    swiglu("one_number", 1, 1),
    swiglu("odd", 19, 33),
    swiglu("saturated", 5, 40, scale=60.0),
    embed("one", 1, 1, 1),
    embed("repeats", 50, 7, 130),
    *(
        case
        for map in ("elu", "relu", "hedgehog", "favor")
        for case in (
            feature_map("one_row", 1, 1, 8, map=map),
            feature_map("odd", 65, 3, 18, map=map),
            feature_map("wide", 20, 2, 128, map=map),
        )
    ),
    feature_map("saturated", 9, 2, 16, scale=30.0),
    feature_map("saturated", 9, 2, 16, scale=9.0, map="elu"),
    feature_map("faint", 9, 2, 16, scale=4.0, map="favor"),
    attention("one_token", 1),
    attention("tile_less_one", 63),
    attention("tile", 64, heads=1),
    attention("tile_and_one", 65, dim=8),
    attention("no_groups", 70, heads=2, kv_heads=2, dim=24),
    attention("groups", 130, heads=6, kv_heads=2, dim=10),
    attention("wide_head", 66, heads=1, dim=128),
    attention("sequences", sum(UNEVEN), heads=3, lengths=UNEVEN),
    attention("one_token_sequences", 4, lengths=[1, 1, 1, 1]),
    attention("bidirectional", 75, causal=False, lengths=[70, 5]),
    attention("bidirectional_window", 140, causal=False, window=9, sinks=2),
    attention("window_one", 67, window=1),
    attention("window", 150, window=20),
    attention("window_sinks", 150, window=20, sinks=4),
    attention("window_tile", 200, window=64, sinks=64),
    attention("window_many_sinks", 200, window=3, sinks=100),
    attention("window_above_length", 50, window=70, sinks=4),
    attention("window_sequences", sum(UNEVEN), window=5, sinks=1, lengths=UNEVEN),
    attention("sharp", 80, sharp=30.0),
    attention("scale", 30, scale=0.5),
    attention("continued", 20, keys=150, lengths=[7, 13], key_lengths=[90, 60]),
    attention("continued_window", 20, keys=150, lengths=[7, 13], key_lengths=[90, 60], window=30, sinks=5),
    attention("decode", 3, heads=4, kv_heads=2, keys=771, lengths=[1] * 3, key_lengths=[1, 256, 514]),
    attention("decode_window", 2, keys=700, lengths=[1, 1], key_lengths=[100, 600], window=300, sinks=4),
    attention("decode_many_sinks", 1, keys=1200, window=10, sinks=900),
    gated_delta("one_token", 1),
    gated_delta("one_token_state", 1, state=True),
    gated_delta("two_tokens", 2, dk=8, dv=8),
    gated_delta("chunk_less_one", 63),
    gated_delta("chunk", 64, heads=1),
    gated_delta("chunk_and_one", 65, state=True),
    gated_delta("chunks", 150, heads=3),
    gated_delta("sequences", sum(UNEVEN), lengths=UNEVEN),
    gated_delta("sequences_state", sum(UNEVEN), lengths=UNEVEN, state=True),
    gated_delta("no_decay", 130, g=0.0),
    gated_delta("strong_decay", 130, g=-50.0, state=True),
    gated_delta("total_decay", 100, g=-1e4),
    gated_delta("beta_zero", 70, beta=0.0, state=True),
    gated_delta("beta_one", 130, beta=1.0, g=-0.05),
    gated_delta("zero_keys", 70, zero_keys=True),
    gated_delta("all_zero_keys", 1, zero_keys=True, state=True),
    gated_delta("more_values", 67, heads=1, dk=8, dv=40),
    gated_delta("more_keys", 67, heads=1, dk=33, dv=9),
    gated_delta("wide_head", 66, heads=1, dk=128, dv=128),
    gated_delta("three_queries", 150, group=3, state=True),
    gated_delta("grouped_token", 1, dk=64, dv=64, group=3, state=True),
    gated_delta("grouped_sequences", sum(UNEVEN), heads=1, dk=24, dv=40, group=2, lengths=UNEVEN),
    recurrence("one_token", 1),
    recurrence("one_token_in_place", 1, "delta", dv=64, state=True),
    recurrence("chunks", 150, "erase", heads=3),
    recurrence("sequences", sum(UNEVEN), "delta", lengths=UNEVEN),
    *(
        recurrence(f"{form}_{gate}", n, form, gate, dk=dk, dv=dv, state=state)
        for form, gate, n, dk, dv, state in [
            ("add", "none", 65, 8, 8, True),
            ("add", "head", 130, 16, 33, False),
            ("add", "channel", 66, 24, 17, True),
            ("add", "value", 65, 16, 16, True),
            ("add", "value", 130, 24, 70, False),
            ("delta", "none", 64, 16, 16, True),
            ("delta", "channel", 129, 17, 40, True),
            ("erase", "none", 40, 7, 5, False),
            ("erase", "head", 70, 16, 70, True),
            ("erase", "channel", 67, 33, 9, True),
        ]
    ),
    recurrence("wide_head", 66, "erase", heads=1, dk=128, dv=128),
    recurrence("grouped_add", 66, "add", "head", dk=17, dv=9, group=4, state=True),
    recurrence("grouped_erase", 70, "erase", dk=9, dv=70, group=2),
    recurrence("grouped_values", 65, "add", "value", dk=16, dv=33, group=3),
    recurrence("no_decay", 130, "add", g=0.0, state=True),
    recurrence("strong_decay", 130, "erase", g=-50.0, state=True),
    recurrence("values_one_token", 1, "add", "value", dv=64, state=True),
    recurrence("values_sequences", sum(UNEVEN), "add", "value", dk=9, dv=33, lengths=UNEVEN),
    recurrence("values_no_decay", 65, "add", "value", g=0.0, state=True),
    recurrence("values_total_decay", 64, "add", "value", g=-1e4, state=True),
    recurrence("total_decay", 100, "delta", g=-1e4, state=True),
    recurrence("zero_keys", 70, "delta", zero_keys=True),
    recurrence("one_channel", 9, "erase", heads=1, dk=1, dv=1),
    linear_attention("one_token", 1),
    linear_attention("chunk_and_one", 65),
    linear_attention("chunks", 150, heads=4, kv_heads=2),
    linear_attention("no_groups", 70, heads=2, kv_heads=2, features=10, dim=7),
    linear_attention("wide_head", 66, heads=1, features=128, dim=64),
    linear_attention("sequences", sum(UNEVEN), lengths=UNEVEN),
    linear_attention("lag", 150, lag=20),
    linear_attention("lag_chunk", 150, lag=64),
    linear_attention("lag_above_length", 20, lag=20),
    linear_attention("lag_sequences", sum(UNEVEN), lag=5, lengths=UNEVEN),
    linear_attention("both_one_token", 1, causal=False),
    linear_attention("both_chunk_and_one", 65, causal=False),
    linear_attention("both_pieces", 600, heads=4, kv_heads=2, causal=False, lengths=[515, 85]),
    linear_attention("both_odd", 70, heads=2, kv_heads=2, features=10, dim=7, causal=False),
    linear_attention("both_sequences", sum(UNEVEN), lengths=UNEVEN, causal=False),
    linear_attention("both_lag", 150, lag=20, heads=4, kv_heads=2, causal=False),
    linear_attention("both_lag_above_length", 20, lag=20, causal=False),
    linear_attention("both_lag_sequences", sum(UNEVEN), lag=5, lengths=UNEVEN, causal=False),
    linear_attention("state", 70, state=True),
    linear_attention("state_sequences", sum(UNEVEN), state=True, lengths=UNEVEN),
    short_conv("one_token", 1),
    short_conv("odd", 37, d=67, taps=3),
    short_conv("chunks", 150, d=130),
    short_conv("many_taps", 9, taps=16),
    short_conv("sequences", sum(UNEVEN), lengths=UNEVEN),
    short_conv("state", 70, state=True),
    short_conv("state_sequences", sum(UNEVEN), state=True, lengths=UNEVEN),
    cross_entropy("bias", 70, 20, 133, skip=True, bias=True),
    kl_divergence("bias", 70, 20, 133, bias=True),
    pool("one_number", 1, d=1, slots=1),
    pool("odd", 37, d=67, slots=5, length=41),
    pool("cut_stretch", 21, slots=3, length=64),
    pool("every_token", 66, d=130, slots=66),
    pool("long", 300, slots=9, length=700),
    pool("uneven", sum(UNEVEN), slots=7, length=65, lengths=UNEVEN),
    cross_entropy("one_row", 1, 8, 5),
    cross_entropy("one_word", 3, 4, 1),
    cross_entropy("pieces", 300, 16, 40, skip=True),
    cross_entropy("large_vocabulary", 5, 24, 3001),
    cross_entropy("sharp", 20, 16, 50, scale=40.0),
    kl_divergence("one_row", 1, 8, 5),
    kl_divergence("one_word", 3, 4, 1),
    kl_divergence("pieces", 300, 16, 40),
    kl_divergence("large_vocabulary", 5, 24, 3001),
    # logits in float32 leave about 1e-7 nats, here of 1e-4
    kl_divergence("close", 40, 16, 60, apart=1e-2, tolerance=3e-3),
    kl_divergence("sharp", 20, 16, 50, scale=40.0),
    align_loss("one_number", 1, 1),
    align_loss("odd", 19, 33),
    *(error(op, "one_number", 1, 1) for op in ("squared_error", "relative_error")),
    *(error(op, "odd", 70, 33) for op in ("squared_error", "relative_error")),
    *(pool_sequences(pool, lengths, 19) for pool in ("first", "last", "mean") for lengths in ([7], UNEVEN)),
    *(
        case
        for op in ("softmax_cross_entropy", "softmax_kl")
        for case in (
            softmax_loss(op, "one_piece", [5]),
            softmax_loss(op, "classes", [3] * 40),
            softmax_loss(op, "positions", UNEVEN),
            softmax_loss(op, "sharp", UNEVEN, scale=30.0),
        )
    ),
]
GRADIENT_CASES = [case for case in CASES if case.gradient]
