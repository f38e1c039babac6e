"""A GGUF file as a model: its configuration, and its weights under Hugging Face names.

Needs the `gguf` package for the block formats. `llama` architecture only, which covers Llama, SmolLM and
Mistral files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import refuse
from ..errors import ConfigError, WeightError
from ..families import config_from_hf
from ..families.config import ModelConfig
from ..families.rope import rope_frequencies
from .dtypes import Bytes
from .gguf_header import GGUFHeader, GGUFTensor, gguf_library, open_header
from .gguf_names import to_hf
from .mapped import MappedFile
from .safetensors import WeightSource

SUPPORTED_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
_STORED = {"F16": "float16", "BF16": "bfloat16", "Q8_0": "q8_0", "Q4_0": "q4_0", "Q4_1": "q4_1"}
_CHUNK = 1 << 22  # values converted at a time

_ROPE_FACTORS = "rope_freqs.weight"


@dataclass
class GGUFModel:
    """What `open_gguf` gives. metadata: the file's own keys, from which the tokenizer is rebuilt."""

    config: ModelConfig
    source: GGUFSource
    metadata: dict[str, Any]


def open_gguf(path: str | os.PathLike[str]) -> GGUFModel:
    """Open a GGUF file of the llama architecture.

    Raises WeightError for a damaged file, ConfigError for one that is whole but not supported,
    HybridAttnError when the `gguf` package is missing. Nothing but the header is read here.
    """
    header = open_header(path)
    try:
        config = config_from_hf(_hf_config(header))
        return GGUFModel(config, GGUFSource(header, config), header.metadata)
    except ConfigError as error:
        header.mapped.close()
        raise ConfigError(f"{header.mapped.path}: {error}") from None


def _hf_config(header: GGUFHeader) -> dict[str, Any]:
    """The file's metadata as the Hugging Face config it was made from."""
    meta, tensors = header.metadata, header.tensors
    architecture = meta.get("general.architecture")
    if architecture != "llama":
        raise refuse("general.architecture", architecture, "llama")

    def get(key: str, default: Any = None) -> Any:
        return meta.get(f"llama.{key}", default)

    if get("expert_count", 0):
        raise refuse("llama.expert_count", get("expert_count"), "0")
    kv_heads = get("attention.head_count_kv", get("attention.head_count"))
    if isinstance(kv_heads, list):
        if len(set(kv_heads)) != 1:
            raise refuse("llama.attention.head_count_kv", kv_heads, "one number for all layers")
        kv_heads = kv_heads[0]
    head_dim = get("attention.key_length", get("rope.dimension_count"))
    for key in ("attention.value_length", "rope.dimension_count"):
        if get(key, head_dim) != head_dim:
            raise refuse(f"llama.{key}", get(key), f"the length of a key ({head_dim})")
    embedding = tensors.get("token_embd.weight")
    hf = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": embedding.shape[0] if embedding else get("vocab_size"),
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": get("attention.head_count"),
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": _shortest(get("attention.layer_norm_rms_epsilon")),
        "rope_theta": _shortest(get("rope.freq_base", 10000.0)),
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": meta.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": _eos(meta),
    }
    scaling = _rope_scaling(header, hf)
    if scaling:
        hf["rope_scaling"] = scaling
    return hf


