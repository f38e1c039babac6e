"""What the families share in reading a Hugging Face config. ConfigErrors name the key."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from ..checks import check_int, refuse

# How the names of a family's transformers classes begin.
CLASSES = {
    "Llama": "llama",
    "Mistral": "mistral",
    "Qwen2": "qwen2",
    "Qwen3": "qwen3",
    "Qwen3_5": "qwen3_5_text",
    "Gemma3": "gemma3_text",
    "Gemma3Text": "gemma3_text",
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


def special_tokens(hf: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """`bos_token_id` and `eos_token_ids` for ModelConfig. An id outside the vocabulary never comes up, so it
    is left out with a warning; ConfigError for what is no id.
    """
    found: dict[str, list[int]] = {}
    for key in ("bos_token_id", "eos_token_id"):
        value = hf.get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(i) is int for i in ids):
            raise refuse(key, value, "null, an id or a list of ids")
        found[key] = [i for i in ids if 0 <= i < vocab_size]
        if outside := [i for i in ids if not 0 <= i < vocab_size]:
            warnings.warn(
                f"{key} {outside} is outside of the vocabulary of {vocab_size}: it cannot come up",
                UserWarning,
                stacklevel=2,
            )
    bos = found["bos_token_id"]
    return {
        "bos_token_id": bos[0] if bos else None,
        "eos_token_ids": tuple(dict.fromkeys(found["eos_token_id"])),
    }


def class_name(hf: Mapping[str, Any]) -> str:
    """The transformers class that a checkpoint is of, "" where none is named."""
    names = hf.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def text_part(hf: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    """The config of a model of text, which is all that is read of a model of text and images: `hf` itself, or
    its text_config. kind, name: its model_type and class.
    """
    if "text_config" not in hf:
        return {**hf, "model_type": kind}
    text = hf["text_config"]
    if not isinstance(text, dict):
        raise refuse("text_config", text, "an object")
    if text.get("model_type", kind) != kind:
        raise refuse("model_type of text_config", text.get("model_type"), kind)
    outer = {key: hf[key] for key in ("tie_word_embeddings", "eos_token_id", "bos_token_id") if key in hf}
    # whether embeddings are tied the outer config says, where it says it
    tied = {"tie_word_embeddings": hf["tie_word_embeddings"]} if "tie_word_embeddings" in hf else {}
    return {**outer, **text, **tied, "model_type": kind, "architectures": [name]}


def stem(hf: Mapping[str, Any]) -> str:
    """What the names of the family's classes begin with: from the checkpoint's class, else its model_type."""
    name = re.fullmatch(r"(\w+?)(For\w+|LMHeadModel|Model)", class_name(hf))
    kind = hf.get("model_type")
    return name[1] if name else next((begin for begin, family in CLASSES.items() if family == kind), "")


def has_lm_head(hf: Mapping[str, Any]) -> bool:
    """Whether the checkpoint's class has a language-modelling head; true where no class is named."""
    name = class_name(hf) or "ForCausalLM"
    return name.endswith(("ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForPreTraining"))
