"""The table of small models that have a twin: each mixer with its options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from hybridattn import _core

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY, LENGTHS = 19, [70, 3, 2, 24]
CONFIG = {
    "vocab_size": VOCABULARY,
    "hidden_size": 20,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "intermediate_size": 11,
    "norm_eps": 1e-2,  # large: a norm would magnify the rounding of an output that is nearly 0
    "rope_inv_freq": [1.0, 0.4, 0.1, 0.02],
    "rope_attention_factor": 1.0,
    "sliding_window": 0,
    "bidirectional": 0,
    "attention_bias": False,
    "output_bias": False,
    "mlp_bias": False,
    "tie_embeddings": True,
}
GATE = {"attention_gate": True}
YARN = {"rope_attention_factor": 1.3}
ENCODER = {"bidirectional": 1}
SANDWICH = {
    "block": 3,
    "act": 2,  # GELU by tanh in the MLP's gate
    "embed_scale": 4.5,
    "local_layers": [1],
    "local_window": 6,
    "local_inv_freq": [0.7, 0.5, 0.3, 0.2],
}
BIASES = {"attention_bias": True, "output_bias": True, "mlp_bias": True, "tie_embeddings": False}


@dataclass(frozen=True)
class Twin:
    """One kind of mixer in both layers."""

    name: str
    kind: str
    options: dict[str, int] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        return CONFIG | self.changes

    def model(self) -> _core.Model:
        """Random weights of the size that makes every part matter."""
        model = _core.Model(self.config, [[{"kind": self.kind} | self.options]] * CONFIG["num_layers"])
        rng = np.random.default_rng(3)
        for name, tensor in model.parameters().items():
            w = tensor.numpy()
            w[...] = rng.standard_normal(w.shape) * (1.3 * w.shape[-1] ** -0.5 if w.ndim > 1 else 0.3)
            if "norm" in name:
                w += 1
        return model


RECURRENT = ["gated_delta", "delta", "kda", "retention", "rwkv6", "rwkv7", "gla", "gsa", "mamba2"]
TWINS = [
    Twin("softmax", "softmax"),
    Twin("softmax_biases", "softmax", changes=BIASES),
    Twin("softmax_sliding", "softmax", changes={"sliding_window": 7}),
    Twin("softmax_yarn", "softmax", changes=YARN),
    Twin("softmax_gate", "softmax", changes=GATE),
    Twin("softmax_gate_biases", "softmax", changes=BIASES | GATE),
    Twin("softmax_sandwich", "softmax", changes=SANDWICH),
    Twin("window_linear_sandwich", "window_linear", {"window": 5, "sinks": 2}, SANDWICH),
    Twin("gated_delta_sandwich", "gated_delta", {"rope": 1}, SANDWICH),
    Twin("window_gate", "window", {"window": 5, "sinks": 2}, GATE),
    Twin("gated_delta", "gated_delta"),
    Twin("gated_delta_own_heads", "gated_delta", {"heads": 6, "key_heads": 2, "head_dim": 4}),
    Twin("gated_delta_own_heads_conv", "gated_delta", {"key_heads": 1, "head_dim": 10, "conv": 4}, BIASES),
    Twin("gated_delta_biases", "gated_delta", changes=BIASES | {"num_kv_heads": 4}),
    Twin("gated_delta_rope", "gated_delta", {"rope": 1}),
    Twin("gated_delta_yarn", "gated_delta", {"rope": 1}, YARN),
    Twin("gated_delta_linear", "gated_delta", {"silu": 0}),
    *(Twin(kind, kind) for kind in RECURRENT[1:]),
    *(Twin(f"{kind}_conv", kind, {"conv": 4}) for kind in RECURRENT),
    Twin("gated_delta_conv_biases", "gated_delta", {"conv": 3, "rope": 1}, BIASES),
    Twin("retention_conv_1", "retention", {"conv": 1, "silu": 1}),
    *(
        Twin(f"{kind}_turned", kind, {"rope": rope, "silu": silu}, BIASES)
        for kind, rope, silu in (
            *(("delta", 1, 0), ("kda", 1, 0), ("retention", 0, 1)),
            *(("rwkv6", 0, 1), ("rwkv7", 0, 1), ("gla", 1, 1), ("gsa", 1, 0), ("mamba2", 1, 0)),
        )
    ),
    *(Twin(f"{kind}_grouped", kind, {"grouped": 1}) for kind in RECURRENT),
    Twin(
        "gated_delta_lean",
        "gated_delta",
        {"grouped": 1, "output_gate": "low_rank", "gate_rank": 3, "conv": 3},
    ),
    Twin("gated_delta_no_gate", "gated_delta", {"output_gate": "none", "rope": 1}, BIASES),
    Twin("gated_delta_one_kv_head", "gated_delta", {"grouped": 1, "rope": 1}, BIASES | {"num_kv_heads": 1}),
    Twin("gated_delta_three_queries", "gated_delta", {"grouped": 1}, {"num_heads": 6}),
    Twin("kda_full_gate", "kda", {"grouped": 1, "output_gate": "full", "conv": 2}, YARN),
    Twin("gla_low_rank", "gla", {"output_gate": "low_rank", "gate_rank": 5}),
    Twin("mamba2_no_gate", "mamba2", {"grouped": 1, "output_gate": "none"}),
    Twin("retention_no_gate", "retention", {"output_gate": "none"}),
    Twin("rwkv6_no_gate", "rwkv6", {"grouped": 1, "output_gate": "none"}, {"num_kv_heads": 1}),
    Twin("rwkv7_small_gate", "rwkv7", {"grouped": 1, "gate_rank": 2}, YARN),
    Twin("gsa_slots", "gsa", {"slots": 5}),
    Twin("gsa_one_slot", "gsa", {"slots": 1}),
    Twin("rwkv7_yarn", "rwkv7", changes=YARN),
    Twin("window_linear", "window_linear", {"window": 5, "sinks": 2}),
    Twin("window_linear_biases", "window_linear", {"window": 6, "sinks": 1}, BIASES | {"num_kv_heads": 1}),
    Twin("window_linear_raw", "window_linear", {"window": 5, "sinks": 2, "rope_features": 0}),
    Twin("window_linear_yarn", "window_linear", {"window": 5, "sinks": 2}, YARN),
    Twin("window_linear_raw_yarn", "window_linear", {"window": 5, "sinks": 2, "rope_features": 0}, YARN),
    Twin("window_linear_no_sinks", "window_linear", {"window": 1, "sinks": 0}),
    *(
        Twin(f"window_linear_{name}", "window_linear", {"window": 5, "sinks": 2, "feature": number})
        for number, name in ((0, "elu"), (1, "relu"), (3, "favor"))
    ),
    *(
        Twin(f"linear_{name}", "linear", {"feature": number})
        for number, name in enumerate(("elu", "relu", "hedgehog", "favor"))
    ),
    Twin("linear_norm", "linear", {"feature": 0, "normalise": 0, "rope": 0}),
    Twin("linear_biases", "linear", {"feature": 2, "normalise": 0}, BIASES | {"num_kv_heads": 1}),
    Twin("window", "window", {"window": 5, "sinks": 2}),
    Twin("linear_yarn", "linear", {"feature": 3}, YARN),
    Twin("window_yarn", "window", {"window": 5, "sinks": 2}, YARN),
    Twin("window_biases", "window", {"window": 70, "sinks": 0}, BIASES),
    Twin("window_linear_wide", "window_linear", {"window": 64, "sinks": 4}),
]
TWINS += [
    Twin(f"both_{name}", kind, options, ENCODER | changes)
    for name, kind, options, changes in (
        ("softmax", "softmax", {}, {}),
        ("window", "window", {"window": 5, "sinks": 2}, {}),
        *((kind, kind, {}, {}) for kind in RECURRENT),
        ("gsa_slots", "gsa", {"slots": 5}, {}),
        ("gsa_grouped", "gsa", {"slots": 5, "grouped": 1}, {"num_kv_heads": 1}),
        ("kda_grouped", "kda", {"grouped": 1}, {}),
        ("gated_delta_lean", "gated_delta", {"grouped": 1, "output_gate": "none"}, BIASES),
        ("gated_delta_biases", "gated_delta", {"rope": 1}, BIASES),
        ("rwkv7_yarn", "rwkv7", {"silu": 1}, YARN),
        ("linear_elu", "linear", {"feature": 0}, {}),
        ("linear_relu", "linear", {"feature": 1}, {}),
        ("linear_hedgehog", "linear", {"feature": 2, "normalise": 0}, BIASES),
        ("linear_favor", "linear", {"feature": 3}, YARN),
        ("window_linear", "window_linear", {"window": 5, "sinks": 2}, {}),
        ("window_linear_raw", "window_linear", {"window": 1, "sinks": 0, "rope_features": 0}, BIASES),
        ("window_linear_favor", "window_linear", {"window": 5, "sinks": 2, "feature": 3}, YARN),
        ("window_linear_wide", "window_linear", {"window": 64, "sinks": 4}, {"num_kv_heads": 1}),
        ("linformer", "linformer", {"slots": 7, "length": 80}, {}),
        ("linformer_biases", "linformer", {"slots": 70, "length": 70, "rope": 0}, BIASES),
        ("linformer_yarn", "linformer", {"slots": 6, "length": 200}, YARN | {"num_kv_heads": 1}),
    )
]
