"""A short stretch of the fuzzers and of the crash test; `make fuzz` and `make crash` run long ones."""

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
