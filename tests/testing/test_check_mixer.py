"""`check_mixer` passes a good mixer written in Python, and each of its checks fails on a mutant of it."""

from __future__ import annotations

import numpy as np
import pytest
from average_mixer import Average, register

import hybridattn
from hybridattn import testing
from hybridattn.errors import ConfigError
from hybridattn.testing.mixers import MixerCase

pytestmark = pytest.mark.usefixtures("one_thread")


def doubled_gradient(p, saved, dy):
    dx, slopes = Average.vjp(p, saved, dy)
    return dx, {name: 2 * slope for name, slope in slopes.items()}


def doubled_gradient_of_one(p, saved, dy):
    dx, slopes = Average.vjp(p, saved, dy)
    return dx, {**slopes, "rate": 2 * slopes["rate"]}


def doubled_input_gradient(p, saved, dy):
    dx, slopes = Average.vjp(p, saved, dy)
    return 2 * dx, slopes


def turned_input_gradient(p, saved, dy):
    dx, slopes = Average.vjp(p, saved, dy)
    return -5 * dx, slopes


def turned_gradient(p, saved, dy):
    dx, slopes = Average.vjp(p, saved, dy)
    return dx, {name: -slope for name, slope in slopes.items()}


def sees_the_end(p, x, lengths):
    y, saved = Average.forward(p, x, lengths)
    return y + y[-1:], saved


def forgets_borders(p, x, lengths):
    return Average.forward(p, x, np.array([len(x)]))


def counts_calls(p, x, lengths, calls=[]):  # noqa: B006
    calls.append(1)
    y, saved = Average.forward(p, x, lengths)
    return y * (1 + 0.1 * len(calls)), saved


def counts_threads(p, x, lengths):
    y, saved = Average.forward(p, x, lengths)
    return y * np.float32(1 + 0.01 * hybridattn.get_num_threads()), saved


def divides_by_a_parameter(p, x, lengths):
    y, saved = Average.forward(p, x, lengths)
    with np.errstate(invalid="ignore", divide="ignore"):
        return y / np.abs(p["rate"]).max(), saved


def forgets_in_steps(p, state, x):
    return Average.step(p, 0.9 * state, x)


# check -> the functions of the average that are other ones in a mutant that it finds
MUTANTS = [
    ("gradients", {"vjp": doubled_gradient}, "layers.1.NAME.v.weight has the norm"),
    ("gradients", {"vjp": doubled_gradient_of_one}, "layers.1.NAME.rate has the norm"),
    ("gradients", {"vjp": doubled_input_gradient}, "has the norm"),
    ("gate_slopes", {"vjp": turned_input_gradient}, "the slope of layer 0's gate is"),
    ("gate_ends", {"forward": counts_calls}, "logits differ by"),
    ("step_is_forward", {"step": forgets_in_steps}, "logits of single tokens"),
    ("chunk_is_whole", {"step": forgets_in_steps}, "a text cut at"),
    ("causal", {"forward": sees_the_end}, "before a token that was changed"),
    ("threads", {"forward": counts_threads}, "other bits of"),
    ("padding", {"forward": forgets_borders}, "padded on the|windows in one pass"),
    ("extremes", {"forward": divides_by_a_parameter}, "rate zero"),
    ("saved", {"forward": counts_calls}, "logits differ by"),
    ("learns", {"vjp": turned_gradient}, "24 steps of alignment took layer"),
]


def test_a_good_mixer_passes():
    testing.check_mixer(register("test_checked"))


@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=lambda i: f"{MUTANTS[i][0]}-{i}")
def test_a_check_finds_its_mutant(number):
    check, changes, message = MUTANTS[number]
    name = f"test_mutant_{number}"
    with pytest.raises(AssertionError, match=f"{check}: .*({message.replace('NAME', name)})"):
        testing.check_mixer(register(name, **changes), only=[check])


def test_a_state_that_grows():
    class Softmax(MixerCase):
        def linear(self, bidirectional):
            return self.teacher(bidirectional)

    with pytest.raises(AssertionError, match="the state grew"):
        testing.MIXER_CHECKS["state"](Softmax({"kind": "window"}, 0, "llama"))


def test_every_check_has_a_mutant():
    assert {check for check, *_ in MUTANTS} | {"state"} == testing.MIXER_CHECKS.keys()


def test_all_that_fails_is_told():
    with pytest.raises(AssertionError, match=r"(?s)fails 2 of its checks\n.*gradients: .*\nlearns: "):
        testing.check_mixer(
            register("test_mutant_twice", vjp=turned_gradient), only=["gradients", "learns", "state"]
        )


def test_what_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="mixer kind is 'test_nowhere'"):
        testing.check_mixer("test_nowhere")
    with pytest.raises(ConfigError, match="no check 'gradient'; did you mean \"gradients\""):
        testing.check_mixer("gla", only=["gradient"])
