"""What a model folder says about its tokenizer: tokenizer.json or older files, and the files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from ..errors import DataError
from ..reading import one_line, raised_by_library, read_plain_text, stranger
from . import old_tokenizer_files
from .tokenizer_classes import class_name, known_class
from .tokenizer_json import read_object, sparse_model
from .tokenizer_settings import add_tokens, apply_class, content_of

TEMPLATES = "additional_chat_templates"
# of which a folder that gets a tokenizer keeps none: they would be read beside it
LEFTOVERS = ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


@dataclass(frozen=True)
class Contents:
    """core: with all settings applied. special: bos_token_id and eos_token_id. templates: chat templates by
    name. settings: tokenizer_config.json with what other files add to it. model: see `sparse_model`.
    """

    core: tokenizers.Tokenizer
    special: dict[str, int | None]
    templates: dict[str, str]
    settings: dict[str, Any]
    model: dict[str, Any] | None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has files of a tokenizer, of whatever kind."""
    return (folder / "tokenizer.json").is_file() or bool(old_tokenizer_files.present(folder))


def read_folder(folder: Path) -> Contents:
    """Raises DataError that names the file."""
    path = folder / "tokenizer.json"
    settings = read_object(folder / "tokenizer_config.json")
    config = read_object(folder / "config.json")
    added: dict[str, Any] = {}
    if "added_tokens_decoder" not in settings:  # else these two are of no account, as in transformers
        named = read_object(folder / "special_tokens_map.json")
        settings |= {key: _as_in_settings(value) for key, value in named.items()}
        added = read_object(folder / "added_tokens.json")
    name = class_name(settings, config)
    if name is not None:
        settings["tokenizer_class"] = name
    core = _core(path) if path.is_file() else old_tokenizer_files.build(folder, settings, name)
    templates = _templates(folder, settings.pop("chat_template", None))
    try:
        padding = core.padding
        core.no_padding()  # before a first text is encoded: a length of some training script takes memory
        core.no_truncation()
        if padding and "pad_token" not in known_class(name).special:  # as in transformers
            settings.setdefault("pad_token", padding["pad_token"])
        usual = known_class(name).special.items()
        there = {key: text for key, text in usual if core.token_to_id(text) is not None}
        add_tokens(core, {**there, **settings}, added)
        apply_class(core, settings, known_class(name))
        special = {f"{kind}_token_id": _special(core, kind, settings, config) for kind in ("bos", "eos")}
    except DataError as error:
        raise DataError(f"{folder / 'tokenizer_config.json'}: {error}") from None
    _try_out(core, path)
    return Contents(core, special, templates, settings, sparse_model(core, path))


def _as_in_settings(value: Any) -> Any:
    """A token of special_tokens_map.json as tokenizer_config.json has it, where objects say what they are."""
    if isinstance(value, list):
        return [_as_in_settings(item) for item in value]
    if isinstance(value, dict) and "content" in value:
        return {"__type": "AddedToken", **value}
    return value


def _core(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except BaseException as error:
        if not raised_by_library(error):
            raise
        with path.open("rb") as file:
            other = stranger(file.read(100))
        raise DataError(f"{path}: {other or f'not a tokenizer: {one_line(error)}'}") from None


def _try_out(core: tokenizers.Tokenizer, path: Path) -> None:
    """DataError for a tokenizer whose parts do not fit each other, found when a first text is encoded."""
    try:
        ids = core.encode("a").ids
    except Exception:  # one without an unknown token may still have other texts
        return
    except BaseException as error:
        if not raised_by_library(error):
            raise
        raise DataError(f"{path}: its parts do not fit: {one_line(error)}") from None
    largest = max(core.get_vocab(with_added_tokens=True).values(), default=-1)
    if ids and max(ids) > largest:
        raise DataError(
            f"{path}: puts token id {max(ids)} around a text; allowed: 0 to {largest}, as its tokens"
        )


def _special(
    core: tokenizers.Tokenizer, kind: str, settings: Mapping[str, Any], config: Mapping[str, Any]
) -> int | None:
    """The id of the beginning- or end-of-text token: of tokenizer_config.json, else what the class has, else
    what config.json names, if the tokenizer has it.
    """
    text = content_of(f"{kind}_token", settings.get(f"{kind}_token"))
    if text is not None:
        return core.token_to_id(text)
    if f"{kind}_token" not in settings:
        usual = known_class(class_name(settings, config)).special.get(f"{kind}_token")
        number = core.token_to_id(usual) if usual else None
        if number is not None:
            return number
    ids = config.get(f"{kind}_token_id")
    first: Any = ids[0] if isinstance(ids, list) and ids else ids
    if isinstance(first, bool) or not isinstance(first, int) or not 0 <= first < 1 << 31:
        return None
    return first if core.id_to_token(first) is not None else None


def _templates(folder: Path, given: Any) -> dict[str, str]:
    """Chat templates by name. Files of their own go before tokenizer_config.json."""
    found: dict[str, str] = {}
    files = sorted((folder / TEMPLATES).glob("*.jinja"))
    if (folder / "chat_template.jinja").is_file():
        found["default"] = read_plain_text(folder / "chat_template.jinja", DataError)
    found |= {file.stem: read_plain_text(file, DataError) for file in files}
    if found or given is None:
        return found
    if isinstance(given, str):
        return {"default": given}
    where = folder / "tokenizer_config.json"
    if isinstance(given, Mapping):
        given = [{"name": key, "template": value} for key, value in given.items()]
    if not isinstance(given, list):
        raise DataError(f"{where}: chat_template is a {type(given).__name__}; allowed: a text, or a list")
    for row in given:
        if not (
            isinstance(row, Mapping)
            and isinstance(row.get("name"), str)
            and isinstance(row.get("template"), str)
        ):
            raise DataError(
                f"{where}: chat_template holds {row!r:.80}; allowed: objects with name and template"
            )
        found[row["name"]] = row["template"]
    return found
