"""The rows of `compare.py`: what is timed, on which sides, and the work in it. Sizes: SmolLM2-135M.

A side of a row is a script, the environment it runs in, and its case. A side may offer a case in several
ways (its parts): its best counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import cases
from steps import HEAD, KEPT, LAYERS, LINEAR, MLP, SOFTMAX, flops_per_token

LLAMA = ("F32", "F16", "Q8_0")
EIGHT_BIT = 34 / 32  # bytes of a weight in Q8_0
# ours keeps values and outputs in float16 (hybridattn/model/quantise.py)
FINER = LAYERS * (cases.KV + cases.H) * cases.HD * (cases.H * cases.HD) / cases.PARAMETERS
OUR_EIGHT_BIT = EIGHT_BIT * (1 - FINER) + 2 * FINER


@dataclass
class Side:
    script: str
    environment: str  # "ours", "torch" or "llama"
    case: dict
    rival: str = "ours"  # the side of ours that this one is compared with
    parts: tuple[str, ...] = ()  # of those that it offers; empty: all


@dataclass
class Row:
    name: str
    tokens: int
    flops: float
    bytes: float  # read and written, float32; keys and values apart
    sides: dict[str, Side] = field(default_factory=dict)
    keys: float = 0.0  # bytes of keys and values that are read, as float32
    busy: bool = False  # beside one other process at 100% of a core
    threads: int = 1  # times those of the other rows


def op_rows(quick: bool) -> list[Row]:
    """LM head with KL, the recurrence, attention and AdamW: one row a part."""
    short, long = (64, 128) if quick else (2048, 8192)
    found = [
        cases.kl_head(short),
        *(cases.gated_delta(1, n) for n in (short, long)),
        cases.attention(1, short),
    ]
    found.append(cases.adamw(cases.PARAMETERS // (64 if quick else 1)))
    rows = []
    for case in found:
        for part, (flops, size) in case["parts"].items():
            sides = {
                "ours": Side("our_ops.py", "ours", case, parts=(part,)),
                "torch": Side("peer_ops.py", "torch", case, parts=(part,)),
            }
            rows.append(
                Row(f"{case['op']} {case['label']} {part}", case.get("length", 0), flops, size, sides)
            )
    return rows


def step_rows(folder: Path, quick: bool, micro: int, peer_micro: list[int]) -> list[Row]:
    """Steps 1 and 2 of RADLADS on 4 x 512 tokens, step 2 also with the teacher's states at hand."""
    batch, length = (1, 64) if quick else (4, 512)
    shape = {"batch": batch, "length": length, "new": 0}
    shape |= {n: str(folder / n) for n in ("teacher", "probe", "hybrid")}
    rows = []
    for name, op in (
        ("step 1", "align"),
        ("step 2", "distill"),
        ("step 2, teacher cached", "distill_cached"),
    ):
        flops = flops_per_token(op) * batch * length
        case = shape | {"op": op}
        sides = {f"ours, micro-batch {micro}": Side("our_steps.py", "ours", case | {"micro_batch": micro})}
        rival = next(iter(sides))
        low = {"compute": "bfloat16"}
        best = f"ours bfloat16, micro-batch {micro}"
        sides[best] = Side("our_steps.py", "ours", case | low | {"micro_batch": micro})
        for size in peer_micro:
            one = case | {"micro_batch": min(size, batch)}
            sides[f"torch, micro-batch {size}"] = Side("peer_steps.py", "torch", one, rival)
            sides[f"torch autocast, micro-batch {size}"] = Side("peer_steps.py", "torch", one | low, best)
        rows.append(Row(f"{name} {batch} x {length}", batch * length, flops, 0.0, sides))
    return rows


def inference_work(model: str, op: str, length: int, count: int) -> tuple[float, float, float]:
    """FLOPs, and float32 bytes of weights and of keys, for `count` tokens, prefilled from 0 or decoded after
    `length`.
    """
    softmax = LAYERS if model == "teacher" else KEPT
    products = LAYERS * MLP + softmax * SOFTMAX + (LAYERS - softmax) * LINEAR
    seen = length / 2 if op == "prefill" else length
    heads = 1 if op == "prefill" else count
    delta = 6.0 * cases.H * cases.HD**2 * (LAYERS - softmax)
    flops = 2e6 * (products * count + HEAD * heads)
    flops += count * (4.0 * cases.H * cases.HD * seen * softmax + delta)
    weights = 4e6 * (products + HEAD)
    keys = 8.0 * cases.KV * cases.HD * length * softmax
    return (flops, weights, 0.0) if op == "prefill" else (flops, count * weights, count * keys)


