"""A mixer in NumPy, the running average of what it reads, for tests of mixers written in Python."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

import hybridattn

pytestmark = pytest.mark.usefixtures("one_thread")
TOKENS = (np.arange(2 * 40, dtype=np.int32).reshape(2, 40) * 37) % 256


class Average:
    """A moving average of values with a learned rate for each channel: s_t = a s_{t-1} + (1 - a) v_t."""

    @staticmethod
    def parameters(config):
        inner = config["num_heads"] * config["head_dim"]
        return {
            "v.weight": (inner, config["hidden_size"]),
            "rate": inner,
            "o.weight": (config["hidden_size"], inner),
        }

    @staticmethod
    def init(rng, config, softmax):
        group = config["num_heads"] // config["num_kv_heads"]
        v = softmax["v_proj.weight"].reshape(config["num_kv_heads"], config["head_dim"], -1)
        return {
            "v.weight": np.repeat(v, group, 0).reshape(-1, config["hidden_size"]),
            "rate": rng.uniform(0, 3, config["num_heads"] * config["head_dim"]),
            "o.weight": softmax["o_proj.weight"],
        }

    @staticmethod
    def forward(p, x, lengths):
        a, v = 1 / (1 + np.exp(-p["rate"])), x @ p["v.weight"].T
        s, start = np.empty_like(v), 0
        for n in lengths:
            last = np.zeros_like(a)
            for t in range(start, start + n):
                s[t] = last = a * last + (1 - a) * v[t]
            start += n
        return s @ p["o.weight"].T, (x.copy(), lengths, v, s, a, {k: w.copy() for k, w in p.items()})

    @staticmethod
    def vjp(p, saved, dy):
        x, lengths, v, s, a, _ = saved
        ds, dv, da, start = dy @ p["o.weight"], np.empty_like(v), np.zeros_like(a), 0
        for n in lengths:
            later = np.zeros_like(a)
            for t in reversed(range(start, start + n)):
                later = ds[t] + a * later
                before = s[t - 1] if t > start else np.zeros_like(a)
                dv[t], da = (1 - a) * later, da + later * (before - v[t])
            start += n
        slopes = {"v.weight": dv.T @ x, "rate": da * a * (1 - a), "o.weight": dy.T @ s}
        return dv @ p["v.weight"], slopes

    @staticmethod
    def step(p, state, x):
        a = 1 / (1 + np.exp(-p["rate"]))
        state = a * state + (1 - a) * (x @ p["v.weight"].T)
        return state @ p["o.weight"].T, state

    @staticmethod
    def state(config):
        return config["num_heads"] * config["head_dim"]


FUNCTIONS = {n: getattr(Average, n) for n in ("parameters", "init", "forward", "vjp", "step", "state")}


def register(name, **changes):
    """A kind of that name, once a process."""
    if name not in hybridattn.mixers():
        hybridattn.register_mixer(name, **(FUNCTIONS | changes))
    return {"kind": name}


def probe(name="test_average", **changes):
    return tiny.teacher().to_probe(register(name, **changes), seed=1)
