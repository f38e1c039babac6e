"""Real words and an aligned tiny model of each mixer, for the tests in this folder."""

import pytest
import tiny

from hybridattn import radlads

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data():
    return tiny.text_data(seq_len=48)


@pytest.fixture(scope="module", params=tiny.MIXERS, ids=lambda mixer: mixer["kind"])
def aligned(request, data):
    lr = {"window_linear": 3e-2, "gated_delta": 3e-3}[request.param["kind"]]
    return radlads.align(tiny.teacher(), request.param, data, steps=40, batch_size=4, lr=lr, progress=False)