def inference_rows(folder: Path, gguf: Path, quick: bool) -> list[Row]:
    """Prefill of a prompt and decoding after it: teacher and hybrid, in float32 and in 8 bits."""
    rows, new = [], 2 if quick else 8
    lengths = {"prefill": (64, 128) if quick else (512, 2048, 8192)}
    lengths["decode"] = (32, 128) if quick else (128, 2048, 8192)
    for op in ("prefill", "decode"):
        for model in ("teacher", "hybrid"):
            for length in lengths[op]:
                count = length if op == "prefill" else new
                case = {"op": op, "batch": 1, "length": length, "new": new, "room": 64 * new}
                local = case | {"model": str(folder / model)}
                sides = {"ours": Side("our_inference.py", "ours", local | {"weights": "float32"})}
                sides["ours q8_0"] = Side("our_inference.py", "ours", local | {"weights": "q8_0"})
                sides["torch"] = Side("peer_inference.py", "torch", local | {"peer": "eager"})
                if op == "prefill":
                    low, best = local | {"compute": "bfloat16"}, "ours bfloat16"
                    eager = low | {"peer": "eager"}
                    sides[best] = Side("our_inference.py", "ours", low | {"weights": "float32"})
                    sides["torch autocast"] = Side("peer_inference.py", "torch", eager, best)
                if model == "teacher":
                    sides["transformers"] = Side(
                        "peer_inference.py", "torch", local | {"peer": "transformers"}
                    )
                    for kind in LLAMA:
                        rival = "ours q8_0" if kind == "Q8_0" else "ours"
                        here = case | {"model": str(gguf / f"{kind}.gguf")}
                        sides[f"llama.cpp {kind}"] = Side("peer_llama.py", "llama", here, rival)
                flops, size, keys = inference_work(model, op, length, count)
                rows.append(Row(f"{op} {model} {length}", count, flops, size, sides, keys))
    return rows


def add_base(groups: list[list[Row]], folder: Path, own: Path) -> None:
    """Beside each side of ours in float32 the same of another commit, which reads what lies in `folder` from
    a folder of its `own`: it need not know what is written today.
    """
    for row in (row for group in groups for row in group):
        for label, side in list(row.sides.items()):
            if side.script in ("our_steps.py", "our_inference.py") and "compute" not in side.case:
                moved = {
                    key: str(own / Path(value).relative_to(folder))
                    for key, value in side.case.items()
                    if isinstance(value, str) and Path(value).is_relative_to(folder)
                }
                row.sides[label.replace("ours", "base", 1)] = replace(
                    side, environment="base", rival=label, case=side.case | moved
                )


def crowded(rows: list[Row]) -> list[Row]:
    """Step 2 and prefill of 2048 tokens again, where other work or too many threads share the cores."""
    chosen = [row for row in rows if row.name.startswith(("step 2 ", "prefill teacher 2048"))]
    kept = ("ours", "torch")
    again = []
    for row in chosen:
        sides = {label: side for label, side in row.sides.items() if label.startswith(kept)}
        again.append(replace(row, name=f"{row.name} beside a busy process", sides=sides, busy=True))
        again.append(replace(row, name=f"{row.name} with twice the threads", sides=sides, threads=2))
    return again


def share_of_roofline(row: Row, label: str, way: str, seconds: float, limits: dict) -> float | None:
    """The time that FMA peak or read bandwidth, whichever is slower, would take, over `seconds`. llama.cpp
    keeps keys and values in 16 bits, we in what `way` says.
    """
    if not limits:
        return None
    weight = {"ours q8_0": OUR_EIGHT_BIT, "llama.cpp Q8_0": EIGHT_BIT, "llama.cpp F16": 2.0}.get(label, 4.0)
    key = 2.0 if label.startswith("llama.cpp") or way.startswith("f16") else 4.0
    size = row.bytes * weight / 4 + row.keys * key / 4
    bandwidth = limits["triad_gbs"] if "adamw" in row.name else limits["read_gbs"]
    low = "bfloat16" in label or "autocast" in label
    peak = limits.get("bfloat16_gflops" if low else "fma_gflops", limits["fma_gflops"])
    return max(row.flops / peak, size / bandwidth) * 1e-9 / seconds
