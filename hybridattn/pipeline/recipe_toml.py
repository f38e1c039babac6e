"""Recipes as TOML: read, laid over each other, and written with what each key is for."""

from __future__ import annotations

import dataclasses
import inspect
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .recipe_keys import keys, paths


def parse_toml(text: str, origin: str) -> dict[str, Any]:
    """TOML text to a dict; ConfigError with the parser's line number."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"recipe {origin}: not valid TOML: it is nested too deep") from None
    except ValueError as error:  # the parser's own, and a number of too many digits
        raise ConfigError(f"recipe {origin}: not valid TOML: {error}") from None


def parse_setting(text: str) -> dict[str, Any]:
    """'table.key=value' from the command line -> {"table": {"key": value}}."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"setting {text!r}: write it as table.key=value, for example align.tokens=100000")
    try:
        parsed = parse_toml(f"x = {value.strip()}", "--set")["x"]
    except ConfigError:
        parsed = value.strip()
    for part in reversed(name.strip().split(".")):
        parsed = {part: parsed}
    return parsed


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, table by table. Another kind of mixer drops the options of the old one."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            another_kind = key == "mixer" and value.get("kind", old.get("kind")) != old.get("kind")
            result[key] = dict(value) if another_kind else merge(old, value)
        else:
            result[key] = value
    return result


def place(table: dict[str, Any], folder: Path, parts: Mapping[str, type]) -> None:
    """Paths in a recipe are relative to the recipe's own folder when they exist there; changes `table`."""

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(item) for item in value]
        known = isinstance(value, str) and value and (folder / value).exists()
        return str((folder / value).resolve()) if known else value

    for name, part in parts.items():
        for each in paths(part):
            if isinstance(table.get(name), dict) and each in table[name]:
                table[name][each] = placed(table[name][each])


def write_toml(recipe: Any, tables: dict[str, Any], notes: Mapping[str, str], explain: bool) -> str:
    """A recipe, a dataclass of tables, as TOML; tables: the same in plain dicts. notes: comments by key
    ("align.lr"). explain: with what each table and key is for, as comments.
    """
    plain = {name: value for name, value in tables.items() if not isinstance(value, dict)}
    about = {name: field.metadata.get("help", "") for name, field in keys(recipe).items()}
    lines = [_line(name, value, about[name] if explain else "") for name, value in plain.items()]
    for name, table in tables.items():
        if name in plain:
            continue
        part = getattr(recipe, name)
        known = keys(part) if dataclasses.is_dataclass(part) else {}
        text = (inspect.getdoc(part) or "") if known else about[name]
        lines += ["", *([f"# {line}".rstrip() for line in text.splitlines()] if explain else [])]
        lines.append(f"[{name}]")
        for each, value in table.items():
            said = known[each].metadata["help"] if explain and each in known else ""
            lines.append(_line(each, value, "; ".join(filter(None, [notes.get(f"{name}.{each}"), said]))))
    return "\n".join(lines) + "\n"


def _line(name: str, value: Any, comment: str) -> str:
    """JSON's scalars and arrays are TOML's, but for two surrogates in the place of one character."""
    written = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"{name} = {written}" + (f"  # {comment}" if comment else "")
