"""The op cases that both sides time: sizes, inputs, useful FLOPs, bytes that must move. Sizes: SmolLM2-135M.

FLOPs are those of the plain formula, whatever an implementation does: a chunked gated delta rule is charged
the recurrent form's. Bytes are inputs read once and outputs written once, float32. Inputs are made from a
seed, so both sides read the same numbers.
"""

from __future__ import annotations

import numpy as np

D, F, V, H, KV, HD = 576, 1536, 49152, 9, 3, 64
PARAMETERS = 134_515_008


def case(op: str, label: str, parts: dict[str, tuple[float, float]], **sizes) -> dict:
    """parts: {part: (FLOPs, bytes)}."""
    return {"op": op, "label": label, "parts": parts, **sizes}


def linear(rows: int, out: int, width: int) -> dict:
    flops, size = 2.0 * rows * out * width, 4.0 * (rows * width + out * width + rows * out)
    return case(
        "linear",
        f"{rows} x {out} x {width}",
        {"forward": (flops, size), "both": (3 * flops, 3 * size)},
        rows=rows,
        out=out,
        width=width,
    )


def sequence(
    op: str, length: int, batch: int, flops: float, backward: float, heads_io: float, **sizes
) -> dict:
    """A token mixer: FLOPs per token and head, the backward pass as a multiple, heads moved per token."""
    flops, size = flops * H * length * batch, 4.0 * heads_io * HD * length * batch
    parts = {"forward": (flops, size), "both": ((1 + backward) * flops, 3 * size)}
    return case(op, f"{batch} x {length}", parts, batch=batch, length=length, **sizes)


def gated_delta(batch: int, length: int) -> dict:
    return sequence("gated_delta", length, batch, 6.0 * HD * HD, 2.0, 4 * H)


def attention(batch: int, length: int) -> dict:
    return sequence("attention", length, batch, 2.0 * length * HD, 2.5, 2 * H + 2 * KV)


def kl_head(rows: int) -> dict:
    flops, size = 2.0 * rows * D * V, 4.0 * (V * D + rows * D)
    return case("kl_head", f"{rows} x {D} x {V}", {"both": (4 * flops, 4 * size)}, rows=rows)


def adamw(count: int) -> dict:
    return case("adamw", f"{count / 1e6:.1f} M", {"step": (12.0 * count, 28.0 * count)}, count=count)


def table(full: bool = False) -> list[dict]:
    """All cases; `full` adds the long and the large ones (minutes and GiB)."""
    rows, window, sinks = 2048, 64, 4
    cases = [linear(rows, D, D), linear(rows, F, D), linear(rows, D, F), linear(1, V, D)]
    activation = 4.0 * rows * D
    cases.append(
        case(
            "rms_norm",
            f"{rows} x {D}",
            {"forward": (4.0 * rows * D, 2 * activation), "both": (12.0 * rows * D, 5 * activation)},
            rows=rows,
            width=D,
        )
    )
    size = 4.0 * rows * H * HD
    cases.append(
        case("rope", f"{rows} x {H} x {HD}", {"forward": (3.0 * rows * H * HD, 2 * size)}, length=rows)
    )
    flops = 6.0 * rows * D * F
    cases.append(
        case(
            "mlp",
            f"{rows} x {D} x {F}",
            {
                "forward": (flops, 2 * activation + 12.0 * D * F),
                "both": (3 * flops, 4 * activation + 24.0 * D * F),
            },
            rows=rows,
        )
    )
    io = 2 * H + 2 * KV
    for batch, length in [(4, 512), (1, 2048)] + [(1, 8192)] * full:
        far = 4.0 * HD * HD + 8.0 * HD * HD
        cases += [
            attention(batch, length),
            sequence(
                "window_attention",
                length,
                batch,
                4.0 * (window + sinks) * HD,
                2.5,
                io,
                window=window,
                sinks=sinks,
            ),
            gated_delta(batch, length),
            sequence(
                "window_linear",
                length,
                batch,
                4.0 * (window + sinks) * HD + far,
                2.25,
                io,
                window=window,
                sinks=sinks,
            ),
        ]
    for n in [512] + [2048] * full:
        flops, size = 2.0 * n * D * V, 4.0 * (V * D + n * D)
        cases += [
            kl_head(n),
            case("cross_entropy_head", f"{n} x {D} x {V}", {"both": (3 * flops, 3 * size)}, rows=n),
        ]
    cases.append(adamw(PARAMETERS if full else PARAMETERS // 8))
    return cases


def inputs(case: dict) -> dict[str, np.ndarray]:
    """float32 arrays by name, the same on both sides. Sequences are [B, T, heads, hd], weights [out, in]."""
    rng = np.random.RandomState(1234)

    def normal(*shape, scale=1.0):
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    op = case["op"]
    if op in ("align", "distill", "distill_cached", "forward", "prefill", "decode"):
        return {"tokens": rng.randint(0, V, (case["batch"], case["length"])).astype(np.int32)}
    if op == "linear":
        m, n, k = case["rows"], case["out"], case["width"]
        return {"x": normal(m, k), "weight": normal(n, k, scale=k**-0.5), "up": normal(m, n)}
    if op == "rms_norm":
        m, k = case["rows"], case["width"]
        return {"x": normal(m, k), "weight": 1 + normal(k, scale=0.1), "up": normal(m, k)}
    if op == "rope":
        inv_freq = (1e5 ** (-np.arange(0, HD, 2) / HD)).astype(np.float32)
        return {"x": normal(1, case["length"], H, HD), "inv_freq": inv_freq}
    if op == "mlp":
        m = case["rows"]
        return {
            "x": normal(m, D),
            "gate": normal(F, D, scale=D**-0.5),
            "up_proj": normal(F, D, scale=D**-0.5),
            "down": normal(D, F, scale=F**-0.5),
            "up": normal(m, D),
        }
    if op in ("kl_head", "cross_entropy_head"):
        n = case["rows"]
        out = {"hidden": normal(n, D), "weight": normal(V, D, scale=0.1)}
        if op == "kl_head":
            return out | {"teacher": out["hidden"] + normal(n, D, scale=0.3)}
        return out | {"targets": rng.randint(0, V, n).astype(np.int32)}
    if op == "adamw":
        return {"p": normal(case["count"]), "g": normal(case["count"])}
    batch, length = case["batch"], case["length"]
    if op == "gated_delta":
        q, k, v, up = (normal(batch, length, H, HD) for _ in range(4))
        q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
        g = (-0.1 * rng.random_sample((batch, length, H))).astype(np.float32)
        beta = rng.random_sample((batch, length, H)).astype(np.float32)
        return {"q": q * np.float32(HD**-0.5), "k": k, "v": v, "g": g, "beta": beta, "up": up}
    out = {
        "q": normal(batch, length, H, HD),
        "k": normal(batch, length, KV, HD),
        "v": normal(batch, length, KV, HD),
        "up": normal(batch, length, H, HD),
    }
    if op == "window_linear":
        eye = np.eye(HD, dtype=np.float32)
        out |= {
            "feature_q": eye + normal(H, HD, HD, scale=0.05),
            "feature_k": eye + normal(KV, HD, HD, scale=0.05),
            "gate": normal(H, scale=0.1),
        }
    return out
