"""A probe, texts and the KL of every set of layers, for the tests of selectors."""

import itertools

import numpy as np
import pytest
import tiny
from scored import LAYERS

from hybridattn import KLScorer, radlads


@pytest.fixture(scope="module")
def probe():
    teacher = tiny.teacher(seed=3, layers=LAYERS)
    made = radlads.align(teacher, tiny.MIXERS[0], tiny.text_data(32), 20, 2, progress=False)
    made.gates[:] = 0.25  # no selector may depend on them, or change them
    return made


@pytest.fixture(scope="module")
def data():
    return tiny.text_data(32).take(slice(0, 6))


@pytest.fixture(scope="module")
def train():
    return tiny.text_data(32).take(slice(10, 40))


@pytest.fixture(scope="module")
def set_kl(probe, data):
    """KL of every set of softmax layers: the ground truth."""
    scorer = KLScorer(probe)

    def kl(layers):
        gates = np.zeros(LAYERS, np.float32)
        gates[list(layers)] = 1
        return float(scorer.kl(data.tokens, data.windows, gates).mean())

    sets = [s for k in range(LAYERS + 1) for s in itertools.combinations(range(LAYERS), k)]
    return {s: kl(s) for s in sets}


@pytest.fixture(autouse=True)
def untouched(probe):
    """Weights and gates, bit for bit, around every test."""
    before, gates = tiny.weights(probe), np.array(probe.gates)
    yield
    tiny.assert_same_weights(before, tiny.weights(probe))
    assert np.array(probe.gates).tobytes() == gates.tobytes()
