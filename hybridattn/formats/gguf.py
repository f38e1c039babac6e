"""A GGUF file as a model: its configuration, and its weights under Hugging Face names.

Needs the `gguf` package for the block formats. Architectures: those of `gguf_config`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, WeightError
from ..families import config_from_hf
from ..families.config import ModelConfig
from . import gguf_bamba, gguf_gemma3, gguf_qwen35
from .dtypes import Bytes
from .exported import as_exported
from .gguf_config import ROPE_FACTORS, hf_config
from .gguf_header import GGUFHeader, GGUFTensor, gguf_library, open_header
from .gguf_names import to_hf
from .mapped import MappedFile
from .source import WeightSource

# fmt: off
SUPPORTED_TYPES = (
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS",
    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
)
# fmt: on
_STORED = {"F16": "float16", "BF16": "bfloat16", "Q8_0": "q8_0", "Q4_0": "q4_0", "Q4_1": "q4_1"}
_CHUNK = 1 << 22  # values converted at a time


@dataclass
class GGUFModel:
    """What `open_gguf` gives. metadata: the file's own keys, from which the tokenizer is rebuilt. layers: the
    mixers of a hybrid that `export` wrote; None: those of the family.
    """

    config: ModelConfig
    source: WeightSource
    metadata: dict[str, Any]
    layers: list[list[dict[str, Any]]] | None = None


def open_gguf(path: str | os.PathLike[str]) -> GGUFModel:
    """Open a GGUF file of an architecture that `gguf_config` knows.

    Raises WeightError for a damaged file, ConfigError for one that is whole but not supported,
    HybridAttnError when the `gguf` package is missing. Nothing but the header is read here.
    """
    header = open_header(path)
    try:
        hf = hf_config(header)
        source, architecture = GGUFSource(header, hf["head_dim"]), header.metadata["general.architecture"]
        theirs: WeightSource = source
        if architecture == gguf_qwen35.ARCHITECTURE:
            theirs = gguf_qwen35.Qwen35Tensors(source, hf)
        elif architecture == gguf_bamba.ARCHITECTURE:
            theirs = gguf_bamba.BambaTensors(source)
        elif architecture == gguf_gemma3.ARCHITECTURE:
            theirs = gguf_gemma3.Gemma3Tensors(source)
        ours = as_exported(theirs, hf)
        if ours is None:
            return GGUFModel(config_from_hf(hf), theirs, header.metadata)
        return GGUFModel(config_from_hf(ours.hf), ours, header.metadata, ours.layers)
    except ConfigError as error:
        header.mapped.close()
        raise ConfigError(f"{header.mapped.path}: {error}") from None


class GGUFSource(WeightSource):
    """The tensors of a GGUF file, under Hugging Face names and in Hugging Face row order."""

    def __init__(self, header: GGUFHeader, head_dim: int) -> None:
        self.path = header.mapped.path
        self._mapped = header.mapped
        self._head_dim = head_dim
        self._architecture = str(header.metadata.get("general.architecture"))
        names = (name for name in header.tensors if name != ROPE_FACTORS)
        self._names = {to_hf(name, self._architecture): name for name in names}
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
        """For q and k of `llama` and Bamba: the Hugging Face row of each stored row.

        llama.cpp turns neighbouring pairs there, so its files interleave the two halves of a head: stored row
        2j+s of a head is row s*head_dim/2 + j of that head. Its Qwen graphs turn halves.
        """
        if self._architecture not in ("llama", gguf_bamba.ARCHITECTURE):
            return None
        if ".self_attn.q_proj." not in name and ".self_attn.k_proj." not in name:
            return None
        half = self._head_dim // 2
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
