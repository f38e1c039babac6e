"""Fuzz every reader and every call: `python tests/fuzz/run.py [--seconds S | --inputs N] [NAME ...]`.

    --seed N         where the input starts from
    --figures FILE   counts by reader in a JSON file, to which later calls add: a job that can be stopped
    --least N        of every reader, before the others have more (with --inputs)
    --coverage       lines of the package that each reader reached (needs coverage.py; slow)
    --again NAME BLOCK INPUT   one input once more, with its files left in a folder

A fault is an exception that is none of this package's, a crash, memory beyond 2 GiB, or an input that takes
longer than ten seconds. Exit code 1 where there was one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzz.driver import Driver, Figures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--least", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--again", nargs=3, metavar=("NAME", "BLOCK", "INPUT"))
    given = parser.parse_args()
    figures = Figures.of(given.figures)
    with Driver(given.seed, given.names, figures) as driver:
        if given.again:
            name, block, number = given.again
            print(driver.again(name, int(block), int(number)))
            return 0
        driver.corpus()
        if given.coverage:
            from fuzz.covered import covered

            print(covered(driver, given.seconds or 60.0))
        else:
            driver.run(given.seconds or (60.0 if given.inputs is None else None), given.inputs, given.least)
    print(figures.table())
    return 1 if any(each["faults"] for each in figures.counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
