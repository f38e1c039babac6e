"""Ours beside every installed peer, row by row in turns: PyTorch, transformers, llama.cpp.

    python benchmarks/compare.py --peer-python PATH --llama-python PATH [--rows TEXT] [--quick] [--json FILE]

Printed for every side of a row: the median time of its best way, tokens per second, its spread (largest over
smallest time), its share of the roofline; and for a peer the median and the range of the ratios theirs / ours
by round (above 1: we are faster). difference.py compares two of the files that --json writes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import machine
import rows as table
from protocol import HERE, MALLOC, SideMissing, median
from protocol import Side as Process

FORMAT = "{:28s} {:22s} {:>10s} {:>9s} {:>7s} {:>9s} {:>6s} {:>11s}  {}"
BASE = "base"  # the other commit's weights, in the folder of ours
COLUMNS = ("row", "side", "ms", "tok/s", "spread", "roofline", "ratio", "range", "way")


class Sides:
    """Running processes by script and environment; what cannot start is missing once and for all."""

    def __init__(self, options: argparse.Namespace):
        self.python = {"ours": sys.executable, "torch": options.peer_python, "llama": options.llama_python}
        self.base = options.base
        self.python["base"] = None if options.base is None else sys.executable
        self.threads, self.running, self.versions = options.threads, {}, {}

    def of(self, side: table.Side, label: str, times: int = 1) -> Process | None:
        """One process for each script, label and number of threads, so that several can hold a case at once.
        `base` is ours from another folder.
        """
        key, python = (side.script, label, times), self.python[side.environment]
        if key not in self.running:
            try:
                if python is None:
                    raise SideMissing(f"{side.script}: no --{side.environment}-python given")
                env = MALLOC if side.environment == "torch" else None
                script = side.script
                if side.environment == "base":  # its package, and the script that knows it
                    env = {"HYBRIDATTN_BENCH_ROOT": str(self.base)}
                    script = str(self.base / "benchmarks" / script)
                self.running[key] = Process(script, python, times * self.threads, env)
                self.versions[label] = self.running[key].versions
            except (SideMissing, FileNotFoundError) as error:
                print(f"skipped: {error}", file=sys.stderr)
                self.running[key] = None
        return self.running[key]

    def lost(self, process: Process) -> None:
        """A process that died stays missing."""
        self.running = {key: None if other is process else other for key, other in self.running.items()}

    def close(self) -> None:
        """Ends the processes; missing ones stay missing."""
        for key, process in list(self.running.items()):
            if process is not None:
                process.close()
                del self.running[key]


@contextlib.contextmanager
def other_work(busy: bool) -> Iterator[None]:
    """One process at 100% of a core, or nothing."""
    if not busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def measure(row: table.Row, sides: Sides, repeat: int) -> dict:
    """{label: {way: seconds of each round}, peak and check}; the round before the first warms up."""
    ready, found = {}, {}
    for label, side in row.sides.items():
        process = sides.of(side, label, row.threads)
        if process is None:
            continue
        try:
            answer = process.ask("setup", case=side.case)
        except RuntimeError as error:
            print(f"{row.name}, {label}: {error}", file=sys.stderr)
            continue
        if "unknown" not in answer:
            ready[label] = process
            ways = {part: [] for part in answer["parts"] if part in (side.parts or answer["parts"])}
            found[label] = {"ways": ways, "check": answer["check"]}
    with other_work(row.busy):
        for number in range(repeat + 1):
            for label, process in list(ready.items()):
                try:
                    for part, seconds in found[label]["ways"].items():
                        answer = process.ask("run", part=part)
                        seconds += answer["seconds"] * (number > 0)
                        found[label]["peak_bytes"] = answer["peak"]
                except SideMissing as error:  # the other sides go on
                    print(f"{row.name}, {label}: {error}", file=sys.stderr)
                    del ready[label], found[label]
                    sides.lost(process)
    for process in ready.values():
        process.ask("close")
    return found


def summarize(row: table.Row, found: dict, limits: dict) -> dict:
    """The row's record: for each side its best way, and the ratio to its rival of ours."""
    best = {
        label: min(f["ways"], key=lambda way: median(f["ways"][way]))
        for label, f in found.items()
        if f["ways"]
    }
    times = {label: found[label]["ways"][way] for label, way in best.items()}
    record = {
        "row": row.name,
        "tokens": row.tokens,
        "flops": row.flops,
        "bytes": row.bytes,
        "keys": row.keys,
        "sides": {},
    }
    for label, seconds in times.items():
        middle = median(seconds)
        entry = found[label] | {
            "best": best[label],
            "seconds": middle,
            "spread": max(seconds) / min(seconds),
            "roofline": table.share_of_roofline(row, label, best[label], middle, limits),
        }
        rival = row.sides[label].rival
        if row.sides[label].environment != "ours" and rival in times:
            ratios = [theirs / ours for theirs, ours in zip(seconds, times[rival])]
            entry["ratio"] = {"to": rival, "median": median(ratios), "min": min(ratios), "max": max(ratios)}
        record["sides"][label] = entry
    return record


