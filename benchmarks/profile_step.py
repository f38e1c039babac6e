"""Where the time of one RADLADS step 2 goes: each operation timed by itself at the step's shapes, times its
count.

    python benchmarks/profile_step.py [--batch 4 --length 512] [--layers 30 --softmax 8] [--threads 2]
                                      [--cpu] [--json FILE]

The model has the width of SmolLM2-135M and random weights; `--layers 6 --softmax 2` makes it quick. What the
operations leave of the measured step is called "other": the activations around the gated delta rule, copies
of what is saved, the embedding, the gradient norm. On a busy machine use `--threads 1 --cpu`: CPU time of the
process instead of wall time.

The last table is a model of more cores, not a measurement: see `speedup`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
D, F, VOCABULARY, HEADS, KV_HEADS, DIM = 576, 1536, 49152, 9, 3, 64
CHUNK = 64  # tokens of a task in the recurrence's backward pass
PEAK, BANDWIDTH = 102.4e9, 31e9  # FLOP/s of one core, bytes/s of the machine: see benchmarks/machine.py
QUERY_TILE = 64


@dataclass
class Part:
    """One operation of the step: how often it runs, its floor, and how it can be shared out."""

    name: str
    call: Callable[[], object]
    count: float
    flops: float = 0.0
    bytes: float = 0.0
    tasks: float = math.inf  # pieces of one call
    beside: float = math.inf  # of them, how many can run at the same time
    less: str = ""  # a part whose time the call contains
    seconds: float = 0.0  # of one call

    def floor(self, cores: int) -> float:
        return max(self.flops / (PEAK * cores), self.bytes / BANDWIDTH)


def keep_freed_pages() -> None:
    """Arrays that Python frees and makes anew then cost no page faults, as in the step itself."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        print("mallopt is missing: page faults are counted as work", file=sys.stderr)


