"""The metadata of a GGUF file as the Hugging Face config that it was made from.

Sources: the keys of the GGUF specification, and what llama.cpp's graphs of these architectures read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import refuse
from ..errors import ConfigError
from ..families.rope import rope_frequencies
from . import gguf_bamba, gguf_gemma3, gguf_qwen35
from .gguf_header import GGUFHeader
from .gguf_keys import check_keys, refuse_parts

ROPE_FACTORS = "rope_freqs.weight"
# architecture: (model_type, class of transformers)
_FAMILIES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    gguf_bamba.ARCHITECTURE: ("bamba", "BambaForCausalLM"),
    gguf_qwen35.ARCHITECTURE: ("qwen3_5_text", "Qwen3_5ForCausalLM"),
    gguf_gemma3.ARCHITECTURE: ("gemma3_text", "Gemma3ForCausalLM"),
}

_KEYS = {module.ARCHITECTURE: module.KEYS for module in (gguf_bamba, gguf_gemma3, gguf_qwen35)}


def hf_config(header: GGUFHeader) -> dict[str, Any]:
    """The config, with the class and the keys of transformers. Raises ConfigError for an architecture or a
    setting that is not supported, naming the key.
    """
    meta, tensors = header.metadata, header.tensors
    refuse_parts(meta)
    architecture = meta.get("general.architecture")
    if architecture not in _FAMILIES:
        raise refuse("general.architecture", architecture, ", ".join(_FAMILIES))
    check_keys(meta, architecture, _KEYS.get(architecture, frozenset()))

    def get(key: str, default: Any = None) -> Any:
        return meta.get(f"{architecture}.{key}", default)

    def refused(key: str, allowed: str) -> ConfigError:
        return refuse(f"{architecture}.{key}", get(key), allowed)

    heads = _one_number(get("attention.head_count"), refused, "attention.head_count")
    kv_heads = get("attention.head_count_kv", heads)
    bamba = architecture == gguf_bamba.ARCHITECTURE
    if bamba and isinstance(kv_heads, list):  # 0 in recurrent layers
        kv_heads = [count for count in kv_heads if count] or [heads]
    kv_heads = _one_number(kv_heads, refused, "attention.head_count_kv")
    inner = _one_number(get("feed_forward_length"), refused, "feed_forward_length")
    head_dim = get("attention.key_length", get("rope.dimension_count"))
    if head_dim is None and type(heads) is int and heads > 0 and type(get("embedding_length")) is int:
        head_dim = get("embedding_length") // heads
    hybrid = architecture == gguf_qwen35.ARCHITECTURE
    for key in ("attention.value_length", *(() if hybrid else ("rope.dimension_count",))):
        if get(key, head_dim) != head_dim:
            raise refused(key, f"the length of a key ({head_dim})")
    scale = get("attention.scale", 0)
    if scale and (type(head_dim) is not int or abs(scale * head_dim**0.5 - 1) > 1e-5):
        raise refused("attention.scale", "0, or 1 over the root of the length of a key")
    embedding = tensors.get("token_embd.weight")
    model_type, class_name = _FAMILIES[architecture]
    hf = {
        "architectures": [class_name],
        "model_type": model_type,
        "hidden_act": "silu",
        "vocab_size": embedding.shape[0] if embedding else get("vocab_size"),
        "hidden_size": get("embedding_length"),
        "intermediate_size": inner,
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": _shortest(get("attention.layer_norm_rms_epsilon")),
        "rope_theta": _shortest(get("rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": meta.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": _eos(meta),
    }
    if hybrid or bamba:
        hf |= gguf_bamba.hf_keys(header) if bamba else _qwen35_keys(header, head_dim)
        hf["attention_bias"] = any(f"blk.{i}.attn_q.bias" in tensors for i in range(len(tensors)))
    elif architecture != "qwen2":  # which always has them
        hf["attention_bias"] = "blk.0.attn_q.bias" in tensors
    if architecture == gguf_gemma3.ARCHITECTURE:
        del hf["hidden_act"]
        hf |= {key: _shortest(value) for key, value in gguf_gemma3.hf_keys(header, head_dim).items()}
    if architecture in ("llama", gguf_bamba.ARCHITECTURE):
        hf["mlp_bias"] = "blk.0.ffn_up.bias" in tensors
    scaling = _rope_scaling(header, hf, f"{architecture}.rope.")
    if hybrid or bamba:  # one dictionary, as these configs have it
        parts = ("rope_theta", "partial_rotary_factor", "mrope_section")
        rope = {key: hf.pop(key) for key in parts if key in hf}
        hf["rope_parameters"] = {"rope_type": "default", **rope, **(scaling or {})}
    elif scaling:
        hf["rope_scaling"] = scaling
    return hf


def _qwen35_keys(header: GGUFHeader, head_dim: Any) -> dict[str, Any]:
    turns = header.metadata.get(f"{gguf_qwen35.ARCHITECTURE}.rope.dimension_count", head_dim)
    return gguf_qwen35.hf_keys(header, head_dim, turns)


def _one_number(value: Any, refused: Any, key: str) -> Any:
    """The number that all layers share."""
    if not isinstance(value, list):
        return value
    if len(set(map(str, value))) != 1:
        raise refused(key, "one number for all layers")
    return value[0]


def _shortest(value: Any) -> Any:
    """The shortest decimal of a float32, as the original config had it: 1e-05, not 9.99999975e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _eos(meta: dict[str, Any]) -> Any:
    ids = [meta.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
    if any(isinstance(i, list) for i in ids):
        raise refuse("tokenizer.ggml.eos_token_id", ids, "one id")
    ids = list(dict.fromkeys(i for i in ids if i is not None))
    return ids if len(ids) > 1 else ids[0] if ids else None


def _rope_scaling(header: GGUFHeader, hf: dict[str, Any], prefix: str) -> dict[str, Any] | None:
    """As llama.cpp reads it: no type is the type linear, whose factor may have its old name."""
    old, prefix = header.metadata.get(f"{prefix}scale_linear"), f"{prefix}scaling."
    keys = {key[len(prefix) :]: value for key, value in header.metadata.items() if key.startswith(prefix)}
    keys.pop("finetuned", None)
    kind, factor = keys.pop("type", None), keys.get("factor", old)
    if kind is None:
        kind = "none" if factor in (None, 0, 1) else "linear"
    if kind != "none":
        keys["factor"] = 1.0 if factor in (None, 0) and kind == "linear" else factor
    for neutral in ("attn_factor", "yarn_attn_factor", "yarn_ext_factor"):
        if keys.get(neutral) == 1:
            del keys[neutral]
    if ROPE_FACTORS in header.tensors:
        if kind != "none":
            raise refuse(f"{prefix}type", kind, f"none, since the file has {ROPE_FACTORS}")
        return _llama3_scaling(header, hf)
    if kind == "none":
        for key in ("attn_factor", "yarn_attn_factor", "yarn_ext_factor"):
            if key in keys:
                raise refuse(prefix + key, keys[key], "1, where the type is none")
        return None
    if kind not in ("linear", "yarn"):
        raise refuse(f"{prefix}type", kind, "none, linear or yarn")
    scaling = {"rope_type": kind, "factor": _shortest(keys.pop("factor", None))}
    original = keys.pop("original_context_length", None)
    if kind == "yarn":
        if original is not None:
            scaling["original_max_position_embeddings"] = original
        for key in ("beta_fast", "beta_slow"):
            if f"yarn_{key}" in keys:
                scaling[key] = _shortest(keys.pop(f"yarn_{key}"))
    if keys:
        key = min(keys)
        raise refuse(
            prefix + key, keys[key], "not set: only type, factor, original_context_length and, of yarn, betas"
        )
    return scaling


def _llama3_scaling(header: GGUFHeader, hf: dict[str, Any]) -> dict[str, Any]:
    """Llama 3's parameters from the factors stored instead of them; ConfigError if they are not Llama 3's."""
    entry = header.tensors[ROPE_FACTORS]
    if entry.type != 0:
        raise ConfigError(f"{ROPE_FACTORS} has the type number {entry.type}; allowed: 0, float32")
    factors = header.mapped.view(np.float32, entry.offset, entry.size // 4)
    head_dim = 2 * factors.size
    scaling = {
        "rope_type": "llama3",
        "factor": float(round(float(factors.max()), 3)),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    plain, _ = rope_frequencies({"rope_theta": hf["rope_theta"]}, head_dim, 8192)
    scaled, _ = rope_frequencies({"rope_theta": hf["rope_theta"], "rope_scaling": scaling}, head_dim, 8192)
    if not np.allclose(factors, np.divide(plain, scaled), rtol=1e-3):
        raise ConfigError(
            f"{ROPE_FACTORS} holds frequency factors that are not those of Llama 3 "
            "(low_freq_factor 1, high_freq_factor 4, original length 8192)"
        )
    return scaling
