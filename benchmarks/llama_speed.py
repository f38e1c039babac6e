"""How fast is a hybrid in llama.cpp, beside here and beside its teacher? Tokens per second, Q8_0 weights.

    python benchmarks/llama_speed.py --hybrid DIR [--lengths 128,2048] [--models hybrid,teacher] [--json FILE]

DIR: a saved gated_delta hybrid of SmolLM2-135M, as benchmarks/exports.py makes one. It and its teacher are
exported as Q8_0 GGUF files (kept beside DIR) and run in llama.cpp through llama-cpp-python, with flash
attention off and on, of which the faster counts; here both are stored as q8_0. Keys and values are float16 in
both programs, prompts go in batches of 512 tokens there and of 2048 here, one sequence, greedy. A row is a
model, a length and both programs, in turns: the least time of a prompt, and the median of decoding a token
after it. Rows that --json holds are not run again: a call that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import peer_llama  # noqa: E402

import hybridattn as ha  # noqa: E402
from hybridattn.evaluate.latency import latency  # noqa: E402

NEW = 16  # tokens decoded after a prompt
ROUNDS = 2
LONG = 4096  # from here on one round
MODELS = ("hybrid", "teacher")


def theirs(path: Path, tokens: np.ndarray, flash: bool) -> tuple[float, float]:
    """(seconds of the prompt, seconds of a token after it) in llama.cpp."""
    context = peer_llama.Context(str(path), -(-(len(tokens) + NEW) // 256) * 256, flash)
    context.put(tokens[:32])  # pages of the file are in memory then
    context.clear()
    start = time.perf_counter()
    context.put(tokens)
    prompt, steps = time.perf_counter() - start, []
    for token in tokens[:NEW]:
        start = time.perf_counter()
        context.put(token[None])
        steps.append(time.perf_counter() - start)
    return prompt, statistics.median(steps)


def ours(model: ha.Model, length: int) -> tuple[float, float]:
    """The same here."""
    found = latency(model, [length], decode_tokens=NEW, repeats=1, cache_dtype="f16", beyond_positions=True)
    return found["prefill"][length], found["decode"][length]


def row(name: str, model: ha.Model, path: Path, length: int) -> dict[str, Any]:
    """Tokens per second of both programs, in turns."""
    tokens = np.random.default_rng(0).integers(0, model.config["vocab_size"], length).astype(np.int32)
    times: dict[str, list[tuple[float, float]]] = {"here": [], "off": [], "on": []}
    for _ in range(ROUNDS - (length >= LONG)):
        times["here"].append(ours(model, length))
        for flash in ("off", "on"):
            times[flash].append(theirs(path, tokens, flash == "on"))
    least = {key: [min(part) for part in zip(*found, strict=True)] for key, found in times.items()}
    speed = {key: [length / prompt, 1 / token] for key, (prompt, token) in least.items()}
    best = [max(pair) for pair in zip(speed["off"], speed["on"], strict=True)]
    return {
        "model": name,
        "length": length,
        "prefill here": speed["here"][0],
        "prefill llama.cpp": best[0],
        "decode here": speed["here"][1],
        "decode llama.cpp": best[1],
        "flash faster": [speed["on"][i] > speed["off"][i] for i in (0, 1)],
        "times": times,
    }


def files(folder: Path, threads: int) -> dict[str, tuple[ha.Model, Path]]:
    """Each model as q8_0 here, and its file."""
    found = {}
    sources = {"hybrid": folder, "teacher": "smollm2-135m"}
    for name, source in sources.items():
        target = folder.with_name(f"{folder.name}-{name}-q8_0")
        model = ha.Model.from_pretrained(source)
        if not (target / "model.gguf").exists():
            model.export(target, layout="gguf", dtype="q8_0")
        found[name] = model.astype("q8_0"), target / "model.gguf"
    ha.set_num_threads(threads)
    return found


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--hybrid", type=Path, required=True, metavar="DIR")
    parser.add_argument("--lengths", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--models", type=lambda text: text.split(","), default=MODELS)
    parser.add_argument("--threads", type=int, default=ha.get_num_threads())
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    try:
        versions = peer_llama.begin(options.threads)
    except ImportError:
        print("needs llama-cpp-python", file=sys.stderr)
        return 3
    content: dict[str, Any] = {"versions": versions, "threads": options.threads, "rows": []}
    if options.json and options.json.exists():
        content = json.loads(options.json.read_text())
    done = [(row["model"], row["length"]) for row in content["rows"]]
    made = files(options.hybrid, options.threads)
    for length in options.lengths or (128, 2048, 8192):
        for name in options.models:
            if (name, length) in done:
                continue
            content["rows"].append(row(name, *made[name], length))
            if options.json:
                content["machine"] = ha.show_config()
                options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    columns = ("prefill here", "prefill llama.cpp", "decode here", "decode llama.cpp")
    print("| tokens | model | " + " | ".join(columns) + " |\n" + "| --- " * (2 + len(columns)) + "|")
    for found in sorted(content["rows"], key=lambda found: (found["length"], found["model"])):
        cells = [f"{found[column]:.0f}" for column in columns]
        print(f"| {found['length']} | {found['model']} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
