"""A short stretch of the fuzzers and of the crash test; `make fuzz` and `make crash` run long ones."""

from crash.run import crash
from fuzz.run import fuzz


def test_no_damaged_input_ends_in_a_foreign_exception():
    found = fuzz(seconds=20.0, start=1)
    assert {name: faults for name, (_, faults) in found.items() if faults} == {}
    assert all(count > 3 for count, _ in found.values())  # each was tried


def test_stopped_runs_end_as_straight_ones():
    assert crash(moments=4, seed=1).faults == []
