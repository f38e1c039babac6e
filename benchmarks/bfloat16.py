"""What bfloat16 products change and what they cost: KL to float32 on held-out text, and seconds of a prefill
by instruction set; with --train the held-out KL after a short recipe in either.

    python benchmarks/bfloat16.py [--model smollm2-135m] [--tokens 4096] [--threads 2] [--train] [--json FILE]

Each row is a process of its own with HYBRIDATTN_ISA set: `avx512` is the portable twin on a processor that
has AVX-512 BF16. Times are the least of five, float32 and bfloat16 in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
LEVELS = ("avx512_bf16", "avx512", "avx2")


def times(options: argparse.Namespace) -> None:
    """In the child: one line of JSON."""
    from hybridattn import Model, set_num_threads
    from hybridattn.model.generate import prefill

    set_num_threads(options.threads)
    model = Model.from_pretrained(options.model)
    prompt = [np.random.default_rng(0).integers(0, model.config["vocab_size"], options.length).tolist()]
    found: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for number in range(6):
        for name, seconds in found.items():
            model.compute = name
            begin = time.perf_counter()
            prefill(model, prompt, model.cache(1))
            if number:
                seconds.append(time.perf_counter() - begin)
    print(json.dumps({name: min(seconds) for name, seconds in found.items()}))


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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", action="store_true", help="a short recipe in both, instead")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cell", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        return times(options)
    from machine import facts, write_json

    names = ("model", "tokens", "length", "threads", "align", "distill", "seed")
    settings = {name: getattr(options, name) for name in names}
    if options.train:
        recipes = {compute: trained(options, compute) for compute in ("float32", "bfloat16")}
        print(recipes)
        if options.json:
            write_json(options.json, {"machine": facts(), "settings": settings, "recipe": recipes})
        return
    rows = {}
    for level in LEVELS:
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
        ratio = rows[level]["bfloat16"] / rows[level]["float32"]
        print(f"{level:12s} prefill {options.length}: {rows[level]}, bfloat16 takes {ratio:.2f} of float32")
    found = distance(options)
    print(found)
    if options.json:
        write_json(options.json, {"machine": facts(), "settings": settings, "seconds": rows} | found)


if __name__ == "__main__":
    main()
