"""What changed between two runs of `compare.py`: `python benchmarks/difference.py OLD.json NEW.json`.

Absolute times of two runs differ by what else the machine did; the last column, the change of a peer's ratio
to ours, does not. A time is marked * when it lies outside all of the other run's rounds, both ways.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

FORMAT = "{:28s} {:22s} {:>10s} {:>10s} {:>8s} {:1s} {:>9s} {:>9s} {:>8s}"
COLUMNS = ("row", "side", "old ms", "new ms", "new/old", "", "old ratio", "new ratio", "change")


def by_row(path: Path) -> dict:
    report = json.loads(path.read_text())
    return {(r["row"], label): side for r in report["rows"] for label, side in r["sides"].items()}


def apart(old: dict, new: dict) -> bool:
    """No round of one run took as long as any of the other."""
    a, b = (side["ways"][side["best"]] for side in (old, new))
    return max(a) < min(b) or max(b) < min(a)


def lines(old: dict, new: dict) -> list[str]:
    out, last = [], None
    for (row, label), now in new.items():
        before = old.get((row, label))
        if before is None:
            continue
        ratios = [side.get("ratio", {}).get("median") for side in (before, now)]
        both = None not in ratios
        out.append(
            FORMAT.format(
                row if row != last else "",
                label,
                f"{before['seconds'] * 1e3:.2f}",
                f"{now['seconds'] * 1e3:.2f}",
                f"{now['seconds'] / before['seconds']:.2f}",
                "*" if apart(before, now) else "",
                f"{ratios[0]:.2f}" if both else "",
                f"{ratios[1]:.2f}" if both else "",
                f"{ratios[1] / ratios[0]:.2f}" if both else "",
            )
        )
        last = row
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    old, new = by_row(options.old), by_row(options.new)
    print(FORMAT.format(*COLUMNS))
    print("\n".join(lines(old, new)))
    for name, one, other in (("old", old, new), ("new", new, old)):
        missing = [f"{row}, {label}" for row, label in one if (row, label) not in other]
        if missing:
            print(f"only in {name}: {'; '.join(missing)}")
    return 0 if set(old) & set(new) else 1


if __name__ == "__main__":
    sys.exit(main())
