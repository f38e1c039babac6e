"""Limits of the system: address space. A refusal is a MemoryError, never the end of the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")

BEGIN = """
import resource
import numpy as np, tiny
from hybridattn import _core

HARD = resource.getrlimit(resource.RLIMIT_AS)[1]

def leave(mib):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (mib << 20), HARD))

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


def run(code, threads):
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "HYBRIDATTN_NUM_THREADS": str(threads)}
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