def parts_of(options: argparse.Namespace, ops) -> list[Part]:
    rows = options.micro_batch * options.length
    micro = options.batch // options.micro_batch
    layers, kept = options.layers, options.softmax
    linear = layers - kept
    lengths = [options.length] * options.micro_batch
    rng = np.random.default_rng(0)

    def array(*shape, scale=1.0):
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    def product(name, out, width, forward, backward):
        """Forward with the teacher's; backward is two products: of the input, of the weight."""
        x, w, up = array(rows, width), array(out, width, scale=0.05), array(rows, out)
        flops = 2.0 * rows * out * width
        yield Part(f"{name}, forward", lambda: ops.linear(x, w), forward * micro, flops)
        yield Part(f"{name}, backward", lambda: ops.linear_vjp(x, w, up), backward * micro, 2 * flops)

    x, weight, up = array(rows, D), array(D), array(rows, D)
    gate_up, dy = array(rows, 2 * F), array(rows, F)
    q, k, v = array(rows, HEADS, DIM), array(rows, KV_HEADS, DIM), array(rows, KV_HEADS, DIM)
    dout, angles = array(rows, HEADS, DIM), 1e4 ** (-np.arange(DIM // 2, dtype=np.float32) / (DIM // 2))
    joined = array(rows, HEADS + KV_HEADS, DIM)
    unit = array(rows, HEADS, DIM)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    decay, beta = -np.abs(array(rows, HEADS, scale=0.1)), rng.random((rows, HEADS), dtype=np.float32)
    delta = (unit / 8, unit, array(rows, HEADS, DIM), decay, beta)
    head, target = array(VOCABULARY, D, scale=0.05), array(rows, D)
    pairs = options.micro_batch * options.length**2 / 2 * HEADS
    tokens = rows * HEADS * DIM * DIM
    wide, tiles = 4.0 * rows * D, options.micro_batch * HEADS * math.ceil(options.length / QUERY_TILE)

    found = [
        *product("MLP gate and up", 2 * F, D, 2 * layers, layers),
        *product("MLP down", D, F, 2 * layers, layers),
        *product("softmax q, k, v", (HEADS + 2 * KV_HEADS) * DIM, D, layers + kept, kept),
        *product("gated_delta projections", 4 * D + 2 * HEADS, D, linear, linear),
        *product("mixer output", D, D, 2 * layers, layers),
        Part(
            "LM head and KL, both directions",
            lambda: ops.kl_divergence_vjp(target, x, head, head, 1.0 / rows),
            micro,
            8.0 * rows * VOCABULARY * D,
        ),
        Part(
            "attention, forward",
            lambda: ops.softmax_attention(q, k, v, lengths=lengths),
            (layers + kept) * micro,
            4 * pairs * DIM,
            tasks=tiles,
        ),
        Part(
            "attention, backward",
            lambda: ops.softmax_attention_vjp(q, k, v, dout, lengths=lengths),
            kept * micro,
            10 * pairs * DIM,
            tasks=2 * HEADS * options.micro_batch,
            less="attention, forward",
        ),
        Part(
            "gated delta rule, forward",
            lambda: ops.gated_delta(*delta, lengths=lengths),
            linear * micro,
            6.0 * tokens,
            tasks=HEADS * options.micro_batch,
        ),
        Part(
            "gated delta rule, backward",
            lambda: ops.gated_delta_vjp(*delta, dout, lengths=lengths),
            linear * micro,
            12.0 * tokens,
            tasks=HEADS * options.micro_batch * math.ceil(options.length / CHUNK),
            beside=HEADS * options.micro_batch,
            less="gated delta rule, forward",
        ),
        Part(
            "RMSNorm, forward and again",
            lambda: ops.rms_norm(x, weight, eps=1e-5),
            (6 * layers + 2) * micro,
            bytes=2 * wide,
        ),
        Part(
            "RMSNorm, backward",
            lambda: ops.rms_norm_vjp(x, weight, up, eps=1e-5),
            (2 * layers + 1) * micro,
            bytes=4 * wide,
        ),
        Part("SwiGLU, forward", lambda: ops.swiglu(gate_up), 2 * layers * micro, bytes=12.0 * rows * F),
        Part(
            "SwiGLU, backward",
            lambda: ops.swiglu_vjp(gate_up, dy),
            layers * micro,
            bytes=24.0 * rows * F,
        ),
        Part(
            "RoPE",
            lambda: ops.rope(joined, angles),
            (layers + 2 * kept) * micro,
            bytes=8.0 * rows * (HEADS + KV_HEADS) * DIM,
        ),
    ]
    return [part for part in found if part.count]


def optimizer(parameters: int, ops) -> Part:
    p, g, m, v = (np.zeros(parameters, np.float32) for _ in range(4))
    g += np.float32(1e-3)
    return Part(
        "AdamW and clipping", lambda: ops.adamw(p, g, m, v, 1e-5, 1), 1, bytes=32.0 * parameters, tasks=1e4
    )


def random_model(layers: list[list[dict]], seed: int):
    from hybridattn.families.config import ModelConfig
    from hybridattn.model.model import Model

    config = ModelConfig(
        family="llama",
        max_positions=8192,
        vocab_size=VOCABULARY,
        hidden_size=D,
        intermediate_size=F,
        num_layers=len(layers),
        num_heads=HEADS,
        num_kv_heads=KV_HEADS,
        head_dim=DIM,
        norm_eps=1e-5,
        tie_embeddings=True,
        rope_inv_freq=tuple(1e4 ** (-i / (DIM // 2)) for i in range(DIM // 2)),
    )
    model, rng = Model(config, layers), np.random.default_rng(seed)
    for name, tensor in model.parameters().items():
        values = tensor.numpy()
        if values.ndim > 1:
            values[...] = rng.standard_normal(values.shape, dtype=np.float32) * 0.02
        else:
            values[...] = 0.0 if name.endswith(("A_log", "dt_bias", "bias")) else 1.0
    return model


def step_of(options: argparse.Namespace, core):
    """The step itself, and how many parameters it trains."""
    softmax, linear = {"kind": "softmax"}, {"kind": "gated_delta"}
    keep = {int((i + 0.5) * options.layers / options.softmax) for i in range(options.softmax)}
    student = random_model([[softmax if i in keep else linear] for i in range(options.layers)], 1)
    teacher = random_model([[softmax]] * options.layers, 2)
    trainer = core.Distiller(student, teacher, "distill", micro_batch=options.micro_batch)
    rows = options.batch * options.length
    tokens = np.random.default_rng(3).integers(0, VOCABULARY, rows).astype(np.int32)
    start = np.arange(options.batch, dtype=np.int64) * options.length
    windows = np.broadcast_to(np.stack([start, start + options.length], -1), (100, options.batch, 2)).copy()
    lr = np.full((100, 2), 1e-6, np.float32)
    return lambda: trainer.run(tokens, windows, lr, trainer.step, trainer.step + 1), student.num_parameters


def least(call: Callable[[], object], clock: Callable[[], float], repeat: int) -> float:
    """Least time of one call, after one that warms up: other work on the machine only adds."""
    call()
    times = []
    for _ in range(repeat):
        begin = clock()
        call()
        times.append(clock() - begin)
    return min(times)


def speedup(part: Part, cores: int, measured: int, bandwidth: float) -> float:
    """How much faster a part gets with `cores` instead of `measured`: arithmetic by cores, or by whole rounds
    of its tasks when they are few; streaming by `bandwidth`, the memory bandwidth relative to this one."""
    if part.bytes and not part.flops:
        return min(bandwidth, cores / measured)
    if math.isinf(part.tasks):
        return cores / measured
    return rounds(part, measured) / rounds(part, cores)


def rounds(part: Part, cores: int) -> int:
    return math.ceil(part.tasks / min(cores, part.beside))


def show(parts: list[Part], step: float, options: argparse.Namespace) -> list[dict]:
    print(f"{'operation':34s} {'calls':>6s} {'ms each':>9s} {'percent':>8s} {'of floor':>9s}")
    rows, total = [], 0.0
    for part in sorted(parts, key=lambda p: -p.seconds * p.count):
        share = 100 * part.seconds * part.count / step
        total += share
        of_floor = 100 * part.floor(options.threads) / part.seconds if part.seconds > 0 else 0.0
        print(f"{part.name:34s} {part.count:6.0f} {1e3 * part.seconds:9.3f} {share:8.2f} {of_floor:8.0f}%")
        rows.append(
            {k: v for k, v in asdict(part).items() if k not in ("call", "less")}
            | {"percent": share, "floor": part.floor(options.threads)}
        )
        rows[-1] |= {key: None for key in ("tasks", "beside") if math.isinf(rows[-1][key])}
    print(
        f"{'other':34s} {'':6s} {'':9s} {100 - total:8.2f}\n{'step':34s} {1:6d} {1e3 * step:9.1f} {100:8.2f}"
    )
    if abs(100 - total) > 5:
        print(f"the operations leave {100 - total:.1f}% of the step, wanted is 5% at most", file=sys.stderr)
    print("\nA model of more cores (bandwidth relative to this machine in brackets), from the table above:")
    known = sum(p.seconds * p.count for p in parts)
    for cores, bandwidth in ((8, 3), (16, 6), (64, 12)):
        left = sum(p.seconds * p.count / speedup(p, cores, options.threads, bandwidth) for p in parts)
        left += max(0.0, step - known) / bandwidth
        print(f"  {cores:3d} cores ({bandwidth}x): step {step / left:5.1f} times as fast")
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4, help="windows of a step")
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--softmax", type=int, default=8, help="layers of the student that keep softmax")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="CPU time instead of wall time")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.batch % options.micro_batch:
        parser.error(f"--micro-batch is {options.micro_batch}, expected a divisor of --batch {options.batch}")
    if not 1 <= options.softmax <= options.layers:
        parser.error(f"--softmax is {options.softmax}, allowed are 1 to --layers {options.layers}")
    return options


def main() -> int:
    options = arguments()
    keep_freed_pages()
    import machine

    from hybridattn import _core as core

    core.set_num_threads(options.threads)
    clock = time.process_time if options.cpu else time.perf_counter
    if not options.cpu:
        machine.warn_if_busy()
    step, parameters = step_of(options, core)
    parts = [*parts_of(options, core.ops), optimizer(parameters, core.ops)]
    seconds = least(step, clock, 2)
    for part in parts:
        part.seconds = least(part.call, clock, options.repeat)
    by_name = {part.name: part for part in parts}
    for part in parts:
        if part.less:
            part.seconds = max(0.0, part.seconds - by_name[part.less].seconds)
    seconds = min(seconds, least(step, clock, 1))
    rows = show(parts, seconds, options)
    if options.json:
        report = {"machine": machine.facts(), "options": vars(options) | {"json": None}, "step": seconds}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(report | {"rows": rows}, indent=1, default=str))
        os.replace(temporary, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
