"""Times forward, decode and a step of RADLADS 1 and 2 on SmolLM2-135M beside eager PyTorch, with peak memory.

    python benchmarks/steps.py [--peer-python PATH] [--stage align] [--batch 4 --length 512] [--json FILE]

Both sides start from the same weights (teacher, gated_delta probe, hybrid of 8 softmax layers) and the same
tokens; their first losses are compared. Every side of every stage has a process of its own, so its peak
resident memory is its own. Rounds alternate.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import machine
from protocol import HERE, MALLOC, median, start

FORMAT = "{:8s} {:22s} {:>9s} {:>9s} {:>7s} {:>12s} {:>10s} {:>9s} {:>12s}"
COLUMNS = ("stage", "side", "s/step", "tok/s", "ratio", "range", "peak GiB", "GF/s", "first loss")
# Millions of multiply-adds per token of SmolLM2-135M: MLP, softmax mixer, gated_delta mixer, LM head.
MLP, SOFTMAX, LINEAR, HEAD, LAYERS, KEPT = 2.654, 0.885, 1.659, 28.31, 30, 8

STAGES = ("forward", "decode", "align", "distill")
NEW = 16  # tokens decoded one by one after a prompt of --length


def flops_per_token(stage: str) -> float:
    """Useful FLOPs of the weights' products; attention and recurrences add a few percent at 512 tokens."""
    teacher = LAYERS * (MLP + SOFTMAX)
    hybrid = LAYERS * MLP + KEPT * SOFTMAX + (LAYERS - KEPT) * LINEAR
    if stage in ("forward", "decode"):
        return 2e6 * (hybrid + HEAD * (stage == "decode"))
    if stage == "align":  # forward, weight gradients, and the input gradient of the output projection alone
        return 2e6 * (teacher + LAYERS * LINEAR * 2.2)
    return 2e6 * (teacher * (stage == "distill") + 3 * hybrid + 4 * HEAD)


def sides_of(stage: str, options) -> dict[str, tuple]:
    """label -> (script, interpreter, environment, micro-batch)."""
    peer = ("peer_steps.py", options.peer_python, MALLOC)
    out = {"ours": ("our_steps.py", sys.executable, None, options.micro_batch)}
    if options.side != "ours":
        out["torch"] = (*peer, options.batch)
        if options.peer_micro and stage in ("align", "distill"):
            out["torch, micro-batch 1"] = (*peer, 1)
    if options.side == "torch":
        out.pop("ours")
    return out


def measure(stage: str, options, folder: Path) -> list[dict]:
    case = {
        "op": stage,
        "new": NEW,
        "batch": 1 if stage == "decode" else options.batch,
        "length": options.length,
        **{n: str(folder / n) for n in ("teacher", "probe", "hybrid")},
    }
    running, rows = {}, {}
    for label, (script, python, env, micro_batch) in sides_of(stage, options).items():
        side = start(script, python, threads=options.threads, extra_env=env)
        if side is None:
            continue
        answer = side.ask("setup", case=case | {"micro_batch": micro_batch})
        running[label] = side
        rows[label] = {
            "stage": stage,
            "side": label,
            "micro_batch": micro_batch,
            "first": answer["check"][0],
            "seconds": [],
            "versions": side.versions,
        }
    for round_number in range(options.repeat + 1):  # the first warms up
        for label, side in running.items():
            answer = side.ask("run", part="step")
            rows[label]["seconds"] += answer["seconds"] * (round_number > 0)
            rows[label]["peak_bytes"] = answer["peak"]
    for side in running.values():
        side.close()
    return list(rows.values())


def lines(rows: list[dict], options) -> list[str]:
    tokens = NEW if rows and rows[0]["stage"] == "decode" else options.batch * options.length
    ours = next((r for r in rows if r["side"] == "ours"), None)
    out = []
    for row in rows:
        seconds = median(row["seconds"])
        ratio = spread = ""
        if ours and row is not ours:
            ratios = [b / a for a, b in zip(ours["seconds"], row["seconds"])]
            row["ratio"] = median(ratios)
            ratio, spread = f"{median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}"
            if abs(row["first"] - ours["first"]) > 1e-3 * abs(ours["first"]):
                print(
                    f"{row['stage']}: first values differ: {ours['first']:.6g} and {row['first']:.6g}",
                    file=sys.stderr,
                )
        out.append(
            FORMAT.format(
                row["stage"],
                row["side"],
                f"{seconds:.2f}",
                f"{tokens / seconds:.1f}",
                ratio,
                spread,
                f"{row['peak_bytes'] / 2**30:.2f}",
                f"{flops_per_token(row['stage']) * tokens / seconds * 1e-9:.0f}",
                f"{row['first']:.6g}",
            )
        )
    return out


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="smollm2-135m", help="what both sides start from: a name, folder or .gguf file"
    )
    parser.add_argument("--peer-python", default=os.environ.get("HYBRIDATTN_PEER_PYTHON", sys.executable))
    parser.add_argument("--stage", choices=STAGES, action="append")
    parser.add_argument("--side", choices=["both", "ours", "torch"], default="both")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--micro-batch", type=int, default=1, help="ours; PyTorch takes the whole batch")
    parser.add_argument(
        "--peer-micro", action="store_true", help="also PyTorch with micro-batch 1, which saves it memory"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, default=HERE.parent / "build" / "bench", help="where the weights are kept"
    )
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> int:
    options = arguments()
    folder = options.folder / Path(options.model).stem
    if not all((folder / n / "config.json").is_file() for n in ("teacher", "probe", "hybrid")):
        folder.mkdir(parents=True, exist_ok=True)
        env = dict(os.environ, PYTHONPATH=str(HERE.parent))
        subprocess.run(
            [sys.executable, HERE / "our_steps.py", "--prepare", folder, options.model, "8"],
            check=True,
            env=env,
        )
    machine.warn_if_busy()
    print(FORMAT.format(*COLUMNS))
    rows = []
    for stage in options.stage or STAGES:
        some = measure(stage, options, folder)
        print("\n".join(lines(some, options)), flush=True)
        rows += some
    if options.json:
        report = {
            "machine": machine.facts(),
            "batch": options.batch,
            "length": options.length,
            "threads": options.threads,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "rows": rows,
        }
        machine.write_json(options.json, report)
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
