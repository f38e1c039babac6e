"""Damage that every reader of weight files is given."""

import os

import pytest
from hypothesis import strategies as st

from hybridattn.errors import WeightError


def refuses_every_prefix(path, content, read):
    """`read(path)` takes the whole file and refuses each shorter one in one line that names the file."""
    path.write_bytes(content)
    read(path)
    for size in reversed(range(len(content))):
        os.truncate(path, size)
        with pytest.raises(WeightError) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def with_changed_bytes(data, content, end):
    """`content` with up to three bytes before `end` that hypothesis chose."""
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    return damaged
