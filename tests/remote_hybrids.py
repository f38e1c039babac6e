"""The hybrids that `test_remote_code` runs in transformers: mixers, options and bodies."""

from __future__ import annotations

import numpy as np
import tiny

from hybridattn.export import source
from hybridattn.model import Model

# (mixer, changes of the teacher): every kind as it comes, then options and bodies that change what is
# computed
CASES = {kind: ({"kind": kind}, {}) for kind in source.kinds() if kind != "softmax"} | {
    "window_linear_short": ({"kind": "window_linear", "window": 7, "sinks": 3}, {}),
    "window_linear_elu": ({"kind": "window_linear", "window": 1, "sinks": 0, "feature": 0}, {}),
    "window_linear_relu": ({"kind": "window_linear", "window": 20, "sinks": 1, "feature": 1}, {}),
    "window_linear_favor": ({"kind": "window_linear", "window": 9, "feature": 3, "rope_features": 0}, {}),
    "window_no_sinks": ({"kind": "window", "window": 5, "sinks": 0}, {}),
    "linear_elu": ({"kind": "linear", "feature": 0}, {}),
    "linear_relu": ({"kind": "linear", "feature": 1, "normalise": 0}, {}),
    "linear_favor": ({"kind": "linear", "feature": 3, "rope": 0}, {}),
    "linear_hedgehog_norm": ({"kind": "linear", "feature": 2, "normalise": 0}, {}),
    "gated_delta_conv": ({"kind": "gated_delta", "conv": 4, "rope": 1}, {}),
    "gla_conv_silu": ({"kind": "gla", "conv": 3, "silu": 1}, {}),
    "gsa_slots": ({"kind": "gsa", "slots": 5, "conv": 2}, {}),
    "rwkv7_plain": ({"kind": "rwkv7", "rope": 0, "silu": 1}, {}),
    "gated_delta_lean": (
        {"kind": "gated_delta", "grouped": 1, "output_gate": "low_rank", "gate_rank": 5, "conv": 3},
        {},
    ),
    "gsa_grouped": ({"kind": "gsa", "grouped": 1, "slots": 6}, {}),
    "kda_grouped": ({"kind": "kda", "grouped": 1, "output_gate": "full"}, {}),
    "mamba2_no_gate": ({"kind": "mamba2", "grouped": 1, "output_gate": "none"}, {}),
    "biases": ({"kind": "kda"}, dict(attention_bias=True, mlp_bias=True, tied=False)),
    "qwen2": (
        {"kind": "window_linear", "window": 6},
        dict(model_type="qwen2", architectures=["Qwen2ForCausalLM"]),
    ),
    "qwen3": (
        {"kind": "gated_delta", "conv": 4},
        dict(model_type="qwen3", architectures=["Qwen3ForCausalLM"], head_dim=10, num_key_value_heads=1),
    ),
    "qwen3_window_linear": (
        {"kind": "window_linear", "window": 6},
        dict(model_type="qwen3", architectures=["Qwen3ForCausalLM"], head_dim=6, tied=False),
    ),
    "mistral": (
        {"kind": "retention"},
        dict(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=11),
    ),
    "yarn": (
        {"kind": "rwkv6"},
        dict(rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
    ),
    "llama3": (
        {"kind": "window", "window": 9},
        dict(
            rope_scaling={
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 24,
            }
        ),
    ),
}
STEPS = 75
TOKENS = np.random.default_rng(1).integers(0, tiny.EOS, (2, STEPS)).astype(np.int32)


def hybrid_of(name: str) -> Model:
    """Linear, softmax, linear; weights moved off their start, so that every one of them matters."""
    spec, changes = CASES[name]
    probe, rng = tiny.teacher(**changes).to_probe(spec, seed=3), np.random.default_rng(4)
    for parameter, array in probe.arrays().items():
        if f".{spec['kind']}." in parameter and "feature" not in parameter:
            array += 0.1 * rng.standard_normal(array.shape).astype(np.float32)
        if parameter.endswith("mamba2.A_log"):
            array -= (
                4  # of one token, o is a multiple of v and changes sign with q.k, and its norm jumps there
            )
        if parameter.endswith("mamba2.dt_bias"):
            array += 2
    return probe.to_hybrid([1])
