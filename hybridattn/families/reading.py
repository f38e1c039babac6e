"""What the families share in reading a Hugging Face config. ConfigErrors name the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..checks import check_int, refuse

# Settings that change what a model computes; any other value than these would be silently wrong.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "pretraining_tp": (None, 1),
    "quantization_config": (None,),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "num_local_experts": (None, 0, 1),
    "num_experts": (None, 0, 1),
    "n_routed_experts": (None, 0),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
}
# How the names of a family's transformers classes begin.
CLASSES = {
    "Llama": "llama",
    "Mistral": "mistral",
    "Qwen2": "qwen2",
    "Qwen3": "qwen3",
    "GPT2": "gpt2",
    "GPTNeoX": "gpt_neox",
    "Bert": "bert",
    "Roberta": "roberta",
    "DistilBert": "distilbert",
}
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def refuse_others(hf: Mapping[str, Any], family: str, neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse a setting of `neutral`, or of those that no family has, with a value that is not listed."""
    for key, allowed in {**NEUTRAL, **neutral}.items():
        if key in hf and hf[key] not in allowed:
            raise refuse(
                key,
                hf[key],
                " or ".join("null" if value is None else str(value) for value in allowed)
                + f" for model_type {family}",
            )


def integer(given: Mapping[str, Any], key: str, default: int | None = None, low: int = 1) -> int:
    """given[key], or the default where it is missing or null, as an int of at least `low`."""
    value = given.get(key)
    return check_int(key, default if value is None else value, low)


def activation(given: Mapping[str, Any], key: str, default: str) -> str:
    """The name that ModelConfig has for an activation of transformers."""
    value = given.get(key, default)
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        raise refuse(key, value, ", ".join(_ACTIVATIONS))
    return _ACTIVATIONS[value]


def head_size(hidden_key: str, hidden: int, heads_key: str, heads: int) -> int:
    """hidden / heads."""
    if hidden % heads:
        raise refuse(hidden_key, hidden, f"a multiple of {heads_key} ({heads})")
    return hidden // heads


def token_ids(value: Any) -> tuple[int, ...]:
    """An id, a list of them or null, as a tuple."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def class_name(hf: Mapping[str, Any]) -> str:
    """The transformers class that a checkpoint is of, "" where none is named."""
    names = hf.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def stem(hf: Mapping[str, Any]) -> str:
    """What the names of the family's classes begin with: from the checkpoint's class, else its model_type."""
    name = re.fullmatch(r"(\w+?)(For\w+|LMHeadModel|Model)", class_name(hf))
    kind = hf.get("model_type")
    return name[1] if name else next((begin for begin, family in CLASSES.items() if family == kind), "")


def has_lm_head(hf: Mapping[str, Any]) -> bool:
    """Whether the checkpoint's class has a language-modelling head; true where no class is named."""
    name = class_name(hf) or "ForCausalLM"
    return name.endswith(("ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForPreTraining"))
