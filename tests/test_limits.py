"""Limits of the system: address space. A refusal is a MemoryError, never the end of the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")

BEGIN = """
import resource, time
import numpy as np, tiny
from hybridattn import _core

HARD = resource.getrlimit(resource.RLIMIT_AS)[1]

def leave(mib):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(mib * 2**20), HARD))

"""
MANY_MODELS = """
tiny.teacher(layers=2).hidden(np.zeros((1, 200), np.int32))
leave(600)
keep = []
for i in range(12):
    keep += [tiny.teacher(layers=2), tiny.teacher(layers=2).to_probe(tiny.MIXERS[0])]
    for model in keep[-2:]:
        model.hidden(np.zeros((1, 200), np.int32))
print("fine")
"""
REFUSED = """
model = tiny.teacher(layers=2, hidden_size=64, intermediate_size=128, max_position_embeddings=1 << 20)
few, refused = np.arange(300, dtype=np.int32)[None] % 250, 0
wanted = model.hidden(few)
time.sleep(0.2)  # new threads make their thread-local data, without which the C library ends the process
for left in (0, 1, 2, 4, 8, 16, 32, 64):
    leave(left)
    for length in (300, 3000, 30000, 300000):
        try:
            model.hidden(np.zeros((1, length), np.int32))
        except MemoryError:
            refused += 1
assert refused > 4, refused
resource.setrlimit(resource.RLIMIT_AS, (HARD, HARD))
assert (model.hidden(few) == wanted).all()
print("fine")
"""
# Each product is the first of its process: what an earlier one mapped would serve it.
PRODUCTS = """
import hashlib, os
from hybridattn._core import ops
x, w = (np.random.default_rng(n).standard_normal((n, 576)).astype(np.float32) for n in (400, 768))
products = [lambda x: ops.linear(x, w), lambda x: ops.stored_linear(x, w, dtype="bfloat16")]
ended = {0: 0, 3: 0}
for product in products:
    for rows in (6, 97, 400):
        wanted = x[:rows].astype(float) @ w.T.astype(float)
        bits = set()
        for kib in (0, 64, 256, 512, 640, 768, 1024, 2432, 2560, 4096, 8192, 16384, 65536):
            reading, writing = os.pipe()
            if os.fork() == 0:
                leave(kib / 1024)
                try:
                    y = product(x[:rows])
                except MemoryError:
                    os._exit(3)
                resource.setrlimit(resource.RLIMIT_AS, (HARD, HARD))
                os.write(writing, hashlib.sha256(y).digest())
                os._exit(0 if np.abs(y - wanted).max() < 0.5 else 1)
            os.close(writing)
            code = os.waitstatus_to_exitcode(os.wait()[1])
            assert code in ended, (rows, kib, code)
            ended[code] += 1
            if code == 0:
                bits.add(os.read(reading, 32))
            os.close(reading)
        assert len(bits) == 1 or rows > 96 and (product is products[1] or os.environ["HYBRIDATTN_ISA"]), rows
assert min(ended.values()) > 4, ended
print("fine")
"""


def run(code, threads, **more):
    own = {"PYTHONPATH": str(Path(__file__).parent), "HYBRIDATTN_NUM_THREADS": str(threads)}
    env = os.environ | own | more
    child = subprocess.run(
        [sys.executable, "-c", BEGIN + code], env=env, capture_output=True, text=True, timeout=300
    )
    assert (child.returncode, child.stdout) == (0, "fine\n"), child.stderr[-600:]


@pytest.mark.parametrize("threads", [1, 4])
def test_many_models_fit_in_little_address_space(threads):
    run(MANY_MODELS, threads)


@pytest.mark.parametrize("threads", [1, 4])
def test_no_address_space_left_is_a_memory_error(threads):
    run(REFUSED, threads)


@pytest.mark.parametrize("isa", ["", "generic"])
def test_a_product_without_memory_is_right_or_refused(isa):
    """Neither a stack that cannot grow nor a library that cannot allocate ends the process.

    With one thread: glibc itself ends a process without memory for the thread-local data of a new one.
    """
    run(PRODUCTS, 1, HYBRIDATTN_ISA=isa)
