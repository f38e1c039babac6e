"""JSON files of a tokenizer's folder, and tokenizer.json written from a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from ..errors import DataError
from ..reading import read_json

_SPARSE = 1 << 20  # ids that a vocabulary may leave free before the library's own writer takes too long


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when there is no such file."""
    try:
        value = read_json(path, DataError)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}; allowed: an object")
    return value


def sparse_model(core: tokenizers.Tokenizer, path: Path) -> dict[str, Any] | None:
    """The "model" of tokenizer.json, to write again, where its ids leave so much free that the library, which
    counts through all of them, would take gigabytes.
    """
    ids = core.get_vocab(with_added_tokens=True).values()
    if max(ids, default=0) - len(ids) < _SPARSE:
        return None
    if not path.is_file():  # built from older files
        raise DataError(
            f"{path.parent}: holds token id {max(ids)} of {len(ids)} tokens; allowed: no such gap"
        )
    model = read_object(path).get("model")
    return model if isinstance(model, dict) else None


def to_json(core: tokenizers.Tokenizer, model: Mapping[str, Any] | None) -> str:
    """The text of tokenizer.json. model: see `sparse_model`."""
    if model is None:
        return core.to_str(pretty=True)
    added = sorted(core.get_added_tokens_decoder().items())
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, **_token(token)} for number, token in added],
        "normalizer": _state(core.normalizer),
        "pre_tokenizer": _state(core.pre_tokenizer),
        "post_processor": _state(core.post_processor),
        "decoder": _state(core.decoder),
        "model": dict(model),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _state(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())


def _token(token: tokenizers.AddedToken) -> dict[str, Any]:
    names = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return {name: getattr(token, name) for name in names}
