"""Fuzz every reader: `python tests/fuzz/run.py SECONDS [SEED] [TARGET ...]`; prints inputs and faults.

A fault is an exception that is none of this package's, memory beyond 2 GB, or an input that takes longer than
ten seconds. The seed and the number of the input make it again. Exit code 1 where a fault was found.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzz.readers import damage, odd_call, seed

SLOW_SECONDS, MOST_BYTES = 10.0, 2 << 30


def fuzz(seconds: float, start: int = 0, only: list[str] | None = None) -> dict[str, tuple[int, list[str]]]:
    """{target: (inputs tried, faults)}; every target gets an equal share of the seconds."""
    warnings.simplefilter("ignore")
    found: dict[str, tuple[int, list[str]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        targets = seed(folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        names = [name for name in [*targets, "arguments"] if not only or name in only]
        for name in names:
            until, count, faults = time.monotonic() + seconds / len(names), 0, []
            files = (
                {}
                if name == "arguments"
                else {f: (folder / name / f).read_bytes() for f in targets[name].files}
            )
            while time.monotonic() < until:
                rng = random.Random(f"{start} {name} {count}")
                began = time.monotonic()
                try:
                    if name == "arguments":
                        odd_call(rng)
                    else:
                        file = rng.choice(sorted(files))
                        damage(folder / name / file, files[file], rng)
                        try:
                            targets[name].read(folder / name)
                        except targets[name].answers:
                            pass
                        (folder / name / file).write_bytes(files[file])
                except Exception as error:
                    place = [
                        f for f in traceback.extract_tb(error.__traceback__) if "hybridattn" in f.filename
                    ][-1:]
                    where = f"{Path(place[0].filename).name}:{place[0].lineno}" if place else "?"
                    faults.append(f"input {count}: {type(error).__name__}: {str(error)[:80]} ({where})")
                    if name != "arguments":
                        for file, whole in files.items():
                            (folder / name / file).write_bytes(whole)
                if time.monotonic() - began > SLOW_SECONDS:
                    faults.append(f"input {count}: {time.monotonic() - began:.0f} s")
                grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
                if grown > MOST_BYTES:
                    faults.append(f"input {count}: memory grew by {grown >> 20} MiB")
                    before += grown
                count += 1
            found[name] = (count, faults)
    return found


def main() -> int:
    seconds, start = float(sys.argv[1]) if sys.argv[1:] else 60.0, int(sys.argv[2]) if sys.argv[2:] else 0
    found = fuzz(seconds, start, sys.argv[3:])
    print(f"{'reader':12}  {'inputs':>8}  {'faults':>6}")
    for name, (count, faults) in found.items():
        print(f"{name:12}  {count:8}  {len(faults):6}")
        for line in dict.fromkeys(line.partition(": ")[2] for line in faults[:200]):
            print(f"    {line}")
    return 1 if any(faults for _, faults in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
