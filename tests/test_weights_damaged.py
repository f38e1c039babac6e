"""No damaged weight file gets further than its header."""

import struct

import numpy as np
import pytest
from damaged_files import refuses_every_prefix, with_changed_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weight_files import CONFIG, empty_params, entry, random_tensors, raw

from hybridattn.errors import WeightError
from hybridattn.formats.loading import load_into
from hybridattn.formats.safetensors import open_weights, save_safetensors


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model.safetensors"
    save_safetensors(path, random_tensors(), {"format": "pt"})
    return path.read_bytes()


def test_every_prefix_is_refused(tmp_path, whole):
    refuses_every_prefix(tmp_path / "model.safetensors", whole, lambda path: open_weights(path).close())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_bytes_never_crash(tmp_path, whole, data):
    """A changed header is refused with WeightError or still describes the file to the byte."""
    header_end = 8 + struct.unpack("<Q", whole[:8])[0]
    path = tmp_path / "model.safetensors"
    path.write_bytes(with_changed_bytes(data, whole, header_end))
    try:
        with open_weights(path) as source:
            load_into(empty_params(), source, CONFIG)
    except WeightError as error:
        assert str(path) in str(error)


HUGE = 1 << 62


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (raw({}, length=1 << 40), "header length is 1099511627776"),
        (raw({}, length=(1 << 64) - 1), "header length"),
        (raw(b"\xff\xfe{}"), "not JSON"),
        (raw(b"{"), "not JSON"),
        (raw(b"[" * 100_000), "not JSON"),
        (raw(b"[]"), "not an object"),
        (raw(b'{"a": 1, "a": 2}'), "twice"),
        (raw({"a": 3}), "'a'"),
        (raw({"a": {"dtype": "F32", "shape": [2]}}), "lacks"),
        (raw({"a": entry("F31")}, bytes(8)), "dtype 'F31'"),
        (raw({"a": entry(shape=[-2])}, bytes(8)), "[-2]"),
        (raw({"a": entry(shape=[2.0])}, bytes(8)), "[2.0]"),
        (raw({"a": entry(shape=[True, 2])}, bytes(8)), "[True, 2]"),
        (raw({"a": entry(shape=[HUGE] * 3)}, bytes(8)), "spans 8 bytes"),
        (raw({"a": entry(offsets=(0, 16))}, bytes(8)), "[0, 16]"),
        (raw({"a": entry(offsets=(8, 0))}, bytes(8)), "[8, 0]"),
        (raw({"a": entry(offsets=(0, 8, 8))}, bytes(8)), "[0, 8, 8]"),
        (raw({"a": entry(shape=[3])}, bytes(8)), "spans 8 bytes, not 12"),
        (raw({"a": entry(), "b": entry()}, bytes(8)), "starts at byte 0 of the data, not at 8"),
        (raw({"a": entry(offsets=(8, 16))}, bytes(16)), "starts at byte 8 of the data, not at 0"),
        (raw({"a": entry()}, bytes(12)), "end at byte 8 of the data, which has 12"),
    ],
)
def test_lying_headers(tmp_path, content, says):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightError) as caught:
        open_weights(tmp_path)
    assert says in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_dtype_that_is_no_weight(tmp_path):
    save_safetensors(tmp_path / "model.safetensors", {"a": np.ones(2, np.int64)})
    with (
        open_weights(tmp_path) as source,
        pytest.raises(WeightError, match="dtype I64; allowed: F32, F16, BF16"),
    ):
        source.read_into("a", np.empty(2, np.float32))
