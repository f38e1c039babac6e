"""A text that goes on: the tokens of a prompt, and of what follows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..errors import DataError

if TYPE_CHECKING:
    from .tokenizer import Tokenizer


class Encoder(Protocol):
    """What data needs of a tokenizer; `hybridattn.Tokenizer` is one."""

    @property
    def eos_token_id(self) -> int | None:
        """The token put between documents; None puts nothing there."""

    def encode(self, text: str) -> Sequence[int]:
        """The text's tokens."""


def open_tokens(tokenizer: Encoder, text: str) -> list[int]:
    """The tokens of a text that goes on: without what the tokenizer puts after a whole text (`</s>`)."""
    return list(getattr(tokenizer, "encode_open", tokenizer.encode)(text))


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """(tokens of the context, tokens of the continuation), cut from the tokens of both together.

    White space at the end of the context goes to the continuation, where tokenizers expect it. An empty
    context is the beginning-of-text token, or else the end-of-text one.
    """
    for name, text in (("context", context), ("continuation", continuation)):
        if not isinstance(text, str):
            raise DataError(f"{name} is {text!r:.80}; allowed: a text")
    bare = context.rstrip()
    context, continuation = bare, context[len(bare) :] + continuation
    if not context:
        tokens = tokenizer.encode(continuation, add_special_tokens=False)
        start = beginning(tokenizer)
        # a continuation that begins with that token itself does not get it twice
        return start, tokens[1:] if len(tokens) > 1 and tokens[:1] == start else tokens
    return answer_tokens(tokenizer, context, continuation)


def answer_tokens(tokenizer: Encoder, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """(tokens of the prompt, tokens of the answer): those of both together, cut where the prompt's own end.

    Where the joint is within a token, that token belongs to the answer if the answer has no other.
    """
    before, both = open_tokens(tokenizer, prompt), open_tokens(tokenizer, prompt + answer)
    at = min(len(before), len(both) - 1)
    return both[:at], both[at:]


def beginning(tokenizer: Tokenizer) -> list[int]:
    """The token that a text without context begins from. DataError when the tokenizer has none."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [token]
    raise DataError("bos_token_id is None; allowed for an empty context: a beginning- or end-of-text token")
