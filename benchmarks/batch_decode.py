"""Tokens per second when several sequences are decoded in one step: they share the stream of the weights.

    python benchmarks/batch_decode.py [--batches 1,2,4,8,16] [--context 256] [--json FILE]

The sequences have different lengths, from half of --context to all of it. One row per batch: milliseconds per
step, tokens per second, and the gain over decoding the sequences one by one.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import machine
import numpy as np
from protocol import median

FORMAT = "{:>9s} {:>12s} {:>10s} {:>8s}"


def step_seconds(model, cache, steps: int) -> list[float]:
    token, seconds = np.zeros((len(cache.lengths), 1), np.int32), []
    for _ in range(steps):
        started = time.perf_counter()
        model.logits(token, cache=cache, last=True)
        seconds.append(time.perf_counter() - started)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="a name, folder or .gguf file")
    parser.add_argument("--batches", default="1,2,4,8,16")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8, help="decoded tokens of each sequence in a round")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cache-dtype", default="f32", choices=("f32", "f16"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from hybridattn import set_num_threads
    from hybridattn.model.generate import prefill
    from hybridattn.model.model import Model

    machine.warn_if_busy()
    set_num_threads(options.threads)
    model, rng, caches = Model.from_pretrained(options.model), np.random.default_rng(0), {}
    batches = [int(n) for n in options.batches.split(",")]
    for n in batches:
        lengths = np.linspace(options.context / 2, options.context, n).astype(int)
        prompts = [rng.integers(0, model.config["vocab_size"], k).tolist() for k in lengths]
        caches[n] = model.cache(n, options.cache_dtype)
        prefill(model, prompts, caches[n])
    seconds: dict[int, list[float]] = {n: [] for n in batches}
    for number in range(options.repeat + 1):  # the first round warms up
        for n in batches:
            found = step_seconds(model, caches[n], options.steps)
            seconds[n] += found if number else []
    print(FORMAT.format("sequences", "ms per step", "tok/s", "gain"))
    alone, rows = median(seconds[batches[0]]) / batches[0], []
    for n in batches:
        step = median(seconds[n])
        rows.append(
            {"batch": n, "step_seconds": step, "tokens_per_second": n / step, "gain": n * alone / step}
        )
        print(FORMAT.format(str(n), f"{step * 1e3:.2f}", f"{n / step:.1f}", f"{n * alone / step:.2f}"))
    if options.json:
        machine.write_json(options.json, {"machine": machine.facts(), "rows": rows, "steps": seconds})
    return 0


if __name__ == "__main__":
    sys.exit(main())
