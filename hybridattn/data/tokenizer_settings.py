"""Settings of a tokenizer that stand outside tokenizer.json, applied as transformers applies them: added
tokens, special tokens, and what a tokenizer class changes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, normalizers, pre_tokenizers

from ..errors import DataError
from .tokenizer_classes import SPECIAL, TokenizerClass

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def content_of(name: str, token: Any) -> str | None:
    """The text of a token that a file gives as a text, as an object with content, or as null."""
    text = token.get("content") if isinstance(token, Mapping) else token
    if text is None or (isinstance(text, str) and text):
        return text
    raise DataError(f"{name} is {token!r:.80}; allowed: a token's text, or an object with content")


def _added(name: str, token: Any, **defaults: bool) -> AddedToken:
    text = content_of(name, token)
    if text is None:
        raise DataError(f"{name} is {token!r:.80}; allowed: a token's text, or an object with content")
    flags = dict(defaults)
    if isinstance(token, Mapping):
        flags |= {flag: token[flag] for flag in _FLAGS if flag in token}
    if not all(isinstance(value, bool) for value in flags.values()):
        raise DataError(f"{name} is {token!r:.120}; allowed: true or false for {', '.join(_FLAGS)}")
    return AddedToken(text, **flags)


def add_tokens(core: tokenizers.Tokenizer, settings: Mapping[str, Any], added: Mapping[str, Any]) -> None:
    """Add what settings and `added` (an added_tokens.json) name and the tokenizer has not: first the tokens
    with an id, then special tokens. DataError where a token would get another id than the files say.
    """
    for number, token in _numbered(settings, added):
        known = core.get_added_tokens_decoder()
        before = core.token_to_id(token.content)
        if before is None or repr(known.get(before)) != repr(token):
            core.add_tokens([token])
        found = core.token_to_id(token.content)
        if found == number:
            continue
        if before is None:
            raise DataError(
                f"added token {token.content!r} has id {number}, but the tokenizer's next id is {found}: "
                "tokens between are missing"
            )
        warnings.warn(
            f"added token {token.content!r} has id {number} in the settings and {found} in the tokenizer, "
            "which is used",
            stacklevel=2,
        )
    listed = {token.content for token in core.get_added_tokens_decoder().values()}
    for name, token in _special(settings):
        new = _added(name, token, special=True, normalized=False)
        new.special = True
        if new.content not in listed:
            core.add_tokens([new])
            listed.add(new.content)


def _numbered(settings: Mapping[str, Any], added: Mapping[str, Any]) -> list[tuple[int, AddedToken]]:
    """The tokens with an id, in its order."""
    found: dict[int, AddedToken] = {}
    table = settings.get("added_tokens_decoder")
    if table is not None:
        if not isinstance(table, Mapping):
            raise DataError(f"added_tokens_decoder is {table!r:.80}; allowed: an object of ids and tokens")
        for key, token in table.items():
            if not (str(key).isdecimal() and len(str(key)) < 11):
                raise DataError(f"added_tokens_decoder has the id {key!r:.80}; allowed: whole numbers")
            found[int(key)] = _added(f"added_tokens_decoder[{key}]", token, special=False)
        return sorted(found.items(), key=lambda item: item[0])
    special = {content_of(name, token) for name, token in _special(settings)}
    for text, number in added.items():
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 31:
            raise DataError(f"added_tokens.json gives {text!r:.80} the id {number!r:.40}; allowed: 0 or more")
        mark = text in special
        found[number] = _added("added_tokens.json", text, special=mark, normalized=not mark)
    return sorted(found.items(), key=lambda item: item[0])


def _special(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(field, token) of every special token that the settings name."""
    for name in SPECIAL:
        if settings.get(name) is not None:
            yield name, settings[name]
    for name in ("additional_special_tokens", "extra_special_tokens"):
        more = settings.get(name) or []
        if not isinstance(more, (list, Mapping)):
            raise DataError(f"{name} is {more!r:.80}; allowed: a list of tokens")
        for token in more.values() if isinstance(more, Mapping) else more:
            yield name, token


def apply_class(core: tokenizers.Tokenizer, settings: Mapping[str, Any], kind: TokenizerClass) -> None:
    """What the tokenizer's class sets over tokenizer.json. DataError for a setting that cannot be applied."""
    core.encode_special_tokens = _flag(settings, "split_special_tokens", False)
    if kind.word_piece and isinstance(core.model, tokenizers.models.WordPiece):
        _word_piece(core, settings)
    elif kind.byte_level:
        _byte_level(core, _flag(settings, "add_prefix_space", False))
    elif kind.metaspace and settings.get("add_prefix_space") is not None:
        _metaspace(core, _flag(settings, "add_prefix_space", True))
    for name, kept in (("add_bos_token", "bos"), ("add_eos_token", "eos")):
        _say_if_ignored(core, settings, name, kept)


