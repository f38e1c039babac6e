"""Which keys of a GGUF file are known, and what they may be.

Keys of the architecture that are read nowhere are on one of two lists: those that would change what is
computed with any value but the listed ones, and those that change nothing here. What is on no list is named
in a warning. Source: the keys that llama.cpp reads for these architectures.
"""

from __future__ import annotations

import warnings
from typing import Any

from ..checks import refuse
from ..errors import ConfigError

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.sliding_window": (0,),
    "attention.temperature_length": (0,),
    "attention.temperature_scale": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "router_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "logit_scale": (0, 1),
    "expert_count": (0,),
    "pooling_type": (0,),
    "use_parallel_residual": (False,),
    "swin_norm": (False,),
    "nextn_predict_layers": (0,),
    "attention.key_length_mla": (0,),
    "attention.value_length_mla": (0,),
}
_READ = frozenset([
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
    "attention.scale", "attention.layer_norm_rms_epsilon", "block_count", "context_length",
    "embedding_length", "feed_forward_length", "rope.dimension_count", "rope.freq_base",
    "rope.scale_linear", "vocab_size",
])  # fmt: skip
# of experts where there are none, of other norms, of how the file was made, of classifiers' names
_HARMLESS = frozenset([
    "attention.layer_norm_epsilon", "classifier.output_labels", "embedding_length_out",
    "expert_feed_forward_length", "expert_gating_func", "expert_group_count", "expert_group_used_count",
    "expert_shared_count", "expert_shared_feed_forward_length", "expert_used_count", "expert_weights_norm",
    "expert_weights_scale", "interleave_moe_layer_step", "leading_dense_block_count", "moe_every_n_layers",
    "tensor_data_layout",
])  # fmt: skip


def check_keys(meta: dict[str, Any], architecture: str, more: frozenset[str]) -> None:
    """ConfigError for a key that would change what is computed; a warning for keys that are not known. more:
    keys that are read of this architecture alone, whatever their values.
    """
    kind = meta.get("general.type", "model")
    if kind != "model":
        raise refuse("general.type", kind, "model")
    before = f"{architecture}."
    unknown = []
    for name, value in meta.items():
        if not name.startswith(before):
            continue
        key = name.removeprefix(before)
        neutral = _NEUTRAL.get(key)
        if neutral is not None and key not in more and value not in neutral:
            raise refuse(name, value, " or ".join(str(each).lower() for each in neutral))
        if neutral is None and key not in _READ | _HARMLESS | more and not key.startswith("rope.scaling."):
            unknown.append(name)
    if unknown:
        warnings.warn(
            f"{', '.join(sorted(unknown))}: not known here and ignored; the model may compute something else",
            stacklevel=2,
        )


def refuse_parts(meta: dict[str, Any]) -> None:
    """ConfigError for one part of a split file."""
    count, number = meta.get("split.count", 0), meta.get("split.no", 0)
    if type(count) is int and count > 1:
        which = number + 1 if type(number) is int else number
        raise ConfigError(
            f"is part {which} of {count} of a split file; allowed: one whole file, which "
            "llama-gguf-split --merge makes of the parts"
        )
