"""How far is a step of decoding from the bytes that it must read?

    python benchmarks/decode_floor.py --hybrid FOLDER [--lengths 1 128 2048] [--dtype q8_0] [--json FILE]
    python benchmarks/decode_floor.py --mixer "gated_delta" --mixer "gated_delta grouped=1 output_gate=none"

For SmolLM2-135M and hybrids of it, with weights of --dtype: bytes of weights, of states and of keys and
values that a token reads (states are also written), milliseconds of a step, GB/s of both together; how much
of the step is the LM head, by the same step without it; and milliseconds of reading the tokens before it.
Models take turns; the least of --repeat rounds counts, a round's step is the median. --mixer: a hybrid with 8
softmax layers, evenly spread, and that mixer as it starts, since neither bytes nor times depend on weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import machine
import numpy as np

import hybridattn as ha
from hybridattn.cli.align import mixer_spec
from hybridattn.model.prefill import prefill


def bytes_of(model, length: int) -> dict[str, float]:
    """Bytes that a token after `length` others moves: an untied embedding is read for one row only."""
    weights = model.nbytes
    if not model.config["tie_embeddings"]:
        stored = model.stored()
        table = stored["embed.weight"][1] if "embed.weight" in stored else model.arrays()["embed.weight"]
        weights -= table.nbytes
    states = keys = 0.0
    for layer, gate in zip(model.cost(float(max(length, 1))), model.gates, strict=True):
        for kind, cost in layer.items():
            if len(layer) == 1 or (kind == "softmax") == bool(gate):
                states += 2 * cost["state_bytes"]
                keys += cost["bytes_per_token"] * length
    return {"weights": weights, "states": states, "keys_and_values": keys}


def hybrids(args):
    """{name: a hybrid of SmolLM2-135M} in float32."""
    found = {"hybrid": ha.Model.from_pretrained(args.hybrid)} if args.hybrid else {}
    for text in args.mixer:
        kind, *options = text.split()
        probe = ha.Model.from_pretrained("smollm2-135m").to_probe(mixer_spec(kind, options))
        found[text] = probe.to_hybrid([(2 * i + 1) * len(probe.layers) // 16 for i in range(8)])
    return found


def steps(model, cache, count: int, head: bool) -> float:
    token, took = np.zeros((1, 1), np.int32), []
    for _ in range(count):
        started = time.perf_counter()
        if head:
            model.logits(token, cache=cache, last=True)
        else:
            model.hidden(token, cache=cache)
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hybrid", help="a saved hybrid")
    parser.add_argument("--mixer", action="append", default=[], help="kind and options of another one")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 128, 2048])
    parser.add_argument("--dtype", default="q8_0")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine.warn_if_busy()
    models = {"teacher": ha.Model.from_pretrained("smollm2-135m")} | hybrids(args)
    models = {name: model.astype(args.dtype) for name, model in models.items()}
    rng, rows = np.random.default_rng(0), []
    for length in args.lengths:
        caches, read = {}, {}
        prompt = [rng.integers(0, 49_000, length).tolist()]
        for _ in range(args.repeat):
            for name, model in models.items():
                caches[name] = model.cache()
                caches[name].reserve([length + 2 * args.steps])
                started = time.perf_counter()
                prefill(model, prompt, caches[name])
                read.setdefault(name, []).append(time.perf_counter() - started)
        found: dict[tuple[str, bool], list[float]] = {}
        for _ in range(args.repeat):
            for name, model in models.items():
                for head in (True, False):
                    cache = caches[name].fork()
                    cache.reserve([args.steps])
                    found.setdefault((name, head), []).append(steps(model, cache, args.steps, head))
        for name, model in models.items():
            moved, took = bytes_of(model, length), min(found[name, True])
            row = {
                "model": name,
                "length": length,
                "ms": 1e3 * took,
                "head_ms": 1e3 * (took - min(found[name, False])),
                "bytes": moved,
                "gb_per_second": sum(moved.values()) / took / 1e9,
                "of_teacher": took / min(found["teacher", True]),
                "prefill_ms": 1e3 * min(read[name]),
                "prefill_of_teacher": min(read[name]) / min(read["teacher"]),
                "rounds_ms": [1e3 * t for t in found[name, True]],
            }
            rows.append(row)
            parts = "  ".join(f"{part} {n / 1e6:.1f} MB" for part, n in moved.items())
            print(
                f"{name:>8} after {length:4d}  {row['ms']:6.2f} ms (head {row['head_ms']:.2f})  "
                f"{row['of_teacher']:.2f} of the teacher  {row['gb_per_second']:.1f} GB/s  {parts}  "
                f"prefill {row['prefill_ms']:.0f} ms, {row['prefill_of_teacher']:.2f} of the teacher",
                flush=True,
            )
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k not in ("json", "hybrid")}
        machine.write_json(args.json, {"machine": machine.facts(), "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
