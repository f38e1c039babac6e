"""The tokenizer inside a GGUF file: byte-level BPE whose pre-tokenizer the file names, or SentencePiece.

Sources: the `tokenizer.ggml.*` keys of the GGUF specification, the splitting rules of llama.cpp, and the
`tokenizer.json` files of the models themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.pre_tokenizers import PreTokenizer

from ..errors import DataError
from ..reading import one_line, raised_by_library


class UnknownTokenizer(DataError):
    """A file's tokenizer is of a kind that is not rebuilt here; its model works on token ids."""


_CONTROL, _USER_DEFINED = 3, 4  # token types: never printed; matched before anything is split

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPACE = "\u2581"  # what SentencePiece writes for a space
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_QWEN35 = _QWEN2.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")


def _split(*patterns: str) -> PreTokenizer:
    """Split at the matches of each pattern in turn, then map bytes to letters."""
    parts: list[PreTokenizer] = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence(
        [*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _words() -> PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _words()])


def _default() -> PreTokenizer:
    return _split(r"[\p{P}\$\+<=>\^~\|]+", _WORDS, r"\p{N}+", r"[0-9][0-9][0-9]")


PRE_TOKENIZERS: dict[str, Callable[[], PreTokenizer]] = {
    "smollm": _smollm,
    "gpt-2": _words,
    "llama-bpe": lambda: _split(_LLAMA3),
    "qwen2": lambda: _split(_QWEN2),
    "qwen35": lambda: _split(_QWEN35),
    "default": _default,
}


def tokenizer_parts(metadata: dict[str, Any]) -> tuple[Tokenizer, dict[str, Any]] | None:
    """(tokenizer, keyword arguments of this package's Tokenizer) from a GGUF file's metadata; None for a file
    that says it has none.

    Raises UnknownTokenizer for a kind of tokenizer or pre-tokenizer that is not supported, DataError for
    lists that do not fit together.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind in ("none", "no_vocab"):
        return None
    if kind not in ("gpt2", "llama"):
        raise UnknownTokenizer(
            f"tokenizer.ggml.model is {kind!r}; allowed: gpt2 (byte-level BPE), llama (SentencePiece) or none"
        )
    tokens = _texts(metadata, "tokens")
    types = metadata.get("tokenizer.ggml.token_type", [1] * len(tokens))
    if not isinstance(types, list) or len(types) != len(tokens):
        raise DataError("tokenizer.ggml.token_type has another length than tokenizer.ggml.tokens")
    if len(set(tokens)) != len(tokens):
        raise DataError("tokenizer.ggml.tokens has a token twice")
    core = _sentencepiece(metadata, tokens) if kind == "llama" else _byte_level(metadata, tokens)
    core.add_tokens(  # all at once: every call looks through those that are there
        [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    # what llama.cpp takes where a file of SentencePiece's kind does not say
    default = {"bos": 1, "eos": 2} if kind == "llama" and len(tokens) > 2 else {}
    bos, eos = (_id(metadata, name, len(tokens), default.get(name)) for name in ("bos", "eos"))
    adds_bos = kind == "llama" or metadata.get("tokenizer.ggml.pre") == "llama-bpe"
    before = bos if metadata.get("tokenizer.ggml.add_bos_token", adds_bos) else None
    after = eos if metadata.get("tokenizer.ggml.add_eos_token", False) else None
    around = _around(tokens, before, after)
    if around is not None:
        core.post_processor = around
    template = metadata.get("tokenizer.chat_template")
    return core, {
        "bos_token_id": bos,
        "eos_token_id": eos,
        "chat_template": template if isinstance(template, str) else None,
    }


def _byte_level(metadata: dict[str, Any], tokens: list[str]) -> Tokenizer:
    """Byte-level BPE. DataError for an unknown pre-tokenizer, or merges that do not fit."""
    pre = metadata.get("tokenizer.ggml.pre", "default")
    if not isinstance(pre, str) or pre not in PRE_TOKENIZERS:
        raise UnknownTokenizer(f"tokenizer.ggml.pre is {pre!r}; allowed: {', '.join(PRE_TOKENIZERS)}")
    if "tokenizer.ggml.merges" not in metadata:
        raise UnknownTokenizer("tokenizer.ggml.merges is missing")
    merges = _texts(metadata, "merges")
    if any(merge.count(" ") != 1 for merge in merges):
        raise DataError("tokenizer.ggml.merges has a line that is not two tokens")
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    try:
        core = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=pre == "llama-bpe"))
    except BaseException as error:
        if not raised_by_library(error):
            raise
        raise DataError(f"tokenizer.ggml.merges do not fit the tokens: {one_line(error)}") from None
    core.pre_tokenizer = PRE_TOKENIZERS[pre]()
    core.decoder = decoders.ByteLevel()
    if pre in ("qwen2", "qwen35"):
        core.normalizer = normalizers.NFC()
    return core


def _sentencepiece(metadata: dict[str, Any], tokens: list[str]) -> Tokenizer:
    """A SentencePiece vocabulary, in which the pair whose piece scores highest is joined, as BPE."""
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise DataError("tokenizer.ggml.scores is missing or has another length than tokenizer.ggml.tokens")
    unknown = _id(metadata, "unknown", len(tokens), 0)
    core = Tokenizer(
        models.BPE(
            {token: number for number, token in enumerate(tokens)},
            merges_of(tokens, scores),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", SPACE)]
    ends: list[decoders.Decoder] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend(SPACE))
        ends.append(decoders.Strip(" ", 1, 0))
    core.normalizer = normalizers.Sequence(steps)
    core.decoder = decoders.Sequence(ends)
    return core


def merges_of(tokens: list[str], scores: list[float]) -> list[tuple[str, str]]:
    """The merges of BPE that do what a SentencePiece vocabulary's scores say: every way to make a piece of
    two others, the pieces that score highest first.
    """
    number = {token: i for i, token in enumerate(tokens)}
    found = [
        (-scores[i], number[token[:cut]], number[token[cut:]])
        for i, token in enumerate(tokens)
        for cut in range(1, len(token))
        if token[:cut] in number and token[cut:] in number
    ]
    return [(tokens[left], tokens[right]) for _, left, right in sorted(found)]


def _around(tokens: list[str], before: int | None, after: int | None) -> Any:
    """What puts tokens around a text; None where it puts none."""
    if before is None and after is None:
        return None
    first = [] if before is None else [tokens[before]]
    last = [] if after is None else [tokens[after]]
    for token in (*first, *last):
        if ":" in token or token.startswith("$"):  # which the template would read as a sequence or a type
            raise DataError(f"token {token!r} cannot stand around a text; allowed: one without a colon or $")
    return processors.TemplateProcessing(
        single=[*first, "$A", *last],
        pair=[*first, "$A", *last, *(f"{token}:1" for token in first), "$B:1", *(f"{t}:1" for t in last)],
        special_tokens=[(tokens[i], i) for i in dict.fromkeys((before, after)) if i is not None],
    )


def _texts(metadata: dict[str, Any], key: str) -> list[str]:
    value = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f"tokenizer.ggml.{key} is missing or not a list of texts")
    return value


def _id(metadata: dict[str, Any], kind: str, count: int, default: int | None = None) -> int | None:
    """The id of a special token; None for none, and for one outside the vocabulary: it cannot come up."""
    key = f"tokenizer.ggml.{kind}_token_id"
    number = metadata.get(key, default)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
        raise DataError(f"{key} is {number!r}; allowed: 0 to {count - 1}")
    return number if number is not None and 0 <= number < count else None
