"""Whole small models against their twins in float64, put together from `_core.reference`: hidden states, loss
and the gradient of every parameter against finite differences, for each mixer and its options.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from hybridattn import _core
from hybridattn._core import reference as ref

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY, LENGTHS = 19, [70, 3, 2, 24]
CONFIG = {
    "vocab_size": VOCABULARY,
    "hidden_size": 20,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "intermediate_size": 11,
    "norm_eps": 1e-2,  # large: a norm would magnify the rounding of an output that is nearly 0
    "rope_inv_freq": [1.0, 0.4, 0.1, 0.02],
    "rope_attention_factor": 1.0,
    "sliding_window": 0,
    "bidirectional": 0,
    "attention_bias": False,
    "output_bias": False,
    "mlp_bias": False,
    "tie_embeddings": True,
}
YARN = {"rope_attention_factor": 1.3}
ENCODER = {"bidirectional": 1}
BIASES = {"attention_bias": True, "output_bias": True, "mlp_bias": True, "tie_embeddings": False}


@dataclass(frozen=True)
class Twin:
    """One kind of mixer in both layers."""

    name: str
    kind: str
    options: dict[str, int] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        return CONFIG | self.changes

    def model(self) -> _core.Model:
        """Random weights of the size that makes every part matter."""
        model = _core.Model(self.config, [[{"kind": self.kind} | self.options]] * CONFIG["num_layers"])
        rng = np.random.default_rng(3)
        for name, tensor in model.parameters().items():
            w = tensor.numpy()
            w[...] = rng.standard_normal(w.shape) * (1.3 * w.shape[-1] ** -0.5 if w.ndim > 1 else 0.3)
            if "norm" in name:
                w += 1
        return model


RECURRENT = ["gated_delta", "delta", "kda", "retention", "rwkv6", "rwkv7", "gla", "gsa", "mamba2"]
TWINS = [
    Twin("softmax", "softmax"),
    Twin("softmax_biases", "softmax", changes=BIASES),
    Twin("softmax_sliding", "softmax", changes={"sliding_window": 7}),
    Twin("softmax_yarn", "softmax", changes=YARN),
    Twin("gated_delta", "gated_delta"),
    Twin("gated_delta_biases", "gated_delta", changes=BIASES | {"num_kv_heads": 4}),
    Twin("gated_delta_rope", "gated_delta", {"rope": 1}),
    Twin("gated_delta_yarn", "gated_delta", {"rope": 1}, YARN),
    Twin("gated_delta_linear", "gated_delta", {"silu": 0}),
    *(Twin(kind, kind) for kind in RECURRENT[1:]),
    *(Twin(f"{kind}_conv", kind, {"conv": 4}) for kind in RECURRENT),
    Twin("gated_delta_conv_biases", "gated_delta", {"conv": 3, "rope": 1}, BIASES),
    Twin("retention_conv_1", "retention", {"conv": 1, "silu": 1}),
    *(
        Twin(f"{kind}_turned", kind, {"rope": rope, "silu": silu}, BIASES)
        for kind, rope, silu in (
            *(("delta", 1, 0), ("kda", 1, 0), ("retention", 0, 1)),
            *(("rwkv6", 0, 1), ("rwkv7", 0, 1), ("gla", 1, 1), ("gsa", 1, 0), ("mamba2", 1, 0)),
        )
    ),
    Twin("gsa_slots", "gsa", {"slots": 5}),
    Twin("gsa_one_slot", "gsa", {"slots": 1}),
    Twin("rwkv7_yarn", "rwkv7", changes=YARN),
    Twin("window_linear", "window_linear", {"window": 5, "sinks": 2}),
    Twin("window_linear_biases", "window_linear", {"window": 6, "sinks": 1}, BIASES | {"num_kv_heads": 1}),
    Twin("window_linear_raw", "window_linear", {"window": 5, "sinks": 2, "rope_features": 0}),
    Twin("window_linear_yarn", "window_linear", {"window": 5, "sinks": 2}, YARN),
    Twin("window_linear_raw_yarn", "window_linear", {"window": 5, "sinks": 2, "rope_features": 0}, YARN),
    Twin("window_linear_no_sinks", "window_linear", {"window": 1, "sinks": 0}),
    *(
        Twin(f"window_linear_{name}", "window_linear", {"window": 5, "sinks": 2, "feature": number})
        for number, name in ((0, "elu"), (1, "relu"), (3, "favor"))
    ),
    *(
        Twin(f"linear_{name}", "linear", {"feature": number})
        for number, name in enumerate(("elu", "relu", "hedgehog", "favor"))
    ),
    Twin("linear_norm", "linear", {"feature": 0, "normalise": 0, "rope": 0}),
    Twin("linear_biases", "linear", {"feature": 2, "normalise": 0}, BIASES | {"num_kv_heads": 1}),
    Twin("window", "window", {"window": 5, "sinks": 2}),
    Twin("linear_yarn", "linear", {"feature": 3}, YARN),
    Twin("window_yarn", "window", {"window": 5, "sinks": 2}, YARN),
    Twin("window_biases", "window", {"window": 70, "sinks": 0}, BIASES),
    Twin("window_linear_wide", "window_linear", {"window": 64, "sinks": 4}),
]
TWINS += [
    Twin(f"both_{name}", kind, options, ENCODER | changes)
    for name, kind, options, changes in (
        ("softmax", "softmax", {}, {}),
        ("window", "window", {"window": 5, "sinks": 2}, {}),
        *((kind, kind, {}, {}) for kind in RECURRENT),
        ("gsa_slots", "gsa", {"slots": 5}, {}),
        ("gated_delta_biases", "gated_delta", {"rope": 1}, BIASES),
        ("rwkv7_yarn", "rwkv7", {"silu": 1}, YARN),
        ("linear_elu", "linear", {"feature": 0}, {}),
        ("linear_relu", "linear", {"feature": 1}, {}),
        ("linear_hedgehog", "linear", {"feature": 2, "normalise": 0}, BIASES),
        ("linear_favor", "linear", {"feature": 3}, YARN),
        ("window_linear", "window_linear", {"window": 5, "sinks": 2}, {}),
        ("window_linear_raw", "window_linear", {"window": 1, "sinks": 0, "rope_features": 0}, BIASES),
        ("window_linear_favor", "window_linear", {"window": 5, "sinks": 2, "feature": 3}, YARN),
        ("window_linear_wide", "window_linear", {"window": 64, "sinks": 4}, {"num_kv_heads": 1}),
        ("linformer", "linformer", {"slots": 7, "length": 80}, {}),
        ("linformer_biases", "linformer", {"slots": 70, "length": 70, "rope": 0}, BIASES),
        ("linformer_yarn", "linformer", {"slots": 6, "length": 200}, YARN | {"num_kv_heads": 1}),
    )
]
by_name = pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(x / 2)


def recurrent(
    twin: Twin, own: dict[str, np.ndarray], x: np.ndarray, qkv: list[np.ndarray], lengths: list[int]
) -> np.ndarray:
    """Mixers on the recurrence, between the projections of x to q, k, v [T,H,d] and the output projection."""
    config, dim, kind = twin.config, twin.config["head_dim"], twin.kind
    silu = twin.options.get("silu", kind in ("delta", "kda", "gsa", "mamba2"))
    q, k, v = (a * sigmoid(a) if silu else a for a in qkv)
    if kind in ("delta", "kda"):
        q, k = (a / np.sqrt((a**2).sum(-1, keepdims=True) + 1e-6) for a in (q, k))
    if twin.options.get("rope", kind in ("retention", "rwkv6", "rwkv7")):
        inv_freq = np.array(config["rope_inv_freq"], np.float32)
        factor = config["rope_attention_factor"]
        q, k = (ref.rope(a, inv_freq, lengths=lengths, factor=factor) for a in (q, k))

    def part(name: str, inner=lambda low: low) -> np.ndarray:
        """Logits [T,H,d] of a part of low rank."""
        low = inner(x @ own[f"{name}_down.weight"].T)
        return (low @ own[f"{name}_up.weight"].T).reshape(q.shape)

    if kind == "gsa":
        g = -np.logaddexp(0, -x @ own["f_proj.weight"].T).reshape(len(x), q.shape[1], -1) / 8
        back = np.concatenate([np.arange(e - n, e)[::-1] for e, n in zip(np.cumsum(lengths), lengths)])
        o = 0.0
        for order in (np.arange(len(x)), back)[: 1 + config["bidirectional"]]:
            y = ref.slot_attention(*(a[order] for a in (q * dim**-0.5, k, v, g)), lengths=lengths)
            y = y.reshape(len(x), -1)[order]
            o = o + y * sigmoid(y)
        return ref.rms_norm(o, own["norm.weight"], eps=config["norm_eps"])
    if kind == "delta":
        operands, gate = {"beta": sigmoid(x @ own["b_proj.weight"].T)}, 1.0
    elif kind == "kda":
        decay = np.log1p(np.exp(part("f") + own["dt_bias"].reshape(q.shape[1:])))
        operands = {"beta": sigmoid(x @ own["b_proj.weight"].T), "g": -np.exp(own["A_log"])[:, None] * decay}
        gate = sigmoid(part("g"))
    elif kind == "retention":
        operands = {"g": np.tile(np.log(1 - 2.0 ** (-5 - np.arange(q.shape[1]))), (len(x), 1))}
        gate = (x @ own["g_proj.weight"].T).reshape(q.shape)
        gate = gate * sigmoid(gate)
    elif kind == "gla":
        operands = {"g": -np.logaddexp(0, -part("w") - own["w_bias"].reshape(q.shape[1:])) / 16}
        gate = (x @ own["g_proj.weight"].T).reshape(q.shape)
        gate = gate * sigmoid(gate)
    elif kind == "rwkv6":
        g = np.maximum(-np.exp(part("w", np.tanh) + own["w_bias"].reshape(q.shape[1:])), -5)
        operands, k, gate = {"g": g}, k * (1 - np.exp(g)), sigmoid(part("g"))
    elif kind == "mamba2":
        dt = np.log1p(np.exp(x @ own["a_proj.weight"].T + own["dt_bias"]))
        operands, k = {"g": -np.exp(own["A_log"]) * dt}, k * dt[..., None]
        q = q * dim**0.5
        before = (x @ own["g_proj.weight"].T).reshape(q.shape)
        before, gate = before * sigmoid(before), 1.0
    else:
        g = -np.exp(-0.5) * sigmoid(part("w", np.tanh) + own["w_bias"].reshape(q.shape[1:]))
        a = sigmoid(part("a") + own["a_bias"].reshape(q.shape[1:]))
        kappa = k / np.sqrt((k**2).sum(-1, keepdims=True) + 1e-6)
        operands, k = {"g": g, "a": -a * kappa, "b": kappa}, k * (1 - np.exp(g) + a)
        gate = part("g", sigmoid)
    o = ref.recurrence(q * dim**-0.5, k, v, lengths=lengths, **operands)
    if config["bidirectional"]:
        o = o + ref.recurrence(q * dim**-0.5, k, v, lengths=lengths, reverse=True, **operands)
    if kind == "mamba2":
        o = o * before
    if "norm.weight" in own:
        o = ref.rms_norm(o.reshape(-1, dim), own["norm.weight"], eps=config["norm_eps"]).reshape(o.shape)
    return o * gate


def convolved(x: np.ndarray, weight: np.ndarray | None, lengths: list[int]) -> np.ndarray:
    """x [T,H,d], each channel with its own taps, or as it is."""
    if weight is None:
        return x
    if weight.shape[1] == 1:
        return x * weight.reshape(x.shape[1:])
    return ref.short_conv(x.reshape(len(x), -1), weight, lengths=lengths).reshape(x.shape)


def slot_attention(q, k, v, lengths: list[int], slots: int, length: int) -> np.ndarray:
    """q [T,H,d] over the slots [P,KV,d] of its own sequence."""
    y, row, slot, group = np.empty_like(q), 0, 0, q.shape[1] // k.shape[1]
    for n in lengths:
        filled = sum(s * length // slots < n for s in range(slots))
        for r in range(row, row + n):
            for h in range(q.shape[1]):
                keys, values = (a[slot : slot + filled, h // group] for a in (k, v))
                p = np.exp(keys @ q[r, h] * q.shape[2] ** -0.5)
                y[r, h] = p @ values / p.sum()
        row, slot = row + n, slot + filled
    return y


def mix(twin: Twin, weights: dict[str, np.ndarray], prefix: str, x: np.ndarray, lengths: list[int]):
    """The mixer between the norm and the residual: x [T,D] -> [T,D]."""
    config, dim = twin.config, twin.config["head_dim"]

    def project(name: str) -> np.ndarray:
        return ref.linear(x, weights[f"{prefix}{name}_proj.weight"], weights.get(f"{prefix}{name}_proj.bias"))

    def heads(name: str) -> np.ndarray:
        return project(name).reshape(len(x), -1, dim)

    own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
    q, k, v = (convolved(heads(n), own.get(f"{n}_conv.weight"), lengths) for n in "qkv")
    inv_freq, factor = np.array(config["rope_inv_freq"], np.float32), config["rope_attention_factor"]
    both = config["bidirectional"]
    if twin.kind == "softmax":
        q, k = (ref.rope(a, inv_freq, lengths=lengths, factor=factor) for a in (q, k))
        y = ref.softmax_attention(q, k, v, lengths=lengths, causal=not both, window=config["sliding_window"])
    elif twin.kind == "gated_delta":
        operands = q, k, v, heads("g"), project("b"), project("a"), own["A_log"], own["dt_bias"]
        y = ref.mix_gated_delta(
            *operands,
            own["norm.weight"],
            inv_freq=inv_freq if twin.options.get("rope") else None,
            rope_factor=factor,
            silu=twin.options.get("silu", 1),
            norm_eps=config["norm_eps"],
            lengths=lengths,
            bidirectional=both,
        )
    elif twin.kind == "window":
        q, k = (ref.rope(a, inv_freq, lengths=lengths, factor=factor) for a in (q, k))
        y = ref.softmax_attention(q, k, v, lengths=lengths, causal=not both, **twin.options)
    elif twin.kind == "linformer":
        if twin.options.get("rope", 1):
            q, k = (ref.rope(a, inv_freq, lengths=lengths, factor=factor) for a in (q, k))
        pooled = [
            ref.pool(a.reshape(len(x), -1), own[f"{name}_pool.weight"], lengths=lengths).reshape(
                -1, *a.shape[1:]
            )
            for a, name in ((k, "key"), (v, "value"))
        ]
        y = slot_attention(q, *pooled, lengths, twin.options["slots"], twin.options["length"])
    elif twin.kind == "linear":
        maps = own.get("feature_q.weight"), own.get("feature_k.weight")
        options = {
            "feature": twin.options["feature"],
            "rope": twin.options.get("rope", 1),
            "rope_factor": factor,
            "bidirectional": both,
        }
        norm = {"norm": own.get("norm.weight"), "norm_eps": config["norm_eps"]}
        y = ref.mix_linear(q, k, v, *maps, inv_freq, lengths=lengths, **options, **norm)
    elif twin.kind != "window_linear":
        y = recurrent(twin, own, x, [q, k, v], lengths)
    else:
        maps = own.get("feature_q.weight"), own.get("feature_k.weight"), own["gate"]
        y = ref.mix_window_linear(
            q, k, v, *maps, inv_freq, rope_factor=factor, lengths=lengths, bidirectional=both, **twin.options
        )
    return ref.linear(y.reshape(len(x), -1), own["o_proj.weight"], own.get("o_proj.bias"))


def hidden(twin: Twin, weights: dict[str, np.ndarray], tokens: np.ndarray, lengths: list[int]) -> np.ndarray:
    eps = twin.config["norm_eps"]
    x = ref.embed(tokens, weights["embed.weight"])
    for i in range(CONFIG["num_layers"]):
        layer = f"layers.{i}."
        normed = ref.rms_norm(x, weights[layer + "mixer_norm.weight"], eps=eps)
        x = x + mix(twin, weights, f"{layer}{twin.kind}.", normed, lengths)
        normed = ref.rms_norm(x, weights[layer + "mlp_norm.weight"], eps=eps)
        gate, up, down = (
            (weights[f"{layer}mlp.{n}_proj.weight"], weights.get(f"{layer}mlp.{n}_proj.bias"))
            for n in ("gate", "up", "down")
        )
        gate_up = np.concatenate([ref.linear(normed, *gate), ref.linear(normed, *up)], -1)
        x = x + ref.linear(ref.swiglu(gate_up), *down)
    return ref.rms_norm(x, weights["final_norm.weight"], eps=eps)


def loss(twin: Twin, weights: dict[str, np.ndarray], tokens: np.ndarray, lengths: list[int]) -> float:
    """Mean cross-entropy of the next token."""
    targets = np.append(tokens[1:], -1)
    targets[np.cumsum(lengths) - 1] = -1
    head = weights.get("lm_head.weight", weights["embed.weight"])
    losses = ref.cross_entropy(hidden(twin, weights, tokens, lengths), head, targets)
    return losses.sum() / (targets >= 0).sum()


def stream() -> tuple[np.ndarray, np.ndarray]:
    """tokens [n] and windows [m,2] of LENGTHS, one after the other."""
    ends = np.cumsum(LENGTHS)
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, ends[-1]).astype(np.int32)
    return tokens, np.stack([ends - LENGTHS, ends], -1).astype(np.int64)


def doubles(model: _core.Model) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().astype(np.float64) for name, tensor in model.parameters().items()}


@by_name
def test_hidden_states(twin):
    model = twin.model()
    tokens, windows = stream()
    expected = hidden(twin, doubles(model), tokens, LENGTHS)
    out = np.empty(expected.shape, np.float32)
    model.forward_windows(tokens, windows, out)
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


ENCODERS = [
    f"both_{name}" for name in (*RECURRENT, "linear_relu", "linear_favor", "window_linear", "linformer")
]
# by the end of a parameter's name: what is multiplied with, what is added
EXTREMES: dict[str, dict[str, tuple[float, float]]] = {
    "all_forgotten": {"A_log": (0, 9), "w_bias": (0, 50)},
    "slots_forget_all_or_nothing": {"f_proj.weight": (1e2, 0)},
    "nothing_forgotten": {"dt_bias": (0, -200), "w_bias": (0, -200)},
    "beta_0_or_1": {"b_proj.weight": (1e3, 0), "a_bias": (0, 50)},
    "zero_keys": {"k_proj.weight": (0, 0)},
    "zero_queries_and_values": {"q_proj.weight": (0, 0), "v_proj.weight": (0, 0)},
}


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("kind", [*RECURRENT, "linear_relu", "linear_favor", "window", *ENCODERS])
def test_extremes(kind, extreme):
    """Forward against the twin with sequences of 1, 64 and 65 tokens; gradients are numbers."""
    twin = next(t for t in TWINS if t.name == kind)
    model = twin.model()
    for name, tensor in model.parameters().items():
        array = tensor.numpy()
        for end, (factor, addend) in EXTREMES[extreme].items():
            if name.endswith(end):
                array[...] = factor * array + addend
    lengths = [1, 64, 65, 2]
    ends = np.cumsum(lengths)
    tokens = np.random.default_rng(4).integers(0, VOCABULARY, ends[-1]).astype(np.int32)
    windows = np.stack([ends - lengths, ends], -1).astype(np.int64)
    expected = hidden(twin, doubles(model), tokens, lengths)
    out = np.empty(expected.shape, np.float32)
    model.forward_windows(tokens, windows, out)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    distiller = _core.Distiller(model, None, "finetune", clip=1e9, micro_batch=3)
    distiller.run(tokens, windows[None, 1:3], np.full((1, 2), 1e-3, np.float32), 0, 1)
    assert all(np.isfinite(t.numpy()).all() for t in model.parameters().values())


@pytest.mark.parametrize("kind", [*RECURRENT, "gated_delta_conv", "rwkv7_conv"])
def test_decoding_continues_the_pass(kind):
    """A prompt, then token by token, is the whole: states of fixed size go from call to call."""
    model = next(t for t in TWINS if t.name == kind).model()
    tokens = np.random.default_rng(5).integers(0, VOCABULARY, (2, 70)).astype(np.int32)
    whole = model.logits(tokens)
    cache = _core.Cache(model, 2)
    parts = [model.logits(part, cache=cache) for part in np.split(tokens, [65, 66, 67, 69], axis=1)]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=0, atol=2e-5 * np.abs(whole).max())


@by_name
def test_gradients(twin):
    model = twin.model()
    tokens, windows = stream()
    weights = doubles(model)
    distiller = _core.Distiller(model, None, "finetune", clip=1e9, micro_batch=3)
    [[got]] = distiller.run(tokens, windows[None], np.zeros((1, 2), np.float32), 0, 1)
    assert got == pytest.approx(loss(twin, weights, tokens, LENGTHS), rel=1e-6)
    rng = np.random.default_rng(2)
    for name, moment in distiller.moments()["m"].items():
        gradient = moment.numpy().astype(np.float64) / 0.1  # AdamW's first moment after one step: (1 - .9) g
        direction = rng.standard_normal(gradient.shape)
        step = 1e-7  # small: the largest logit of window_linear jumps from key to key
        up, down = (
            loss(twin, weights | {name: weights[name] + sign * step * direction}, tokens, LENGTHS)
            for sign in (1, -1)
        )
        difference, allowed = (up - down) / (2 * step), 5e-5 * np.linalg.norm(gradient) + 1e-6
        assert difference == pytest.approx((gradient * direction).sum(), rel=0, abs=allowed), name
