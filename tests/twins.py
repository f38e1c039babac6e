"""A whole model in float64, put together from `_core.reference`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from twin_models import CONFIG, Twin

from hybridattn._core import reference as ref

pytestmark = pytest.mark.usefixtures("one_thread")


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(x / 2)


def logits_of(
    own: dict[str, np.ndarray], name: str, x: np.ndarray, inner=lambda low: low
) -> np.ndarray | None:
    """[T,width] of a projection of full or low rank; None where there is none."""
    if f"{name}_down.weight" in own:
        return inner(x @ own[f"{name}_down.weight"].T) @ own[f"{name}_up.weight"].T
    return x @ own[f"{name}_proj.weight"].T if f"{name}_proj.weight" in own else None


def recurrent(
    twin: Twin, own: dict[str, np.ndarray], x: np.ndarray, qkv: list[np.ndarray], lengths: list[int]
) -> np.ndarray:
    """Mixers on the recurrence, between the projections of x, q [T,H,d] and k, v [T,KV,d], and that of y."""
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
        """Logits [T,KV,d] of a part of low rank."""
        return logits_of(own, name, x, inner).reshape(k.shape)

    def output_gate(f, inner=lambda low: low) -> np.ndarray:
        """f of the logits [T,H,d]; ones where there is no gate."""
        logits = logits_of(own, "g", x, inner)
        return np.ones(q.shape) if logits is None else f(logits).reshape(q.shape)

    def swish(a: np.ndarray) -> np.ndarray:
        return a * sigmoid(a)

    if kind == "gsa":
        g = -np.logaddexp(0, -x @ own["f_proj.weight"].T).reshape(len(x), k.shape[1], -1) / 8
        k, v, g = (np.repeat(a, q.shape[1] // a.shape[1], axis=1) for a in (k, v, g))
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
        decay = np.log1p(np.exp(part("f") + own["dt_bias"].reshape(k.shape[1:])))
        operands = {"beta": sigmoid(x @ own["b_proj.weight"].T), "g": -np.exp(own["A_log"])[:, None] * decay}
        gate = output_gate(sigmoid)
    elif kind == "retention":
        operands = {"g": np.tile(np.log(1 - 2.0 ** (-5 - np.arange(k.shape[1]))), (len(x), 1))}
        gate = output_gate(swish)
    elif kind == "gla":
        operands = {"g": -np.logaddexp(0, -part("w") - own["w_bias"].reshape(k.shape[1:])) / 16}
        gate = output_gate(swish)
    elif kind == "rwkv6":
        g = np.maximum(-np.exp(part("w", np.tanh) + own["w_bias"].reshape(k.shape[1:])), -5)
        operands, k, gate = {"g": g}, k * (1 - np.exp(g)), output_gate(sigmoid)
    elif kind == "mamba2":
        dt = np.log1p(np.exp(x @ own["a_proj.weight"].T + own["dt_bias"]))
        operands, k = {"g": -np.exp(own["A_log"]) * dt}, k * dt[..., None]
        q = q * dim**0.5
        before, gate = output_gate(swish), 1.0
    else:
        g = -np.exp(-0.5) * sigmoid(part("w", np.tanh) + own["w_bias"].reshape(k.shape[1:]))
        a = sigmoid(part("a") + own["a_bias"].reshape(k.shape[1:]))
        kappa = k / np.sqrt((k**2).sum(-1, keepdims=True) + 1e-6)
        operands, k = {"g": g, "a": -a * kappa, "b": kappa}, k * (1 - np.exp(g) + a)
        gate = output_gate(lambda logits: logits, sigmoid)
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
    config, dim = twin.config, twin.options.get("head_dim") or twin.config["head_dim"]

    def project(name: str) -> np.ndarray:
        return ref.linear(x, weights[f"{prefix}{name}_proj.weight"], weights.get(f"{prefix}{name}_proj.bias"))

    def heads(name: str) -> np.ndarray:
        return project(name).reshape(len(x), -1, dim)

    own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
    q, k, v = (convolved(heads(n), own.get(f"{n}_conv.weight"), lengths) for n in "qkv")
    inv_freq, factor = np.array(config["rope_inv_freq"], np.float32), config["rope_attention_factor"]
    both = config["bidirectional"]
    if len(q[0]) != len(v[0]) and "key_heads" in twin.options:  # heads that share those of q and k
        q, k = (np.repeat(a, v.shape[1] // a.shape[1], axis=1) for a in (q, k))
    if twin.kind == "softmax":
        q, k = (ref.rope(a, inv_freq, lengths=lengths, factor=factor) for a in (q, k))
        y = ref.softmax_attention(q, k, v, lengths=lengths, causal=not both, window=config["sliding_window"])
    elif twin.kind == "gated_delta":
        gate = logits_of(own, "g", x)
        gate = None if gate is None else gate.reshape(len(x), -1, dim)
        operands = q, k, v, gate, project("b"), project("a"), own["A_log"], own["dt_bias"]
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
    if config.get("attention_gate") and twin.kind in ("softmax", "window"):
        y = y.reshape(len(x), -1) * sigmoid(project("g"))
    return ref.linear(y.reshape(len(x), -1), own["o_proj.weight"], own.get("o_proj.bias"))


def hidden(twin: Twin, weights: dict[str, np.ndarray], tokens: np.ndarray, lengths: list[int]) -> np.ndarray:
    config, eps = twin.config, twin.config["norm_eps"]
    x = ref.embed(tokens, weights["embed.weight"]) * config.get("embed_scale", 1.0)
    turns = {"rope_inv_freq": config.get("local_inv_freq"), "sliding_window": config.get("local_window")}
    local = replace(twin, changes=twin.changes | turns)
    for i in range(CONFIG["num_layers"]):
        layer = f"layers.{i}."

        def behind(name: str, y: np.ndarray, layer: str = layer) -> np.ndarray:
            """A norm in front of the sum, where the block has one."""
            weight = weights.get(f"{layer}{name}_post_norm.weight")
            return y if weight is None else ref.rms_norm(y, weight, eps=eps)

        normed = ref.rms_norm(x, weights[layer + "mixer_norm.weight"], eps=eps)
        own = local if i in config.get("local_layers", ()) else twin
        x = x + behind("mixer", mix(own, weights, f"{layer}{twin.kind}.", normed, lengths))
        normed = ref.rms_norm(x, weights[layer + "mlp_norm.weight"], eps=eps)
        gate, up, down = (
            (weights[f"{layer}mlp.{n}_proj.weight"], weights.get(f"{layer}mlp.{n}_proj.bias"))
            for n in ("gate", "up", "down")
        )
        opened, raised = ref.linear(normed, *gate), ref.linear(normed, *up)
        if config.get("act"):
            inner = (
                0.5 * opened * (1 + np.tanh(np.sqrt(2 / np.pi) * (opened + 0.044715 * opened**3))) * raised
            )
        else:
            inner = ref.swiglu(np.concatenate([opened, raised], -1))
        x = x + behind("mlp", ref.linear(inner, *down))
    return ref.rms_norm(x, weights["final_norm.weight"], eps=eps)


def loss(twin: Twin, weights: dict[str, np.ndarray], tokens: np.ndarray, lengths: list[int]) -> float:
    """Mean cross-entropy of the next token."""
    targets = np.append(tokens[1:], -1)
    targets[np.cumsum(lengths) - 1] = -1
    head = weights.get("lm_head.weight", weights["embed.weight"])
    losses = ref.cross_entropy(hidden(twin, weights, tokens, lengths), head, targets)
    return losses.sum() / (targets >= 0).sum()
