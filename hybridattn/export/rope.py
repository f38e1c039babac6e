"""RoPE of a model in another library's words, where all programs that read a layout agree on them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from ..families.rope import rope_frequencies, rope_parameters

if TYPE_CHECKING:
    from ..model.model import Model

_KEYS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
}
# Settings of YaRN that programs read in ways of their own, or not at all.
_YARN_OTHERS = ("attention_factor", "mscale", "mscale_all_dim", "truncate")


def parameters(model: Model) -> dict[str, Any]:
    """`rope_parameters` as transformers 5 writes them, with nothing that the type does not use."""
    config = model.model_config
    given = rope_parameters(config.hf)
    kind = _kind(given)
    out: dict[str, Any] = {"rope_type": kind, "rope_theta": float(given.get("rope_theta", 10000.0))}
    for key in _KEYS[kind]:
        value = given.get(key, config.hf.get(key))
        if value is not None:
            out[key] = value
    if kind == "yarn" and "original_max_position_embeddings" not in out:
        out["original_max_position_embeddings"] = config.max_positions
    return out


def old_and_new(model: Model) -> dict[str, Any]:
    """The same for transformers 4 as well, which reads `rope_theta` and `rope_scaling`."""
    found = parameters(model)
    scaling = {key: value for key, value in found.items() if key != "rope_theta"}
    return {
        "rope_theta": found["rope_theta"],
        "rope_scaling": None if found["rope_type"] == "default" else scaling,
        "rope_parameters": found,
    }


def misfit(model: Model, kinds: Collection[str]) -> str | None:
    """Why the model's RoPE is not one that the programs agree on; None where it is."""
    given = rope_parameters(model.model_config.hf)
    kind = _kind(given)
    if kind not in kinds:
        return f"rope_type is {kind!r}; allowed: {', '.join(kinds)}, which its programs read alike"
    if kind == "yarn":
        for key in _YARN_OTHERS:
            if given.get(key) not in (None, True):
                return (
                    f"{key} of yarn is {given[key]!r}, which its programs read differently; allowed: not set"
                )
        if given.get("factor") is None:
            return "factor of yarn is not set; allowed: a number, since its programs have no default"
    return None


def _kind(given: dict[str, Any]) -> str:
    return str(given.get("rope_type", given.get("type", "default")))


def factors(model: Model) -> np.ndarray:
    """What a scaled RoPE divides frequencies by, float32 [head_dim / 2], as GGUF files hold Llama 3's."""
    config = model.model_config
    theta = parameters(model)["rope_theta"]
    plain, _ = rope_frequencies({"rope_theta": theta}, config.head_dim, config.max_positions)
    return np.divide(plain, config.rope_inv_freq).astype(np.float32)
