"""Rows as tokens to train on: texts, and conversations through the chat template, with what counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .prompts import open_tokens
from .text_files import text_of

if TYPE_CHECKING:
    from .tokenizer import Tokenizer


def encode_conversation(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]], answers_only: bool = False
) -> tuple[list[int], npt.NDArray[np.float32]]:
    """(token ids, float32 weights of each) of a conversation as the chat template writes it.

    Weights are 1; with answers_only they are 1 on what assistants say, with the mark that ends it, and 0 on
    everything else. What an assistant says is what the template adds for its message after the generation
    prompt. DataError for a template of which that cannot be told, since it changes what went before.
    """
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=False)
    encoding = tokenizer.core.encode(text, add_special_tokens=False)
    if not answers_only:
        return list(encoding.ids), np.ones(len(encoding.ids), np.float32)
    spans = []
    for i, message in enumerate(messages):
        if message.get("role") == "assistant":
            if i == 0:
                raise DataError("the first message is an assistant's; allowed with answers_only: a user's")
            before = tokenizer.apply_chat_template(messages[:i], add_generation_prompt=True)
            after = tokenizer.apply_chat_template(messages[: i + 1], add_generation_prompt=False)
            if not (text.startswith(before) and text.startswith(after) and len(before) <= len(after)):
                raise DataError(
                    f"message {i}: the chat template changes what went before it, so that its answer "
                    "cannot be told; allowed with answers_only: a template that only adds"
                )
            spans.append((len(before), len(after)))
    weights = [
        float(any(start < end and begin < stop for start, stop in spans)) for begin, end in encoding.offsets
    ]
    return list(encoding.ids), np.array(weights, np.float32)


def encode_row(
    tokenizer: Tokenizer, row: Any, where: str, answers_only: bool = False
) -> tuple[list[int], npt.NDArray[np.float32]]:
    """(token ids, float32 weights of each) of a text, or of an object with "text" or "messages"; none of an
    empty one. DataError naming `where` for anything else.
    """
    if row is None:
        return [], np.zeros(0, np.float32)
    messages = row.get("messages") if isinstance(row, Mapping) else None
    try:
        if messages is not None:
            if not messages:
                return [], np.zeros(0, np.float32)
            return encode_conversation(tokenizer, list(messages), answers_only)
        if answers_only:
            raise DataError("holds no messages; allowed with answers_only: a conversation")
        if not isinstance(row, str):
            text = row.get("text") if isinstance(row, Mapping) else None
            if text is None and isinstance(row, Mapping) and "text" in row:
                return [], np.zeros(0, np.float32)
            if not isinstance(text, str):
                keys = f"an object with {', '.join(map(str, row))}" if isinstance(row, Mapping) else repr(row)
                raise DataError(f"is {keys:.120}; allowed: a text, or an object with text or messages")
            row = text
        ids = open_tokens(tokenizer, text_of(row, where)) if row.strip() else []
        return ids, np.ones(len(ids), np.float32)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def with_answers(
    windows: npt.NDArray[np.int64], loss: npt.NDArray[np.float32], seq_len: int
) -> npt.NDArray[np.int64]:
    """The windows that predict something which counts. DataError when none does."""
    kept = windows[[bool(loss[start + 1 : stop].any()) for start, stop in windows]]
    if not len(kept):
        raise DataError(f"no window of {seq_len} tokens holds an answer; allowed: longer ones, more rows")
    return kept
