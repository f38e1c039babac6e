"""A short stretch of the fuzzers and of the crash test; `make fuzz` and `make crash` run long ones."""

import json
from pathlib import Path

from crash.run import crash
from fuzz.driver import Driver, Figures


def test_no_damaged_input_ends_in_a_foreign_exception():
    figures = Figures()
    with Driver(1, [], figures) as driver:
        driver.corpus()
        driver.run(seconds=20.0, inputs=None)
    assert {name: each["faults"] for name, each in figures.counts.items() if each["faults"]} == {}
    assert all(each["inputs"] > 100 for each in figures.counts.values())  # each was tried
    refused = sum(each["refused"] for each in figures.counts.values()) / figures.inputs
    assert 0.3 < refused < 0.95  # damage is seen, and some of it is deep inside


def test_stopped_runs_end_as_straight_ones():
    assert crash(moments=4, seed=1).faults == []


def test_the_page_has_the_figures_of_the_last_long_runs():
    root = Path(__file__).resolve().parent.parent
    page = (root / "docs" / "trust.md").read_text(encoding="utf-8")
    fuzz, stops = (
        json.loads((root / "benchmarks" / "results" / f"{name}.json").read_text())
        for name in ("fuzz", "crash")
    )
    for name, each in fuzz.items():
        assert f"| {name} | {each['inputs']:,} | {each['refused'] / each['inputs']:.0%} |" in page
    faults = sum(len(each["faults"]) for each in fuzz.values())
    assert f"**{sum(each['inputs'] for each in fuzz.values()):,} damaged inputs**, {faults} faults" in page
    assert f"**{sum(stops['stops'].values())} stops of a whole job**" in page
    assert f"in {stops['runs']} jobs: {len(stops['faults'])} ended" in page