def _word_piece(core: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    accents = settings.get("strip_accents")
    wanted = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=_flag(settings, "tokenize_chinese_chars", True),
        strip_accents=None if accents is None else _flag(settings, "strip_accents", False),
        lowercase=_flag(settings, "do_lower_case", True),
    )
    if core.normalizer is None or isinstance(core.normalizer, normalizers.BertNormalizer):
        core.normalizer = wanted
        return
    given = [
        name for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars") if name in settings
    ]
    if given:
        raise DataError(
            f"{given[0]} is {settings[given[0]]!r}, but the normalizer of tokenizer.json is none of BERT's; "
            "allowed: tokenizer_config.json without it"
        )


def _byte_level(core: tokenizers.Tokenizer, space: bool) -> None:
    """Whether a space is put before a text that has none."""
    if core.pre_tokenizer is None:
        return
    state = json.loads(core.pre_tokenizer.__getstate__())
    parts = state["pretokenizers"] if state["type"] == "Sequence" else [state]
    places = [part for part in parts if part["type"] == "ByteLevel"]
    if all(part["add_prefix_space"] == space for part in places):
        return
    for part in places:
        part["add_prefix_space"] = space
    core.pre_tokenizer = _from_state(core, "pre_tokenizer", state)


def _metaspace(core: tokenizers.Tokenizer, space: bool) -> None:
    """The same for SentencePiece's kind: the mark of a space before a text, and its way back."""
    mark = "\u2581"
    if space:
        before = core.encode("a", add_special_tokens=False).tokens
        if before and not before[0].startswith(mark):
            raise DataError("add_prefix_space is true, but tokenizer.json puts no space before a text")
        return
    if core.normalizer is not None:
        state = json.loads(core.normalizer.__getstate__())
        parts = state["normalizers"] if state["type"] == "Sequence" else [state]
        kept = [part for part in parts if not (part["type"] == "Prepend" and part["prepend"] == mark)]
        core.normalizer = (
            _from_state(core, "normalizer", {"type": "Sequence", "normalizers": kept}) if kept else None
        )
    if isinstance(core.pre_tokenizer, pre_tokenizers.Metaspace):
        state = json.loads(core.pre_tokenizer.__getstate__())
        state["prepend_scheme"] = "never"
        core.pre_tokenizer = _from_state(core, "pre_tokenizer", state)
    if core.decoder is not None:
        state = json.loads(core.decoder.__getstate__())
        if state["type"] == "Sequence":
            state["decoders"] = [part for part in state["decoders"] if part["type"] != "Strip"]
            core.decoder = _from_state(core, "decoder", state)
        elif state["type"] == "Metaspace":
            state["prepend_scheme"] = "never"
            core.decoder = _from_state(core, "decoder", state)


def _from_state(core: tokenizers.Tokenizer, part: str, state: dict[str, Any]) -> Any:
    """A part of a tokenizer from its JSON."""
    whole = {
        "version": "1.0",
        "added_tokens": [],
        part: state,
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
    return getattr(tokenizers.Tokenizer.from_str(json.dumps(whole)), part)


def _say_if_ignored(core: tokenizers.Tokenizer, settings: Mapping[str, Any], name: str, kind: str) -> None:
    """transformers 5 leaves add_bos_token and add_eos_token aside where there is a tokenizer.json."""
    wanted, text = settings.get(name), content_of(f"{kind}_token", settings.get(f"{kind}_token"))
    if not isinstance(wanted, bool) or text is None or core.post_processor is None:
        return
    ids = core.encode("a").ids
    at = ids[:1] if kind == "bos" else ids[-1:]
    if (at == [core.token_to_id(text)]) != wanted:
        warnings.warn(
            f"{name} is {wanted} in tokenizer_config.json, but the post-processor of tokenizer.json "
            f"{'adds' if not wanted else 'does not add'} {text!r}; tokenizer.json is followed",
            stacklevel=2,
        )


def _flag(settings: Mapping[str, Any], name: str, default: bool) -> bool:
    value = settings.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise DataError(f"{name} is {value!r:.80}; allowed: true, false")
    return value
