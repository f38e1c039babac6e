"""RoPE inverse frequencies from a Hugging Face config, with its scaling variants.

Every step is rounded to float32 as `transformers` does it: at position 8000 the last bit of a frequency is
visible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..checks import check_int, check_number, refuse
from ..errors import ConfigError
from .config import MAX_HEAD_DIM


class _Rope(NamedTuple):
    theta: float
    head_dim: int
    original: int  # positions the model was first trained on
    max_positions: int
    parameters: Mapping[str, Any]


def rope_frequencies(
    hf: Mapping[str, Any], head_dim: int, max_positions: int, partial: float | None = None
) -> tuple[tuple[float, ...], float]:
    """(head_dim/2 inverse frequencies, attention factor) of a config, by `rope_scaling` or `rope_parameters`.

    partial: the share of a head that turns when the config does not say, for families of which not all does.
    `dynamic` gives the unscaled frequencies: that is what it means up to max_position_embeddings.
    Raises ConfigError for an unknown type or a parameter that is missing or out of range.
    """
    check_int("head_dim", head_dim, 1, MAX_HEAD_DIM)
    parameters = rope_parameters(hf)
    kind = _with_rope_type(parameters).get("rope_type", "default")
    if not isinstance(kind, str) or kind not in _VARIANTS:
        raise refuse("rope_type", kind, ", ".join(_VARIANTS))
    share = parameters.get("partial_rotary_factor")
    if partial is None and share not in (None, 1):
        raise refuse("partial_rotary_factor", share, "1")
    if partial is not None:
        share = check_number("partial_rotary_factor", partial if share is None else share, above=True)
        if share > 1 or int(head_dim * share) % 2:
            raise refuse(
                "partial_rotary_factor", share, f"at most 1, with an even share of a head of {head_dim}"
            )
        head_dim = int(head_dim * share)
    theta = check_number("rope_theta", parameters.get("rope_theta", 10000.0), low=1.0, above=True)
    original = hf.get("original_max_position_embeddings") or parameters.get(
        "original_max_position_embeddings"
    )
    if original is None and kind == "llama3":
        raise refuse(
            "original_max_position_embeddings", None, "an integer of at least 1 for rope_type llama3"
        )
    original = check_int("original_max_position_embeddings", max_positions if original is None else original)
    rope = _Rope(theta, head_dim, original, max_positions, parameters)
    frequencies, attention_factor = _VARIANTS[kind](rope)
    return tuple(float(f) for f in frequencies), attention_factor


def rope_parameters(hf: Mapping[str, Any]) -> dict[str, Any]:
    """One flat dictionary from the old key, the new key and the top level, which counts least."""
    found = {}
    for key in ("rope_scaling", "rope_parameters"):
        value = hf.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise refuse(key, value, "null or an object")
        if value and any(isinstance(v, Mapping) for v in value.values()):
            raise refuse(key, value, "one object for all layers")
        found[key] = dict(value or {})
    old, new = found["rope_scaling"], found["rope_parameters"]
    top = {key: hf[key] for key in ("rope_theta", "partial_rotary_factor") if hf.get(key) is not None}
    # transformers leaves rope_parameters aside where there is rope_scaling: they must say the same
    counts = {"rope_theta": 10000.0, **top, **_with_rope_type(old)}
    if old and any(counts.get(key) != value for key, value in _with_rope_type(new).items()):
        raise ConfigError(
            f"rope_scaling is {old!r} but rope_parameters is {new!r}; allowed: only one of them"
        )
    return {**top, **new, **old}


def _with_rope_type(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with `type`, the older name of `rope_type`, under the newer one."""
    rest = {key: value for key, value in given.items() if key != "type"}
    return {"rope_type": given["type"], **rest} if "type" in given else rest


def _plain(rope: _Rope) -> np.ndarray:
    exponent = np.arange(0, rope.head_dim, 2, dtype=np.float32) / np.float32(rope.head_dim)
    # float64 power, then one rounding: a float32 power function may be off by several units
    return np.float32(1) / np.power(rope.theta, exponent.astype(np.float64)).astype(np.float32)


def _factor(rope: _Rope) -> float:
    return check_number("rope factor", rope.parameters.get("factor"), low=1.0)


def _default(rope: _Rope) -> tuple[np.ndarray, float]:
    return _plain(rope), 1.0


def _linear(rope: _Rope) -> tuple[np.ndarray, float]:
    return _plain(rope) / np.float32(_factor(rope)), 1.0


def _dynamic(rope: _Rope) -> tuple[np.ndarray, float]:
    _factor(rope)
    return _plain(rope), 1.0


def _llama3(rope: _Rope) -> tuple[np.ndarray, float]:
    """Long wavelengths divided by `factor`, short ones kept, a linear blend between (Llama 3.1)."""
    factor = np.float32(_factor(rope))
    low = check_number("low_freq_factor", rope.parameters.get("low_freq_factor"), above=True)
    high = check_number("high_freq_factor", rope.parameters.get("high_freq_factor"), low=low, above=True)
    frequency = _plain(rope)
    wavelength = np.float32(2 * math.pi) / frequency
    scaled = np.where(wavelength > rope.original / low, frequency / factor, frequency)
    smooth = (np.float32(rope.original) / wavelength - np.float32(low)) / np.float32(high - low)
    blend = (1 - smooth) * scaled / factor + smooth * scaled
    middle = (wavelength >= rope.original / high) & (wavelength <= rope.original / low)
    return np.where(middle, blend, scaled), 1.0


def _yarn(rope: _Rope) -> tuple[np.ndarray, float]:
    """Slow dimensions interpolated, fast ones kept, and a factor on cos and sin (arXiv 2309.00071)."""
    given = rope.parameters.get("factor")
    factor = rope.max_positions / rope.original if given is None else _factor(rope)
    fast = check_number("beta_fast", rope.parameters.get("beta_fast") or 32, above=True)
    slow = check_number("beta_slow", rope.parameters.get("beta_slow") or 1, above=True)
    if fast < slow:
        raise refuse("beta_fast", fast, f"a number of at least beta_slow ({slow:g})")

    def dimension(rotations: float) -> float:
        return (
            rope.head_dim * math.log(rope.original / (rotations * 2 * math.pi)) / (2 * math.log(rope.theta))
        )

    low, high = dimension(fast), dimension(slow)
    if rope.parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.head_dim - 1)
    if low == high:
        high += 0.001
    index = np.arange(rope.head_dim // 2, dtype=np.float32)
    keep = 1 - np.clip((index - np.float32(low)) / np.float32(high - low), 0, 1)
    plain = _plain(rope)
    frequency = plain / np.float32(factor) * (1 - keep) + plain * keep
    return frequency, _yarn_attention_factor(rope.parameters, factor)


def _yarn_attention_factor(parameters: Mapping[str, Any], factor: float) -> float:
    given = parameters.get("attention_factor")
    if given is not None:
        return check_number("attention_factor", given, above=True)

    def mscale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    top, bottom = parameters.get("mscale"), parameters.get("mscale_all_dim")
    if top and bottom:
        return mscale(check_number("mscale", top)) / mscale(check_number("mscale_all_dim", bottom))
    return mscale(1.0)


_VARIANTS: dict[str, Callable[[_Rope], tuple[np.ndarray, float]]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
}
