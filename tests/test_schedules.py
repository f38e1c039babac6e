"""Learning-rate schedules: values at the points that define them."""

import numpy as np
import pytest

from hybridattn import schedules
from hybridattn.errors import ConfigError


def test_constant():
    s = schedules.constant(4, 1e-3)
    assert s.dtype == np.float32 and s.tolist() == [np.float32(1e-3)] * 4


def test_cosine_ends_and_middle():
    s = schedules.cosine(101, 1e-3, 1e-5)
    assert s[0] == np.float32(1e-3) and s[-1] == np.float32(1e-5)
    assert s[50] == pytest.approx((1e-3 + 1e-5) / 2, rel=1e-6)
    assert (np.diff(s) <= 0).all()


def test_cosine_of_one_step_starts_high():
    assert schedules.cosine(1, 1e-3, 1e-5).tolist() == [np.float32(1e-3)]


def test_stable_cosine_stable_anneals_between_its_fractions():
    s = schedules.stable_cosine_stable(1000, 1e-4, 1e-5)
    assert (s[:831] == np.float32(1e-4)).all()
    assert (s[875:] == np.float32(1e-5)).all()
    assert (np.diff(s[830:876]) < 0).all()


def test_warmup_ramps_and_leaves_the_rest():
    s = schedules.warmup(schedules.constant(6, 1.0), 4)
    assert s.tolist() == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert schedules.warmup(s, 0).tolist() == s.tolist()


def test_combine():
    both = schedules.combine(schedules.constant(3, 1e-4), schedules.constant(3, 1e-5))
    assert both.shape == (3, 2) and both.dtype == np.float32 and both.flags.c_contiguous
    assert both[0].tolist() == [np.float32(1e-4), np.float32(1e-5)]


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_make(name):
    s = schedules.make(name, 20, 1e-3, 1e-4, warmup_steps=2)
    assert (
        s.shape == (20,) and s[0] == pytest.approx(5e-4, rel=1e-5) and s[1] == pytest.approx(1e-3, rel=0.02)
    )
    assert schedules.make(name, 0, 1e-3, 1e-4).shape == (0,)


@pytest.mark.parametrize(("call", "field"), [
    (lambda: schedules.constant(-1, 1.0), "steps"),
    (lambda: schedules.cosine(3, float("nan"), 0.0), "lr"),
    (lambda: schedules.cosine(3, 1.0, -1.0), "lr_final"),
    (lambda: schedules.stable_cosine_stable(3, 1.0, 0.1, 0.9, 0.8), "start"),
    (lambda: schedules.warmup(schedules.constant(3, 1.0), 4), "warmup_steps"),
    (lambda: schedules.make("linear", 3, 1.0, 0.0), "schedule is 'linear'"),
    (lambda: schedules.combine(schedules.constant(3, 1.0), schedules.constant(2, 1.0)), "shapes"),
])  # fmt: skip
def test_bad_values_are_named(call, field):
    with pytest.raises(ConfigError, match=field):
        call()
