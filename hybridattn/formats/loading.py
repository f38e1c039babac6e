"""Parameters from the tensors of a weight file and back: names, cuts, tied tensors, finite values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import WeightError
from ..families import cut_of, layout_of
from ..families.config import ModelConfig
from ..families.layout import Cut
from ..results.progress import bar
from .dtypes import Bytes, bad_row
from .source import WeightSource

Store = Callable[[str, str, Bytes], None]
_CHUNK = 1 << 20


def load_into(
    params: Mapping[str, np.ndarray],
    source: WeightSource,
    config: ModelConfig,
    store: Mapping[str, Store] | None = None,
) -> None:
    """Fill `params` (internal names, float32 arrays that are written in place) from `source`.

    store: for the parameters that may stay as they lie in the file, what takes (name, dtype, data) instead.

    Raises WeightError, naming file and tensor, for a missing weight, an unexpected one, a wrong shape, or a
    value that is NaN or infinite. Everything but values is checked before anything is written.
    """
    layout = layout_of(config)
    present = dict.fromkeys(source.names())
    cuts = {internal: layout.cut(config, internal) for internal in params}
    found = {
        cut.name: next((name for name in layout.spellings(cut.name) if name in present), None)
        for cut in cuts.values()
    }
    if config.lm_head and config.tie_embeddings:  # one tensor, which a file may hold under either name
        for internal, others in (("embed.weight", ["lm_head.weight"]), ("lm_head.bias", [])):
            if internal in cuts and found[cuts[internal].name] is None:
                names = [layout.cut(config, other).name for other in others] + layout.twins(internal)
                found[cuts[internal].name] = next(
                    (same for name in names for same in layout.spellings(name) if same in present), None
                )
    missing = [name for name, spelled in found.items() if spelled is None]
    if missing:
        raise WeightError(f"{source.path}: weight {missing[0]!r} is missing{_and_more(missing)}")
    cuts = {internal: replace(cut, name=str(found[cut.name])) for internal, cut in cuts.items()}
    used, tied = {cut.name for cut in cuts.values()}, None
    if config.lm_head and config.tie_embeddings:
        heads = [layout.cut(config, "lm_head.weight").name, *layout.twins("lm_head.weight")]
        spelled = (same for name in heads for same in layout.spellings(name))
        tied = next((name for name in spelled if name in present and name not in used), None)
    extra = [
        name for name in present if name not in used and name != tied and not layout.ignored.search(name)
    ]
    if extra:
        raise WeightError(
            f"{source.file(extra[0])}: unexpected weight {extra[0]!r}{_and_more(extra)}; "
            f"this {config.family} configuration has no such parameter"
        )
    for internal, cut in cuts.items():
        source.check_out(cut.name, np.broadcast_to(np.float32(0), cut.tensor_shape(params[internal].shape)))
    reader = _Reader(source)
    for internal, cut in bar(cuts.items(), "load", total=len(cuts)):
        keep = (store or {}).get(internal)
        kept = source.stored(cut.name) if keep else None
        if keep and kept:
            data = _cut_stored(cut, kept[1], params[internal].shape)
            _check_stored(kept[0], data, cut.name, source)
            keep(internal, kept[0], data)
        else:
            reader.read(cut, params[internal])
    if tied and "embed.weight" in params:
        _check_tied(cuts["embed.weight"].name, tied, source)


class _Reader:
    """Reads parameters as float32, a tensor that holds several of them once."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        self._name = ""
        self._tensor = np.empty(0, np.float32)

    def read(self, cut: Cut, out: np.ndarray) -> None:
        if cut.whole:
            self._source.read_into(cut.name, out)
        else:
            if cut.name != self._name:
                self._name, self._tensor = cut.name, np.empty(cut.tensor_shape(out.shape), np.float32)
                self._source.read_into(cut.name, self._tensor)
            cut.take(self._tensor, out)
        if cut.less:
            out += np.float32(cut.less)
        _check_finite(out, cut.name, self._source)


def _cut_stored(cut: Cut, data: Bytes, shape: tuple[int, ...]) -> Bytes:
    """The parameter's own bytes [rows, bytes]: those of the file, or a copy where it is a part of a tensor.
    Columns are cut from types of 2 bytes only.
    """
    if cut.whole:
        return data
    if not cut.transposed:  # whole rows, of any type
        rows = np.empty((shape[0], data.shape[1]), np.uint8)
        cut.take(data, rows)
        return rows
    out = np.empty(shape, np.uint16)
    cut.take(data.view(np.uint16), out)
    return out.view(np.uint8)


def tensors_of(
    config: ModelConfig, arrays: Mapping[str, np.ndarray], dtype: Any = None
) -> dict[str, np.ndarray]:
    """The tensors of a Hugging Face weight file from parameters by internal name: what `load_into` reads.

    dtype: of all tensors, None keeps that of every parameter; those that then are tensors of their own are
    not copied.
    """
    tensors: dict[str, np.ndarray] = {}
    for internal, parameter in arrays.items():
        cut = cut_of(config, internal)
        # rounded once: a zero-centred weight has more digits than the same with 1 added
        array = parameter - np.float32(cut.less) if cut.less else parameter
        array = array.astype(dtype if dtype is not None else parameter.dtype, copy=False)
        if cut.whole:
            tensors[cut.name] = array
            continue
        if cut.name not in tensors:
            tensors[cut.name] = np.empty(cut.tensor_shape(array.shape), array.dtype)
        cut.put(array, tensors[cut.name])
    return tensors


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _check_finite(values: np.ndarray, name: str, source: WeightSource) -> None:
    flat = values.reshape(-1)
    for start in range(0, flat.size, _CHUNK):  # in pieces: a mask of a whole embedding is large
        wrong = ~np.isfinite(flat[start : start + _CHUNK])
        if wrong.any():
            first = start + int(wrong.argmax())
            place = [int(i) for i in np.unravel_index(first, values.shape)]
            raise WeightError(
                f"{source.file(name)}: weight {name!r} has values that are NaN or infinite, "
                f"the first at {place}: {flat[first]}"
            )


def _check_stored(dtype: str, data: Bytes, name: str, source: WeightSource) -> None:
    row = bad_row(data, dtype)
    if row is not None:
        raise WeightError(
            f"{source.file(name)}: weight {name!r} has values that are NaN or infinite, "
            f"the first in row {row}"
        )
    source.drop(name)


def _check_tied(embedding: str, name: str, source: WeightSource) -> None:
    """A tied model may store its embedding twice, but two different ones mean that the config is wrong."""
    embed, head = (np.empty(source.shape(each), np.float32) for each in (embedding, name))
    source.read_into(embedding, embed)
    source.read_into(name, head)
    if not np.array_equal(embed, head):
        raise WeightError(
            f"{source.file(name)}: weight {name!r} differs from the embedding, but tie_word_embeddings "
            "is true; set it to false in config.json if the head is meant to be used"
        )
