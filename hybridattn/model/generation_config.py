"""generation_config.json, the file beside config.json in which transformers keeps how a model is sampled.

Its end-of-text tokens stop generation here too. Its other settings are kept for transformers and are not
applied: `generate` is greedy unless its own options say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checks import refuse
from ..data.tokenizer_json import read_object
from ..errors import ConfigError, DataError

NAME = "generation_config.json"


def read_generation(folder: Path) -> dict[str, Any]:
    """The file's content, {} where there is none. ConfigError that names it."""
    try:
        content = read_object(folder / NAME)
    except DataError as error:
        raise ConfigError(str(error)) from None
    try:
        end_tokens(content)
    except ConfigError as error:
        raise ConfigError(f"{folder / NAME}: {error}") from None
    return content


def end_tokens(content: Mapping[str, Any]) -> tuple[int, ...]:
    """Its end-of-text tokens: one, a list of them, or none."""
    given = content.get("eos_token_id")
    if given is None:
        return ()
    ids = given if isinstance(given, list) else [given]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise refuse("eos_token_id", given, "a token id, a list of them, or null")
    return tuple(ids)
