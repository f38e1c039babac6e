"""What many calls of Tensor leave behind, in a process of its own: `python tests/leaks.py [leak]` prints it.

Every round makes the same calls. After the first rounds what Python and NumPy keep for themselves has settled
and a round grows by nothing; a leak of one object a call grows by CALLS in every round. "leak" plants one.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from contextlib import suppress

import numpy as np

from hybridattn import Tensor

CALLS, WARM, ROUNDS = 500, 3, 5


class Old:
    """A producer from before DLPack 1.0: no keyword arguments, an unversioned capsule."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device = array, device

    def __dlpack__(self) -> object:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class _Heap(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ["arena", "ord", "smbl", "hbl", "hblkhd", "usm", "fsm", "uord", "ford", "keep"]
    ]


def heap_bytes() -> int:
    """Bytes that malloc has given out, 0 where the C library does not say."""
    with suppress(AttributeError):
        ask = ctypes.CDLL(None).mallinfo2
        ask.restype = _Heap
        found = ask()
        return int(found.uord + found.hblkhd)
    return 0


def churn() -> None:
    """Every way in and out of a Tensor, and those that are refused."""
    array = np.zeros(64, np.float32)
    strided = array[::2]
    for _ in range(CALLS):
        tensor = Tensor((4, 4), "float16")
        np.from_dlpack(tensor), tensor.__dlpack__(), np.asarray(tensor, float), memoryview(tensor)
        Tensor.from_dlpack(Old(array)), Tensor.from_dlpack(array), Tensor.from_numpy(array)
        tensor.to("bfloat16").numpy()
        for make, wrong in ((Tensor.from_dlpack, strided), (Tensor.from_numpy, strided), (Tensor, -1)):
            with suppress(BufferError, ValueError):
                make(wrong)  # type: ignore[operator]


def main(leak: bool) -> dict[str, list[int]]:
    """{what: growth in each round}: references to Tensor, blocks of Python's allocator, bytes of malloc."""
    kept: list[Tensor] = []
    found: dict[str, list[int]] = {"references": [], "blocks": [], "bytes": []}
    before = (0, 0, 0)
    for number in range(WARM + ROUNDS):
        churn()
        if leak:
            kept += [Tensor(1) for _ in range(CALLS)]
        gc.collect()
        now = (sys.getrefcount(Tensor), sys.getallocatedblocks(), heap_bytes())
        if number >= WARM:
            for values, a, b in zip(found.values(), before, now, strict=True):
                values.append(b - a)
        before = now
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:] == ["leak"])))
