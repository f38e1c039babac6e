"""Synthetic text whose second half can only be predicted by recalling the first: key-value lists and
copies.

What a linear mixer loses first is exact recall over a distance, so layers scored on this text show who does
the recalling. The prompts are plain English words and digits: any tokenizer can encode them.
"""

from __future__ import annotations

import numpy as np

from ..data.prompts import open_tokens
from ..data.tokens import Encoder, TokenData, Tokens
from ..errors import DataError
from .words import WORDS


def recall_prompts(tokenizer: Encoder, n: int, seq_len: int, seed: int = 0) -> TokenData:
    """`n` windows of exactly `seq_len` tokens, alternately a key-value list with queries and a passage
    with its copy.

    The list (or passage) fills about half of the window and the queries (or copies) the rest. The same seed
    gives the same prompts. Raises DataError when seq_len is below 16.
    """
    if n < 1:
        raise DataError(f"n is {n}; allowed: 1 or more prompts")
    if seq_len < 16:
        raise DataError(f"seq_len is {seq_len}; allowed for recall prompts: 16 or more")
    rows = [_fill(tokenizer, seq_len, np.random.default_rng([seed, i]), pairs=i % 2 == 0) for i in range(n)]
    start = np.arange(n, dtype=np.int64) * seq_len
    return TokenData(np.concatenate(rows), np.stack([start, start + seq_len], axis=1), "recall")


def _fill(tokenizer: Encoder, seq_len: int, rng: np.random.Generator, pairs: bool) -> Tokens:
    """int32 [seq_len] of one prompt: as many items as fit half of it, then their repetition until it is
    full.
    """
    items = _items(rng, max(4, seq_len // 2), pairs)
    count = 1
    while (
        count < len(items) and len(open_tokens(tokenizer, _first(items[: count + 1], pairs))) <= seq_len // 2
    ):
        count = min(count + max(1, count // 2), len(items))
    while count > 1 and len(open_tokens(tokenizer, _first(items[:count], pairs))) > seq_len // 2:
        count -= 1
    text = _first(items[:count], pairs)
    tokens: list[int] = []
    while len(tokens) < seq_len:
        order = rng.permutation(count) if pairs else np.arange(count)
        text += _again([items[i] for i in order], pairs)
        tokens = open_tokens(tokenizer, text)
    return np.array(tokens[:seq_len], np.int32)


def _items(rng: np.random.Generator, count: int, pairs: bool) -> list[str]:
    """Unlike "word word: number" keys, or single words."""
    words = rng.integers(0, len(WORDS), (count, 2))
    if not pairs:
        return [WORDS[a] for a, _ in words]
    items: dict[str, str] = {}
    for (a, b), value in zip(words, rng.integers(100, 1000, count), strict=True):
        items.setdefault(f"{WORDS[a]} {WORDS[b]}", str(value))
    return [f"{key}: {value}" for key, value in items.items()]


def _first(items: list[str], pairs: bool) -> str:
    return "List:\n" + "\n".join(items) + "\n" if pairs else "Passage: " + " ".join(items) + ".\n"


def _again(items: list[str], pairs: bool) -> str:
    return "Look up:\n" + "\n".join(items) + "\n" if pairs else "Copy: " + " ".join(items) + ".\n"