def _shortest(value: Any) -> Any:
    """The shortest decimal of a float32, as the original config had it: 1e-05, not 9.99999975e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _eos(meta: dict[str, Any]) -> Any:
    ids = [meta.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")]
    ids = list(dict.fromkeys(i for i in ids if i is not None))
    return ids if len(ids) > 1 else ids[0] if ids else None


def _rope_scaling(header: GGUFHeader, hf: dict[str, Any]) -> dict[str, Any] | None:
    prefix = "llama.rope.scaling."
    keys = {key[len(prefix) :]: value for key, value in header.metadata.items() if key.startswith(prefix)}
    keys.pop("finetuned", None)
    kind = keys.pop("type", "none")
    if _ROPE_FACTORS in header.tensors:
        if kind != "none":
            raise refuse(f"{prefix}type", kind, f"none, since the file has {_ROPE_FACTORS}")
        return _llama3_scaling(header, hf)
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise refuse(f"{prefix}type", kind, "none, linear or yarn")
    scaling = {"rope_type": kind, "factor": _shortest(keys.pop("factor", None))}
    original = keys.pop("original_context_length", None)
    if kind == "yarn" and original is not None:
        scaling["original_max_position_embeddings"] = original
    if keys:
        key = min(keys)
        raise refuse(
            prefix + key, keys[key], "not set: only type, factor and original_context_length are supported"
        )
    return scaling


def _llama3_scaling(header: GGUFHeader, hf: dict[str, Any]) -> dict[str, Any]:
    """Llama 3's parameters from the factors stored instead of them; ConfigError if they are not Llama 3's."""
    entry = header.tensors[_ROPE_FACTORS]
    factors = np.concatenate([rows.reshape(-1) for _, rows in _rows(header.mapped, _ROPE_FACTORS, entry)])
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
            f"{_ROPE_FACTORS} holds frequency factors that are not those of Llama 3 "
            "(low_freq_factor 1, high_freq_factor 4, original length 8192)"
        )
    return scaling


class GGUFSource(WeightSource):
    """The tensors of a GGUF file, under Hugging Face names and in Hugging Face row order."""

    def __init__(self, header: GGUFHeader, config: ModelConfig) -> None:
        self.path = header.mapped.path
        self._mapped = header.mapped
        self._config = config
        self._names = {to_hf(name): name for name in header.tensors if name != _ROPE_FACTORS}
        self._tensors = header.tensors

    def names(self) -> list[str]:
        return list(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._find(name).shape

    def file(self, name: str) -> Path:
        return self.path

    def type_name(self, name: str) -> str:
        """The stored format, as `Q4_1`."""
        return gguf_library().GGMLQuantizationType(self._find(name).type).name

    def read_into(self, name: str, out: np.ndarray) -> None:
        entry = self._find(name)
        self.check_out(name, out)
        if out.ndim > 2:
            raise WeightError(f"{self.path}: weight {name!r} has {out.ndim} dimensions; allowed: 1 or 2")
        order = self._row_order(name, entry.shape[0])
        for start, rows in _rows(self._mapped, name, entry):
            if out.ndim == 1:
                out[slice(None) if order is None else order] = rows[0]
            else:
                part = slice(start, start + len(rows))
                out[part if order is None else order[part]] = rows
        self.drop(name)

    def stored(self, name: str) -> tuple[str, Bytes] | None:
        """As WeightSource says; rows of q and k are put in Hugging Face order, which copies them."""
        entry = self._find(name)
        dtype = _STORED.get(self.type_name(name))
        if dtype is None or len(entry.shape) != 2:
            return None
        data = self._mapped.view(np.uint8, entry.offset, entry.size).reshape(entry.shape[0], -1)
        order = self._row_order(name, entry.shape[0])
        if order is None:
            return dtype, data
        rows = np.empty_like(data)
        rows[order] = data
        return dtype, rows

    def drop(self, name: str) -> None:
        entry = self._find(name)
        self._mapped.drop(entry.offset, entry.size)

    def close(self) -> None:
        self._mapped.close()

    def _find(self, name: str) -> GGUFTensor:
        if name not in self._names:
            raise WeightError(f"{self.path}: has no weight {name!r}")
        return self._tensors[self._names[name]]

    def _row_order(self, name: str, rows: int) -> np.ndarray | None:
        """For q and k: the Hugging Face row of each stored row.

        llama.cpp turns neighbouring pairs, so its files interleave the two halves of a head: stored row 2j+s
        of a head is row s*head_dim/2 + j of that head.
        """
        if ".self_attn.q_proj." not in name and ".self_attn.k_proj." not in name:
            return None
        half = self._config.head_dim // 2
        if rows % (2 * half):
            raise WeightError(
                f"{self.path}: weight {name!r} has {rows} rows, not a multiple of head_dim ({2 * half})"
            )
        return np.arange(rows).reshape(-1, 2, half).swapaxes(1, 2).reshape(-1)


def _rows(mapped: MappedFile, name: str, entry: GGUFTensor) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 rows [n, last]) in pieces of about _CHUNK values. A vector is one row."""
    gguf = gguf_library()
    kind = gguf.GGMLQuantizationType(entry.type)
    if kind.name not in SUPPORTED_TYPES:
        raise WeightError(
            f"{mapped.path}: tensor {name!r} has type {kind.name}; allowed: {', '.join(SUPPORTED_TYPES)}"
        )
    columns = entry.shape[-1]
    count = int(np.prod(entry.shape[:-1], dtype=np.int64))
    row_bytes = entry.size // max(count, 1)
    step = max(1, _CHUNK // max(columns, 1))
    for start in range(0, count, step):
        size = min(step, count - start)
        raw = mapped.view(np.uint8, entry.offset + start * row_bytes, size * row_bytes)
        yield start, gguf.quants.dequantize(raw.reshape(size, row_bytes), kind).reshape(size, columns)
