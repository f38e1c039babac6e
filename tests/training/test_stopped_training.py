"""Ctrl-C during training without a checkpoint: nothing that was trained is lost."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from test_checkpoint import interrupt

import hybridattn as ha
from hybridattn.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {"steps": 8, "batch_size": 2, "progress": False}


@pytest.fixture(scope="module")
def data():
    return tiny.text_data(seq_len=24)


def hybrid():
    return tiny.teacher().to_probe(tiny.MIXERS[0]).to_hybrid([1])


def stages(data):
    yield lambda **more: ha.align(tiny.teacher(), tiny.MIXERS[0], data, **OPTIONS, **more)
    yield lambda **more: ha.distill(hybrid(), tiny.teacher(), data, **OPTIONS, **more)
    yield lambda **more: ha.finetune(hybrid(), data, **OPTIONS, **more)


@pytest.mark.parametrize("number", range(3), ids=["align", "distill", "finetune"])
def test_what_there_is_can_be_reached(monkeypatch, data, number):
    stage = list(stages(data))[number]
    with monkeypatch.context() as patch:
        interrupt(patch, 5)
        with pytest.raises(KeyboardInterrupt, match=r"stopped after \d of 8 steps") as caught:
            stage()
    kept = ha.radlads.interrupted()
    assert kept is caught.value and kept.result.interrupted and kept.model.train_result is kept.result
    assert kept.result.steps == 5 and np.isfinite(kept.result.losses).all()
    assert "stopped early" in repr(kept.result)
    whole = stage()
    assert ha.radlads.interrupted() is None, "training that begins anew lets go of it"
    result = whole.train_result if number == 0 else whole
    assert np.array_equal(kept.result.losses, result.losses[:5]) and not result.interrupted


def test_returned_as_if_it_were_the_end(monkeypatch, data):
    stops = list(stages(data))
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        probe = stops[0](interrupt="return")
    assert probe.train_result.steps == 3 and probe.train_result.interrupted
    short = ha.align(tiny.teacher(), tiny.MIXERS[0], data, 8, 2, progress=False)
    assert not np.array_equal(probe.logits(data.tokens[None, :9]), 0 * probe.logits(data.tokens[None, :9]))
    assert np.array_equal(probe.train_result.losses, short.train_result.losses[:3])
    student = hybrid()
    before = tiny.weights(student)
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        result = ha.distill(student, tiny.teacher(), data, interrupt="return", **OPTIONS)
    assert result.steps == 3 and student.train_result is result
    assert any(not np.array_equal(before[name], array) for name, array in student.arrays().items())
    with pytest.raises(ConfigError, match="interrupt is 'ignore'; allowed: raise, return"):
        stops[0](interrupt="ignore")


def test_layer_by_layer(monkeypatch, data):
    """Layers before the one that was stopped have all their losses, those after it none."""
    with monkeypatch.context() as patch:
        interrupt(patch, 11)
        made = ha.align(tiny.teacher(), tiny.MIXERS[0], data, layerwise=True, interrupt="return", **OPTIONS)
    losses = made.train_result.losses
    assert np.isfinite(losses[:, 0]).all() and np.isfinite(losses[:3, 1]).all()
    assert np.isnan(losses[3:, 1]).all() and np.isnan(losses[:, 2]).all()
    assert made.train_result._repr_html_()