def lines(record: dict) -> list[str]:
    out = []
    for label, side in record["sides"].items():
        ratio = side.get("ratio")
        out.append(
            FORMAT.format(
                "" if out else record["row"],
                label,
                f"{side['seconds'] * 1e3:.2f}",
                f"{record['tokens'] / side['seconds']:.1f}" if record["tokens"] else "",
                f"{side['spread']:.2f}",
                f"{side['roofline']:.0%}" if side["roofline"] else "",
                f"{ratio['median']:.2f}" if ratio else "",
                f"{ratio['min']:.2f}-{ratio['max']:.2f}" if ratio else "",
                side["best"] if len(side["ways"]) > 1 else "",
            )
        )
    return out


def disagreements(row: table.Row, record: dict) -> list[str]:
    """What sides in float32 or bfloat16 find against our first; checks of 8-bit and F16 weights differ by
    nature.
    """
    exact = {n: s["check"] for n, s in record["sides"].items() if not n.endswith(("q8_0", "Q8_0", "F16"))}
    first = next(iter(exact), None)
    return [
        f"{row.name}: {first} gives {a:.6g} and {label} {b:.6g}; the ratio means nothing"
        for label, check in exact.items()
        for a, b in zip(exact[first], check)
        if abs(a - b) > (2e-2 if "bfloat16" in label or "autocast" in label else 5e-3) * abs(a) + 1e-9
    ]


def named(row: table.Row, text: str) -> bool:
    return row.name == text[1:] if text.startswith("=") else text in row.name


def prepare(options: argparse.Namespace) -> tuple[Path, Path]:
    """Folders of weights, and of GGUF files, made when they are not there."""
    folder = options.folder / Path(options.model).stem
    gguf = folder / "gguf"
    for top, to in ((HERE.parent, folder), (options.base, folder / BASE)):
        if top is None or all((to / n / "config.json").is_file() for n in ("teacher", "probe", "hybrid")):
            continue
        script = top / "benchmarks" / "our_steps.py"
        command = [sys.executable, script, "--prepare", to, options.model, str(table.KEPT)]
        subprocess.run(command, check=True, env=dict(os.environ, PYTHONPATH=str(top)))
    if options.llama_python and not all((gguf / f"{n}.gguf").is_file() for n in table.LLAMA):
        subprocess.run([sys.executable, HERE / "make_gguf.py", folder / "teacher", gguf], check=True)
    return folder, gguf


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="a name, folder or .gguf file")
    parser.add_argument(
        "--peer-python",
        default=os.environ.get("HYBRIDATTN_PEER_PYTHON"),
        help="the interpreter whose environment has torch and transformers",
    )
    parser.add_argument(
        "--llama-python",
        default=os.environ.get("HYBRIDATTN_LLAMA_PYTHON"),
        help="the interpreter whose environment has llama-cpp-python",
    )
    parser.add_argument(
        "--rows",
        default="",
        help="only rows whose name contains one of these texts, by comma; =NAME: that row alone",
    )
    parser.add_argument(
        "--without", action="append", default=[], help="no sides whose name contains this; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="print the rows' names and stop")
    parser.add_argument(
        "--quick", action="store_true", help="one round on short sequences: does every row work?"
    )
    parser.add_argument(
        "--base", type=Path, help="the built folder of another commit: one more side in steps and prefill"
    )
    parser.add_argument("--micro-batch", type=int, default=1, help="ours in steps 1 and 2")
    parser.add_argument(
        "--peer-micro", type=int, nargs="+", default=[4], help="PyTorch's in steps 1 and 2, one side for each"
    )
    parser.add_argument("--repeat", type=int, help="rounds (default 5, with --quick 1)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "bench")
    parser.add_argument("--json", type=Path, help="write all times, the machine and the versions here")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    repeat = options.repeat or (1 if options.quick else 5)
    folder, gguf = (Path(), Path()) if options.list else prepare(options)
    groups = [
        table.step_rows(folder, options.quick, options.micro_batch, options.peer_micro),
        table.op_rows(options.quick),
        table.inference_rows(folder, gguf, options.quick),
    ]
    groups.append(table.crowded([row for group in groups for row in group]))
    if options.base is not None:
        table.add_base(groups, folder, folder / BASE)
    wanted = options.rows.split(",")
    groups = [[row for row in group if any(named(row, text) for text in wanted)] for group in groups]
    for row in (row for group in groups for row in group):
        row.sides = {n: s for n, s in row.sides.items() if not any(text in n for text in options.without)}
    if options.list:
        print("\n".join(row.name for group in groups for row in group))
        return 0
    if not any(groups):
        print(f"--rows is {options.rows!r}, which is in no row's name; --list prints them", file=sys.stderr)
        return 2
    machine.warn_if_busy()
    probe, sides, records = machine.Probe(options.threads), Sides(options), []
    limits = probe.limits()
    probe.close()
    settings = {n: str(v) if isinstance(v, Path) else v for n, v in vars(options).items()}
    report = {
        "machine": machine.facts() | {"limits": limits},
        "options": settings | {"repeat": repeat},
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    print(json.dumps(limits))
    print(FORMAT.format(*COLUMNS))
    for group in groups:
        for row in group:
            record = summarize(row, measure(row, sides, repeat), limits)
            print("\n".join(lines(record)), flush=True)
            for text in disagreements(row, record):
                print(text, file=sys.stderr)
            records.append(record)
            if options.json:  # after every row: a run that is stopped leaves what it has measured
                machine.write_json(options.json, report | {"versions": sides.versions, "rows": records})
        sides.close()
    return 0 if any(record["sides"] for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
