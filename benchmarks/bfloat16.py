"""What bfloat16 products change and what they cost: KL to float32 on held-out text, and seconds of a prefill
by instruction set; with --train the held-out KL after a short recipe in either.

    python benchmarks/bfloat16.py [--model smollm2-135m] [--tokens 4096] [--threads 2] [--steps] [--cpu]
                                  [--train] [--json FILE]

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


def trained(options: argparse.Namespace, compute: str) -> dict:
    """A short recipe in one arithmetic (`window_linear`, 8 evenly spaced softmax layers), and its held-out KL
    in float32.
    """
    from hybridattn import Model, TokenData, align, distill, evaluate, load_text, plan, set_num_threads
    from hybridattn.data.split import Texts, locate

    set_num_threads(options.threads)
    teacher = Model.from_pretrained(options.model, compute=compute)
    texts = Texts(locate("wikipedia", "--text"))
    first = texts.training(teacher.tokenizer, options.align, 2048)
    begin = time.perf_counter()
    mixer = {"kind": "window_linear"}
    probe = align(teacher, mixer, first, options.align // 2048, 1, seed=options.seed, progress=False)
    hybrid = probe.to_hybrid(plan.uniform(len(teacher.layers), 8, probe.layers[0][1]))
    second = texts.training(teacher.tokenizer, options.distill, 512, skip=options.align)
    distill(hybrid, teacher, second, options.distill // 512, 1, seed=options.seed, progress=False)
    seconds = time.perf_counter() - begin
    heldout = load_text(locate("wikipedia", "--text", heldout=True))
    data = TokenData.from_text(heldout, teacher.tokenizer, options.length, options.tokens)
    teacher.compute = hybrid.compute = "float32"
    kl = evaluate.kl(hybrid, teacher, data)
    return {"kl": kl.kl, "kl_stderr": kl.kl_stderr, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=4096, help="held-out text")
    parser.add_argument("--length", type=int, default=512, help="tokens of a window and of the prompt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--align", type=int, default=8192, help="tokens of step 1, with --train")
    parser.add_argument("--distill", type=int, default=4096, help="tokens of step 2, with --train")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", action="store_true", help="time steps 1 and 2, too")
    parser.add_argument("--cpu", action="store_true", help="CPU time, for a busy machine: with --threads 1")
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), help="values of HYBRIDATTN_ISA")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", action="store_true", help="a short recipe in both, instead")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cell", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        return times(options)
    from machine import facts, write_json

    names = ("model", "tokens", "length", "threads", "align", "distill", "seed", "repeat", "cpu")
    settings = {name: getattr(options, name) for name in names}
    if options.train:
        recipes = {compute: trained(options, compute) for compute in ("float32", "bfloat16")}
        print(recipes)
        if options.json:
            write_json(options.json, {"machine": facts(), "settings": settings, "recipe": recipes})
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
