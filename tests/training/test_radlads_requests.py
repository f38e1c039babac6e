"""Training that is asked for badly, or that fails, is refused by name."""

import numpy as np
import pytest
import tiny

from hybridattn import radlads
from hybridattn._core import Distiller
from hybridattn.errors import ConfigError, HybridAttnError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_training_options_are_checked(data):
    for options, message in (
        ({"betas": (0.9, 1.0)}, "betas is"),
        ({"micro_batch": -1}, "micro_batch is -1"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"warmup_steps": 3}, "warmup_steps is 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            radlads.align(tiny.teacher(), tiny.MIXERS[0], data, 2, 2, progress=False, **options)
    with pytest.raises(TypeError, match="batchsize"):
        radlads.align(tiny.teacher(), tiny.MIXERS[0], data, 2, 2, batchsize=3)


def test_another_vocabulary_is_refused(data):
    other = tiny.teacher(vocab_size=300).to_probe(tiny.MIXERS[0]).to_hybrid([0])
    with pytest.raises(ConfigError, match="vocab_size of the hybrid is 300; allowed: 257"):
        radlads.distill(other, tiny.teacher(), data, 1, 1)


def test_a_loss_that_is_nan_ends_the_run(data):
    hybrid = tiny.teacher().to_probe(tiny.MIXERS[0]).to_hybrid([1])
    hybrid.arrays()["embed.weight"][:] = np.nan
    with pytest.raises(HybridAttnError, match="finetune: the loss at step 1 is not finite"):
        radlads.finetune(hybrid, data, steps=2, batch_size=1, progress=False)


def test_progress_shows_loss_and_speed(data, capsys):
    radlads.align(tiny.teacher(), tiny.MIXERS[0], data, steps=3, batch_size=2)
    shown = capsys.readouterr().err
    assert "align" in shown and "loss=" in shown and "tok/s" in shown


def test_distiller_trains_what_its_stage_says():
    probe = tiny.teacher().to_probe(tiny.MIXERS[0])
    mixers = {name for name, _, group in probe.parameter_info() if group == "mixer"}
    aligns = set(Distiller(probe, None, stage="align").trainable())
    assert aligns < mixers and all(".window_linear." in name for name in aligns)
    assert all(
        name.startswith("layers.1.") for name in Distiller(probe, None, stage="align", layers=[1]).trainable()
    )
    hybrid = probe.to_hybrid([0])
    assert Distiller(hybrid, tiny.teacher(), stage="distill").trainable() == list(hybrid.arrays())
