"""Times every op beside PyTorch, round by round in turns.

    python benchmarks/ops.py [--peer-python PATH] [--only TEXT] [--json FILE]

Each round asks ours, theirs, (BLIS alone,) ours, theirs, .. so that both meet the same machine. Printed:
medians, the median of the per-round ratios theirs / ours (above 1: we are faster) with its range, useful
GFLOP/s, and our share of the roofline, which is the time that the slower of FLOPs at FMA peak and bytes at
triad bandwidth would take, over our time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import cases
import machine
from protocol import MALLOC, median, start

COLUMNS = (
    "op",
    "size",
    "part",
    "ours ms",
    "torch ms",
    "ratio",
    "range",
    "GF/s",
    "torch GF/s",
    "roofline",
    "of BLIS",
)
FORMAT = "{:20s} {:18s} {:8s} {:>9s} {:>9s} {:>6s} {:>12s} {:>6s} {:>10s} {:>8s} {:>7s}"


def roofline_seconds(work: tuple[float, float], limits: dict) -> float | None:
    if not limits:
        return None
    return max(work[0] / limits["fma_gflops"], work[1] / limits["triad_gbs"]) * 1e-9


def agreement(ours: list[float], theirs: list[float]) -> float:
    """Largest relative difference of the two sides' checks."""
    pairs = list(zip(ours, theirs))
    return max((abs(a - b) / max(abs(b), 1e-12) for a, b in pairs), default=0.0)


def measure(case: dict, sides: dict, probe, repeat: int) -> list[dict]:
    """Sets the case up on every side, compares their results, times its parts in turns. One row per part."""
    answers = {}
    for name, side in list(sides.items()):
        try:
            answers[name] = side.ask("setup", case=case)
        except RuntimeError as error:
            print(f"{case['op']} {case['label']}: {error}", file=sys.stderr)
    answers = {name: a for name, a in answers.items() if "unknown" not in a}
    difference = agreement(*(answers[n]["check"] for n in ("ours", "torch"))) if len(answers) == 2 else None
    if difference is not None and difference > 1e-3:
        print(
            f"{case['op']} {case['label']}: results differ by {difference:.1e}, the ratio means nothing",
            file=sys.stderr,
        )
    rows = []
    for part, work in case["parts"].items():
        ready = [n for n in answers if part in answers[n]["parts"]]
        times: dict[str, list[float]] = {n: [] for n in ready}
        alone: list[float] = []
        for round_number in range(repeat + 1):  # the first round warms up and is dropped
            for name in ready:
                seconds = sides[name].ask("run", part=part)["seconds"][0]
                times[name] += [seconds] * (round_number > 0)
            if case["op"] == "linear" and part == "forward" and case["rows"] > 1:
                seconds = probe.blis_linear(case["rows"], case["out"], case["width"])
                alone += (seconds or []) * (round_number > 0)
        rows.append(
            {
                "op": case["op"],
                "size": case["label"],
                "part": part,
                "flops": work[0],
                "bytes": work[1],
                "seconds": times,
                "blis_seconds": alone,
                "difference": difference,
            }
        )
    for name in answers:
        sides[name].ask("close")
    return rows


def line(row: dict, limits: dict) -> str:
    middle = {name: median(times) for name, times in row["seconds"].items() if times}
    ours, theirs, floor = (
        middle.get("ours"),
        middle.get("torch"),
        roofline_seconds((row["flops"], row["bytes"]), limits),
    )
    ratio = spread = ""
    if ours and theirs:
        ratios = [b / a for a, b in zip(row["seconds"]["ours"], row["seconds"]["torch"])]
        ratio, spread = f"{median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}"
        row["ratio"] = median(ratios)

    def show(value, text):
        return format(value, text) if value else ""

    return FORMAT.format(
        row["op"],
        row["size"],
        row["part"],
        show(ours and ours * 1e3, ".2f"),
        show(theirs and theirs * 1e3, ".2f"),
        ratio,
        spread,
        show(ours and row["flops"] / ours * 1e-9, ".0f"),
        show(theirs and row["flops"] / theirs * 1e-9, ".0f"),
        show(ours and floor and floor / ours, ".0%"),
        show(ours and row["blis_seconds"] and median(row["blis_seconds"]) / ours, ".0%"),
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peer-python",
        default=os.environ.get("HYBRIDATTN_PEER_PYTHON", sys.executable),
        help="the interpreter whose environment has torch (default: this one)",
    )
    parser.add_argument("--only", default="", help="only cases whose 'op size' contains this text")
    parser.add_argument("--full", action="store_true", help="also 8192 tokens and whole-model sizes")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=["both", "ours", "torch"], default="both")
    parser.add_argument("--json", type=Path, help="write all times, the machine and the versions here")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    machine.warn_if_busy()
    probe = machine.Probe(options.threads)
    limits = probe.limits()
    sides = {}
    if options.side != "torch":
        sides["ours"] = start("our_ops.py", threads=options.threads)
    if options.side != "ours":
        sides["torch"] = start("peer_ops.py", options.peer_python, threads=options.threads, extra_env=MALLOC)
    sides = {name: side for name, side in sides.items() if side}
    if not sides:
        return 1
    print(json.dumps(limits))
    print(FORMAT.format(*COLUMNS))
    rows = []
    for case in cases.table(options.full):
        if options.only in f"{case['op']} {case['label']}":
            for row in measure(case, sides, probe, options.repeat):
                print(line(row, limits), flush=True)
                rows.append(row)
    if options.json:
        versions = {name: side.versions for name, side in sides.items()}
        report = {
            "machine": machine.facts() | {"limits": limits},
            "versions": versions,
            "threads": options.threads,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "rows": rows,
        }
        machine.write_json(options.json, report)
    for side in sides.values():
        side.close()
    probe.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
