"""What bfloat16 products change and what they cost: KL to float32 on held-out text, and seconds of a prefill
by instruction set; with --recipe the held-out KL after the demo's recipe in either.

    python benchmarks/bfloat16.py [--model smollm2-135m] [--tokens 4096] [--threads 2] [--steps] [--cpu]
                                  [--recipe --seeds 3 --out FOLDER] [--json FILE]

Each instruction set is a process of its own with HYBRIDATTN_ISA set: `avx512` is the portable twin on a
processor that has AVX-512 BF16. Times are the least of --repeat, float32 and bfloat16 in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
LEVELS = ("avx512_bf16", "avx512", "avx2")


def works(options: argparse.Namespace, compute: str) -> dict[str, Callable[[], object]]:
    """What is timed: a prefill, and on request steps 1 and 2 on one window, 8 softmax layers in step 2."""
    from hybridattn import Distiller, Model
    from hybridattn.model.generate import prefill

    teacher = Model.from_pretrained(options.model, compute=compute)
    tokens = np.random.default_rng(0).integers(0, teacher.config["vocab_size"], options.length)
    found = {f"prefill {options.length}": lambda: prefill(teacher, [tokens.tolist()], teacher.cache(1))}
    if not options.steps:
        return found
    probe = teacher.to_probe({"kind": "gated_delta"})
    count = len(teacher.layers)
    hybrid = probe.to_hybrid([int((i + 0.5) * count / 8) for i in range(8)])
    windows = np.tile(np.array([[[0, options.length]]], np.int64), (100, 1, 1))
    rates = np.full((100, 2), 1e-6, np.float32)
    trainers = {"step 1": Distiller(probe, None, "align"), "step 2": Distiller(hybrid, teacher, "distill")}

    def step(trainer: Distiller) -> Callable[[], object]:
        stream = tokens.astype(np.int32)
        return lambda: trainer.run(stream, windows, rates, trainer.step, trainer.step + 1)

    return found | {f"{name}, {options.length} tokens": step(trainer) for name, trainer in trainers.items()}


def times(options: argparse.Namespace) -> None:
    """In the child: one line of JSON, {work: {arithmetic: least seconds}}."""
    from hybridattn import set_num_threads

    set_num_threads(options.threads)
    clock = time.process_time if options.cpu else time.perf_counter
    both = {compute: works(options, compute) for compute in ("float32", "bfloat16")}
    found: dict[str, dict[str, float]] = {work: {} for work in both["float32"]}
    for work, least in found.items():
        for number in range(options.repeat + 1):
            for compute, calls in both.items():
                begin = clock()
                calls[work]()
                if number:
                    least[compute] = min(clock() - begin, least.get(compute, np.inf))
    print(json.dumps(found))


def distance(options: argparse.Namespace) -> dict:
    """KL(float32 || bfloat16) of one model on held-out text, nats per token, and both perplexities."""
    from hybridattn import Model, TokenData, evaluate, load_text, set_num_threads
    from hybridattn.data.split import locate

    set_num_threads(options.threads)
    exact = Model.from_pretrained(options.model)
    rounded = Model.from_pretrained(options.model, compute="bfloat16")
    text = load_text(locate("wikipedia", "--text", heldout=True))
    data = TokenData.from_text(text, exact.tokenizer, options.length, options.tokens)
    found = {name: evaluate.kl(model, exact, data) for name, model in (("f", exact), ("b", rounded))}
    return {
        "tokens": data.num_tokens,
        "kl": found["b"].kl,
        "kl_stderr": found["b"].kl_stderr,
        "perplexity": {"float32": found["f"].perplexity, "bfloat16": found["b"].perplexity},
    }


def recipe(options: argparse.Namespace) -> list[dict]:
    """The demo's recipe (scores, step 1, step 2 of the chosen layers) in both arithmetics for each seed,
    and the held-out KL of its hybrid. A run that was stopped goes on; one that has ended is only read.
    """
    rows = []
    for seed in range(options.seeds):
        found: dict[str, dict] = {}
        for compute in ("float32", "bfloat16"):
            out = options.out / f"{compute}-{seed}"
            changes = {
                "seed": seed,
                "compute": compute,
                "teacher.model": options.model,
                "score.methods": ["kl_replace"],  # the demo's first, which chooses
                "plan.random_seeds": 0,
                "distill.models": ["chosen"],
                "evaluate.lengths": [512],
                "measure.lengths": [512],
                "measure.decode_tokens": 2,
                "measure.repeats": 1,
                "samples.tokens": 1,
            }
            sets = [f"--set={name}={json.dumps(value)}" for name, value in changes.items()]
            command = [sys.executable, "-m", "hybridattn", "run", "--demo", "--out", str(out), *sets]
            if not (out / "report.json").is_file():
                environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
                subprocess.run(
                    command, check=True, env=environment, stdout=subprocess.DEVNULL, cwd=HERE.parent
                )
            found[compute] = json.loads((out / "report.json").read_text())
        row: dict = {"seed": seed}
        for compute, report in found.items():
            chosen = next(model for model in report["models"] if model["id"] == "chosen")
            kl = {n: [at["kl"], at["kl_stderr"]] for n, at in chosen["after"].items()}
            row[compute] = {"kl": kl, "softmax_layers": chosen["softmax_layers"]}
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=4096, help="held-out text")
    parser.add_argument("--length", type=int, default=512, help="tokens of a window and of the prompt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", action="store_true", help="time steps 1 and 2, too")
    parser.add_argument("--cpu", action="store_true", help="CPU time, for a busy machine: with --threads 1")
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), help="values of HYBRIDATTN_ISA")
    parser.add_argument("--recipe", action="store_true", help="the demo's recipe in both, instead")
    parser.add_argument("--seeds", type=int, default=3, help="of --recipe")
    parser.add_argument(
        "--out", type=Path, default=HERE.parent / "build" / "bfloat16", help="of --recipe's runs"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cell", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        return times(options)
    from machine import facts, write_json

    names = ("model", "tokens", "length", "threads", "seeds", "repeat", "cpu")
    settings = {name: getattr(options, name) for name in names}
    if options.recipe:
        done = recipe(options)
        if options.json:
            write_json(options.json, {"machine": facts(), "settings": settings, "recipe": done})
        return
    rows = {}
    for level in options.levels:
        child = subprocess.run(
            [sys.executable, *sys.argv, "--cell"],
            env=os.environ | {"HYBRIDATTN_ISA": level},
            capture_output=True,
            text=True,
        )
        if child.returncode:
            print(f"{level}: {child.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        rows[level] = json.loads(child.stdout.splitlines()[-1])
        for work, least in rows[level].items():
            ratio = least["float32"] / least["bfloat16"]
            print(f"{level:12s} {work:20s} {least}, bfloat16 is {ratio:.2f} times as fast")
    found = distance(options)
    print(found)
    if options.json:
        write_json(options.json, {"machine": facts(), "settings": settings, "seconds": rows} | found)


if __name__ == "__main__":
    main()
