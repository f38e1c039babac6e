"""The text that layers are scored on, a choice of its own: plain, recall prompts, a diagnostic, or a mix."""

from __future__ import annotations

from ..data.tokens import Encoder, TokenData
from ..errors import DataError
from .kinds import KINDS, make
from .recall import recall_prompts

TEXT_KINDS = ("recall", "plain", "mix")


PREFIX = "diagnostic:"
SCORING_TEXTS = (*TEXT_KINDS, *(PREFIX + kind for kind in KINDS))


def scoring_text(
    kind: str, tokenizer: Encoder, count: int, seq_len: int, plain: TokenData | None = None, seed: int = 0
) -> TokenData:
    """`count` windows for layer scores. kind: "recall" (synthetic prompts), "plain" (the first windows of
    `plain`), "mix" (half and half), or "diagnostic:<kind>" (only its answers count). Raises DataError.
    """
    if kind not in SCORING_TEXTS:
        raise DataError(f"kind is {kind!r}; allowed: {', '.join(SCORING_TEXTS)}")
    if kind.startswith(PREFIX):
        return make(kind.removeprefix(PREFIX), tokenizer, count, seq_len, seed).data
    recall = {"recall": count, "plain": 0, "mix": count // 2}[kind]
    parts = []
    if recall < count:
        if plain is None or len(plain) < count - recall:
            have = 0 if plain is None else len(plain)
            raise DataError(f"plain has {have} windows; allowed for {kind!r} text: {count - recall} or more")
        parts.append(plain.take(slice(0, count - recall)))
    if recall:
        parts.append(recall_prompts(tokenizer, recall, seq_len, seed))
    return TokenData.concat(parts, kind)
