"""Tokenizers of folders without tokenizer.json: byte-level BPE from vocab.json and merges.txt, WordPiece
from vocab.txt. Other files are named, with what to do.

Built as transformers 5.24 builds them for the tokenizer's class.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from ..errors import DataError
from ..reading import one_line, raised_by_library, read_plain_text
from .tokenizer_classes import TokenizerClass, known_class
from .tokenizer_json import read_object

OTHERS = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tiktoken.model", "tekken.json")
FILES = ("vocab.json", "merges.txt", "vocab.txt", *OTHERS)
_ADVICE = (
    "make a tokenizer.json with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
)


def present(folder: Path) -> list[str]:
    """The old tokenizer files of a folder."""
    return [name for name in FILES if (folder / name).is_file()]


def build(folder: Path, settings: Mapping[str, Any], name: str | None) -> tokenizers.Tokenizer:
    """The tokenizer of a folder without tokenizer.json, of the class `name`. DataError says why it cannot be
    built and what to do.
    """
    found, kind = present(folder), known_class(name)
    if not found:
        raise DataError(f"{folder / 'tokenizer.json'}: not found; a model folder needs its tokenizer")
    try:
        if kind.word_piece and "vocab.txt" in found:
            return _word_piece(folder / "vocab.txt", _names(kind, settings))
        if kind.byte_level and "vocab.json" in found and "merges.txt" in found:
            return _byte_level(folder, kind, _names(kind, settings), settings)
    except DataError:
        raise
    except BaseException as error:
        if not raised_by_library(error):
            raise
        raise DataError(f"{folder / found[0]}: not a vocabulary: {one_line(error)}") from None
    raise DataError(
        f"{folder}: has no tokenizer.json, only {', '.join(found)} of {name or 'an unnamed class'}, which "
        f"cannot be read here; {_ADVICE}"
    )


def _names(kind: TokenizerClass, settings: Mapping[str, Any]) -> dict[str, str]:
    """The class's special tokens, or those that the settings give in their places."""
    names = dict(kind.special)
    for key in names:
        token = settings.get(key)
        text = token.get("content") if isinstance(token, Mapping) else token
        if isinstance(text, str):
            names[key] = text
    return names


def _word_piece(path: Path, names: Mapping[str, str]) -> tokenizers.Tokenizer:
    lines = _lines(path)
    vocabulary = {token: number for number, token in enumerate(lines)}
    if names["unk_token"] not in vocabulary:
        raise DataError(f"{path}: has no line {names['unk_token']}; {_ADVICE}")
    core = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=names["unk_token"]))
    core.normalizer = normalizers.BertNormalizer()  # the settings come later, see tokenizer_settings
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    first, last = names["cls_token"], names["sep_token"]
    if first in vocabulary and last in vocabulary:
        core.post_processor = processors.TemplateProcessing(
            single=f"{first}:0 $A:0 {last}:0",
            pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
            special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
        )
    return core


def _byte_level(
    folder: Path, kind: TokenizerClass, names: Mapping[str, str], settings: Mapping[str, Any]
) -> tokenizers.Tokenizer:
    path = folder / "vocab.json"
    vocabulary = read_object(path)
    if not all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 31 for n in vocabulary.values()
    ):
        raise DataError(f"{path}: holds an id that is no whole number; allowed: 0 or more")
    merges = []
    for number, line in enumerate(_lines(folder / "merges.txt"), 1):
        if not line.strip() or line.startswith("#version"):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise DataError(f"{folder / 'merges.txt'}, line {number}: is {line!r:.60}; allowed: two tokens")
        merges.append((pair[0], pair[1]))
    core = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    if kind.nfc:
        core.normalizer = normalizers.NFC()
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind.split is None)
    core.pre_tokenizer = (
        level
        if kind.split is None
        else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(kind.split), "isolated"), level])
    )
    core.decoder = decoders.ByteLevel()
    if kind.pair is not None:
        first, last = (names[key] for key in kind.pair)
        missing = next((text for text in (first, last) if text not in vocabulary), None)
        if missing is not None:
            raise DataError(f"{path}: has no {missing}; {_ADVICE}")
        core.post_processor = processors.RobertaProcessing(
            (last, vocabulary[last]),
            (first, vocabulary[first]),
            add_prefix_space=settings.get("add_prefix_space") is True,
        )
        return core
    bos, eos = (
        text if settings.get(flag) is True and (text := names.get(key, "")) in vocabulary else ""
        for flag, key in (("add_bos_token", "bos_token"), ("add_eos_token", "eos_token"))
    )
    if bos or eos:
        single = f"{bos + ':0 ' if bos else ''}$A:0{' ' + eos + ':0' if eos else ''}"
        both = f"{single}{' ' + bos + ':1' if bos else ''} $B:1{' ' + eos + ':1' if eos else ''}"
        core.post_processor = processors.TemplateProcessing(
            single=single,
            pair=both,
            special_tokens=[(text, vocabulary[text]) for text in {bos, eos} - {""}],
        )
    return core


def _lines(path: Path) -> list[str]:
    return read_plain_text(path, DataError).removesuffix("\n").split("\n")
