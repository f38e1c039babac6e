"""Writing a GGUF file through the `gguf` package: keys, then tensors one at a time in the type asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from ..formats.gguf_header import gguf_library
from ..formats.gguf_names import from_hf
from .weights import Array

Values = dict[str, Any]
_TYPES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "q8_0": "Q8_0",
    "q4_0": "Q4_0",
    "q4_1": "Q4_1",
}
_FILE_TYPES = {name: f"MOSTLY_{kind}" for name, kind in _TYPES.items()} | {"float32": "ALL_F32"}
# Types of 4 bits keep these finer, since they lose most (as Model.astype does).
_OUTER = ("token_embd.weight", "output.weight")
# Small and sensitive: the gates of the recurrence, its norm and the convolution.
_EXACT = ("ssm_alpha.weight", "ssm_beta.weight", "ssm_conv1d.weight", "ssm_norm.weight", "ssm_a", "ssm_d")


def write_file(
    path: Path,
    architecture: str,
    keys: Mapping[str, Any],
    vocabulary: Mapping[str, Any],
    tensors: Iterable[tuple[str, Array]],
    dtype: str,
) -> dict[str, str]:
    """Write the file. Returns {tensor: type} of matrices that had to be kept in another type than asked for,
    because their rows are not whole blocks. Raises ExportError for a number that the type cannot hold.
    """
    library = gguf_library()
    writer = library.GGUFWriter(str(path), architecture)
    kept: dict[str, str] = {}
    try:
        for key, value in {**keys, **vocabulary}.items():
            _add(writer, library, key, value)
        writer.add_quantization_version(library.constants.GGML_QUANT_VERSION)
        writer.add_file_type(int(library.LlamaFileType[_FILE_TYPES[dtype]]))
        for name, array in tensors:
            named = name if name == "rope_freqs.weight" else from_hf(name, architecture)
            kind = _type_of(named, array, dtype)
            if kind != _TYPES[dtype] and array.ndim > 1 and kind == "F16":
                kept[named] = kind
            _add_tensor(writer, library, named, array, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return kept


def _type_of(name: str, array: Array, dtype: str) -> str:
    if array.ndim == 1 or name.endswith(_EXACT):
        return "F32"
    kind = _TYPES[dtype]
    if kind.startswith("Q4") and name in _OUTER:
        kind = "Q8_0"
    return "F16" if kind.startswith("Q") and array.shape[-1] % 32 else kind


def _add_tensor(writer: Any, library: Any, name: str, array: Array, kind: str) -> None:
    values = np.ascontiguousarray(array, np.float32)
    if kind == "F32":
        writer.add_tensor(name, values)
        return
    number = library.GGMLQuantizationType[kind]
    with np.errstate(over="ignore"):
        packed = library.quants.quantize(values, number)
        wrong = kind != "BF16" and not np.isfinite(library.quants.dequantize(packed, number)).all()
    if wrong:
        raise ExportError(
            f"{name} has numbers of up to {float(np.abs(values).max()):.4g}, too large for the float16 of "
            f"{kind}; allowed: bfloat16 or float32"
        )
    if kind == "F16":
        writer.add_tensor(name, packed)
    else:
        writer.add_tensor(name, packed, raw_dtype=number)


def _add(writer: Any, library: Any, key: str, value: Any) -> None:
    kinds = library.GGUFValueType
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_key_value(key, value, kinds.UINT32)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)
