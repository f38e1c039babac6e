"""The tokenizer inside a GGUF file: byte-level BPE with the pre-tokenizer that the file names.

Sources: the `tokenizer.ggml.*` keys of the GGUF specification, the splitting rules of llama.cpp, and the
`tokenizer.json` files of the models themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.pre_tokenizers import PreTokenizer

from ..errors import DataError

_CONTROL, _USER_DEFINED = 3, 4  # token types: never printed; matched before anything is split

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


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
    "default": _default,
}


def tokenizer_parts(metadata: dict[str, Any]) -> tuple[Tokenizer, dict[str, Any]]:
    """(tokenizer, keyword arguments of this package's Tokenizer) from a GGUF file's metadata.

    Raises DataError for a kind of tokenizer or pre-tokenizer that is not supported, or lists that do not fit
    together.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise DataError(f"tokenizer.ggml.model is {kind!r}; allowed: gpt2 (byte-level BPE)")
    pre = metadata.get("tokenizer.ggml.pre", "default")
    if pre not in PRE_TOKENIZERS:
        raise DataError(f"tokenizer.ggml.pre is {pre!r}; allowed: {', '.join(PRE_TOKENIZERS)}")
    tokens, merges = _texts(metadata, "tokens"), _texts(metadata, "merges")
    types = metadata.get("tokenizer.ggml.token_type", [1] * len(tokens))
    if not isinstance(types, list) or len(types) != len(tokens):
        raise DataError("tokenizer.ggml.token_type has another length than tokenizer.ggml.tokens")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise DataError("tokenizer.ggml.tokens has a token twice")
    if any(merge.count(" ") != 1 for merge in merges):
        raise DataError("tokenizer.ggml.merges has a line that is not two tokens")
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    try:
        core = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=pre == "llama-bpe"))
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"tokenizer.ggml.merges do not fit the tokens: {error}") from None
    core.pre_tokenizer = PRE_TOKENIZERS[pre]()
    core.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        core.normalizer = normalizers.NFC()
    for number, token in enumerate(tokens):
        if types[number] in (_CONTROL, _USER_DEFINED):
            core.add_tokens([AddedToken(token, special=types[number] == _CONTROL, normalized=False)])
    bos = _id(metadata, "bos", len(tokens))
    if bos is not None and metadata.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe"):
        core.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A",
            pair=f"{tokens[bos]} $A {tokens[bos]} $B",
            special_tokens=[(tokens[bos], bos)],
        )
    template = metadata.get("tokenizer.chat_template")
    return core, {
        "bos_token_id": bos,
        "eos_token_id": _id(metadata, "eos", len(tokens)),
        "chat_template": template if isinstance(template, str) else None,
    }


def _texts(metadata: dict[str, Any], key: str) -> list[str]:
    value = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f"tokenizer.ggml.{key} is missing or not a list of texts")
    return value


def _id(metadata: dict[str, Any], kind: str, count: int) -> int | None:
    key = f"tokenizer.ggml.{kind}_token_id"
    number = metadata.get(key)
    if number is not None and (not isinstance(number, int) or not 0 <= number < count):
        raise DataError(f"{key} is {number!r}; allowed: 0 to {count - 1}")
    return number
