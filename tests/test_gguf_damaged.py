"""Damaged and lying GGUF files get no further than their header."""

import struct

import numpy as np
import pytest
from damaged_files import refuses_every_prefix, with_changed_bytes
from gguf_files import read_all, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridattn.errors import ConfigError, WeightError
from hybridattn.formats.gguf import open_gguf


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file of one small tensor and a list of texts, and the byte where its header ends."""
    path = tmp_path_factory.mktemp("small") / "m.gguf"
    write(path, {"token_embd.weight": np.ones((12, 8), np.float32)}, **{"tokenizer.ggml.tokens": ["a", "bc"]})
    content = path.read_bytes()
    return content, content.index(b"token_embd.weight") + 17 + 4 + 16 + 4 + 8


def test_every_prefix_is_refused(tmp_path, small):
    refuses_every_prefix(tmp_path / "m.gguf", small[0], lambda path: open_gguf(path).source.close())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_bytes_never_crash(tmp_path, small, data):
    content, header_end = small
    path = tmp_path / "m.gguf"
    path.write_bytes(with_changed_bytes(data, content, header_end))
    try:
        with open_gguf(path).source as source:
            read_all(source)
    except (WeightError, ConfigError) as error:
        assert str(path) in str(error)


def key(name, kind, value):
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def header(tensors=0, keys=0, version=3, rest=b""):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def tensor(name=b"token_embd.weight", dims=(8, 4), kind=0, offset=0):
    packed = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return struct.pack("<Q", len(name)) + name + packed + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "needs 4 bytes"),
        (b"GGML" + bytes(60), "does not start with GGUF"),
        (header(version=1), "version is 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "little-endian"),
        (header(keys=1 << 60), "list of 1152921504606846976 keys"),
        (header(tensors=1 << 60), "list of 1152921504606846976 tensors"),
        (header(keys=1, rest=struct.pack("<Q", 1 << 63) + bytes(16)), "a metadata key"),
        (header(keys=1, rest=key(b"a", 13, bytes(8))), "value type 13"),
        (
            header(keys=1, rest=key(b"a", 9, struct.pack("<IQ", 0, 1 << 62))),
            "needs 4611686018427387904 bytes",
        ),
        (header(keys=1, rest=key(b"a", 9, struct.pack("<IQ", 8, 1 << 60))), "needs"),
        (header(keys=1, rest=key(b"a", 9, struct.pack("<IQ", 9, 1))), "list with the value type 9"),
        (header(keys=1, rest=key(b"a", 8, struct.pack("<Q", 2) + b"\xff\xff")), "not UTF-8"),
        (header(keys=2, rest=key(b"a", 4, bytes(4)) * 2), "'a' occurs twice"),
        (
            header(1, 1, rest=key(b"general.alignment", 4, struct.pack("<I", 24)) + tensor()),
            "general.alignment is 24",
        ),
        (header(1, rest=tensor(dims=()) + bytes(64)), "0 dimensions"),
        (header(1, rest=tensor(dims=(1,) * 5) + bytes(64)), "5 dimensions"),
        (header(1, rest=tensor(dims=(0, 4)) + bytes(64)), "at least 1"),
        (header(1, rest=tensor(kind=99) + bytes(256)), "type number 99"),
        (header(1, rest=tensor(dims=(33, 4), kind=3) + bytes(256)), "not a multiple of its block, 32"),
        (header(1, rest=tensor(offset=8) + bytes(256)), "not a multiple of 32"),
        (header(1, rest=tensor(offset=1 << 63) + bytes(256)), "ends at byte"),
        (header(1, rest=tensor(dims=(1 << 40, 1 << 40)) + bytes(256)), "ends at byte"),
        (header(2, rest=tensor() * 2 + bytes(512)), "occurs twice"),
        (header(2, rest=tensor() + tensor(b"b") + bytes(512)), "overlap"),
    ],
)
def test_lying_headers(tmp_path, content, says):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(WeightError) as caught:
        open_gguf(path)
    assert says in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
