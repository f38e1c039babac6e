"""What a long text costs: teacher, hybrid and all-linear model of SmolLM2-135M, by context length.

    python benchmarks/long_context.py [--mixer gated_delta] [--lengths 512,2048,8192,32768] [--json FILE]

Prefill tokens per second, milliseconds per decoded token, bytes of the cache, and the peak resident size of a
process that does nothing else, loading aside. Every figure has a process of its own; rounds go through the
models in turn.
Lengths beyond the model's 8192 positions are measured with beyond_positions: costs, not quality. --longest
(131072) is for the all-linear model alone. At --target (8192) the hybrid must take at most 0.68 of its
teacher's time, in prefill and decode, and 0.28 of its cache, else the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import machine
from protocol import HERE, forget_peak, median, peak_bytes

MODELS = ("teacher", "hybrid", "linear")
SOFTMAX_LAYERS, MOST_TIME, MOST_CACHE = 8, 0.68, 0.28
FORMAT = "{:10s} {:>8s} {:>14s} {:>10s} {:>10s} {:>10s} {:>10s}"
COLUMNS = ("model", "tokens", "prefill tok/s", "decode ms", "cache MiB", "B/token", "peak GiB")


def prepare(folder: Path, model: str, mixer: str) -> None:
    """The three models, saved; the mixers are as the weight transfer leaves them, which costs the same."""
    from hybridattn.model.model import Model

    teacher = Model.from_pretrained(model)
    probe = teacher.to_probe({"kind": mixer})
    count = len(teacher.layers)
    keep = [int((i + 0.5) * count / SOFTMAX_LAYERS) for i in range(SOFTMAX_LAYERS)]
    for name, made in (
        ("teacher", teacher),
        ("hybrid", probe.to_hybrid(keep)),
        ("linear", probe.to_hybrid([])),
    ):
        made.save_pretrained(folder / name)


def one(folder: Path, length: int, decode_tokens: int, cache_dtype: str, dtype: str) -> dict:
    """One model at one length, in this process."""
    from hybridattn import measure
    from hybridattn.model.model import Model

    model = Model.from_pretrained(folder, dtype=dtype)
    forget_peak()
    found = measure.latency(
        model,
        [length],
        decode_tokens=decode_tokens,
        repeats=1,
        cache_dtype=cache_dtype,
        beyond_positions=True,
    )
    return {
        "prefill": found["prefill"][length],
        "decode": found["decode"][length],
        "cache_bytes": found["cache_bytes"][length],
        "bytes_per_token": found["bytes_per_token"],
        "peak_bytes": peak_bytes(),
    }


def ask(options: argparse.Namespace, folder: Path, length: int) -> dict:
    command = [sys.executable, __file__, "--one", folder, str(length)]
    command += ["--decode-tokens", str(options.decode_tokens), "--cache-dtype", options.cache_dtype]
    command += ["--dtype", options.dtype]
    env = dict(os.environ, OMP_NUM_THREADS=str(options.threads), PYTHONPATH=str(HERE.parent))
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)


def line(name: str, length: int, row: dict) -> str:
    return FORMAT.format(
        name,
        str(length),
        f"{length / row['prefill']:.1f}",
        f"{row['decode'] * 1e3:.2f}",
        f"{row['cache_bytes'] / 2**20:.1f}",
        str(row["bytes_per_token"]),
        f"{row['peak_bytes'] / 2**30:.2f}",
    )


def verdicts(rows: dict, target: int) -> list[tuple[str, float, float]]:
    """(what, value, at most): the hybrid against its teacher, and the linear model against itself."""
    out = []
    if target in rows.get("teacher", {}) and target in rows.get("hybrid", {}):
        teacher, hybrid = rows["teacher"][target], rows["hybrid"][target]
        for key, most in (("prefill", MOST_TIME), ("decode", MOST_TIME), ("cache_bytes", MOST_CACHE)):
            out.append((f"hybrid / teacher, {key} at {target}", hybrid[key] / teacher[key], most))
    linear = rows.get("linear", {})
    if len(linear) > 1:
        first, last = linear[min(linear)], linear[max(linear)]
        where = f"linear, {max(linear)} / {min(linear)}"
        out.append((f"{where}, cache_bytes", last["cache_bytes"] / first["cache_bytes"], 1.0))
        per_token = last["prefill"] / max(linear) / (first["prefill"] / min(linear))
        out.append((f"{where}, prefill per token", per_token, 1.25))
        out.append((f"{where}, decode", last["decode"] / first["decode"], 1.25))
    return out


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="a name, folder or .gguf file")
    parser.add_argument("--mixer", default="gated_delta", choices=("gated_delta", "window_linear"))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--lengths", default="512,2048,8192,32768")
    parser.add_argument("--longest", type=int, default=131072, help="for the all-linear model; 0: leave out")
    parser.add_argument("--target", type=int, default=8192, help="where the hybrid is judged")
    parser.add_argument("--dtype", default="float32", help="of the weights, see Model.astype")
    parser.add_argument("--cache-dtype", default="f32", choices=("f32", "f16"))
    parser.add_argument("--decode-tokens", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3, help="rounds; lengths above 8192 take one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "bench")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "LENGTH"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.one:
        folder, length = Path(options.one[0]), int(options.one[1])
        found = one(folder, length, options.decode_tokens, options.cache_dtype, options.dtype)
        print(json.dumps(found))
        return 0
    folder = options.folder / f"{Path(options.model).stem}-long-{options.mixer}"
    if not all((folder / name / "config.json").is_file() for name in MODELS):
        prepare(folder, options.model, options.mixer)
    machine.warn_if_busy()
    print(FORMAT.format(*COLUMNS))
    rows: dict[str, dict[int, dict]] = {name: {} for name in options.models.split(",")}
    for length in [*map(int, options.lengths.split(",")), *([options.longest] if options.longest else [])]:
        names = [n for n in rows if length != options.longest or n == "linear"]
        rounds = [
            {name: ask(options, folder / name, length) for name in names}
            for _ in range(options.repeat if length <= 8192 else 1)
        ]
        for name in names:
            every = [found[name] for found in rounds]
            row = {key: median([found[key] for found in every]) for key in every[0]}
            rows[name][length] = row | {"rounds": every}
            print(line(name, length, row), flush=True)
    judged = verdicts(rows, options.target)
    for what, value, most in judged:
        print(f"{what}: {value:.3f}, at most {most} wanted{'' if value <= most else ', MISSED'}")
    if options.json:
        settings = {n: str(v) if isinstance(v, Path) else v for n, v in vars(options).items()}
        report = {"machine": machine.facts(), "options": settings, "rows": rows, "verdicts": judged}
        machine.write_json(options.json, report | {"time": time.strftime("%Y-%m-%dT%H:%M:%S")})
    return 0 if all(value <= most for _, value, most in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
