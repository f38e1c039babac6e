"""Windows of question and context for an encoder with a span head (Devlin et al. 2019, arXiv 1810.04805): a
context that is too long is read in several windows, `stride` tokens apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...checks import check_int, refuse
from ...data.tokenizer import Tokenizer
from ...errors import DataError
from .data import Question


@dataclass(frozen=True)
class Window:
    """question: index of its question. tokens, type_ids: int32 [T], special tokens in place. spans: int64
    [T, 2], the characters (start, end) of the context that a token stands for, (-1, -1) for all that is not
    context. widest: bool [T], of all windows of the question this one has the most context around the token.
    start, end: the first gold answer's first and last token, both 0 when it is not whole in this window or
    there is none: token 0 stands for no answer.
    """

    question: int
    tokens: npt.NDArray[np.int32]
    type_ids: npt.NDArray[np.int32]
    spans: npt.NDArray[np.int64]
    widest: npt.NDArray[np.bool_]
    start: int
    end: int


def windows(
    questions: Sequence[Question],
    tokenizer: Tokenizer,
    *,
    max_length: int = 384,
    stride: int = 128,
    max_question: int = 64,
) -> list[Window]:
    """All windows of all questions, in order: at most `max_length` tokens, the question's first
    `max_question` tokens, and context from every `stride`-th token of it on.

    The tokenizer's own post-processor joins question and context, so that special tokens and type ids are its
    model's. Raises ConfigError when the question leaves fewer than `stride` tokens of room.
    """
    check_int("max_length", max_length, 3)
    check_int("stride", stride)
    check_int("max_question", max_question)
    core = tokenizer.core
    extra = core.num_special_tokens_to_add(True)
    out: list[Window] = []
    for index, question in enumerate(questions):
        asked = core.encode(question.question, add_special_tokens=False)
        text = question.question
        if len(asked.ids) > max_question:
            text = text[: asked.offsets[max_question - 1][1]]
        used = min(len(asked.ids), max_question)
        room = max_length - extra - used
        if room < stride:
            raise refuse(
                "stride",
                stride,
                f"1 to {max(room, 0)}, which a question of {used} tokens leaves of max_length",
            )
        core.enable_truncation(max_length, stride=room - stride, strategy="only_second")
        try:
            first = core.encode(text, question.context)
        finally:
            core.no_truncation()
        out += _windows(index, question, [first, *first.overflowing], stride)
    return out


def _windows(index: int, question: Question, parts: list[Any], stride: int) -> list[Window]:
    spans = [_spans(part) for part in parts]
    if not any((span[:, 0] >= 0).any() for span in spans):
        raise DataError(f"question {question.id!r}: context has no tokens; allowed: 1 or more")
    widest = _widest(spans, stride)
    golds = [(0, 0)] * len(parts)
    if question.starts:
        text, begin = question.answers[0].rstrip(), question.starts[0]
        golds = _golds(spans, stride, begin + len(text) - len(text.lstrip()), begin + len(text))
    out = []
    for part, span, wide, (start, end) in zip(parts, spans, widest, golds, strict=True):
        out.append(
            Window(
                index, np.array(part.ids, np.int32), np.array(part.type_ids, np.int32), span, wide, start, end
            )
        )
    return out


def _spans(part: Any) -> npt.NDArray[np.int64]:
    offsets = np.array(part.offsets, np.int64).reshape(-1, 2)
    context = np.array([sequence == 1 for sequence in part.sequence_ids])
    return np.where(context[:, None], offsets, -1)


def _widest(spans: list[npt.NDArray[np.int64]], stride: int) -> list[npt.NDArray[np.bool_]]:
    """Context around a token in a window: the lesser of the tokens before and after it, and a little more in
    a longer window; the first window of equals is the widest.
    """
    places = [np.flatnonzero(span[:, 0] >= 0) for span in spans]
    width = np.full((len(spans), (len(spans) - 1) * stride + max(map(len, places))), -1.0)
    for w, here in enumerate(places):
        rank = np.arange(len(here))
        width[w, w * stride + rank] = np.minimum(rank, rank[::-1]) + 0.01 * len(here)
    best = width.argmax(axis=0)
    out = [np.zeros(len(span), np.bool_) for span in spans]
    for w, here in enumerate(places):
        out[w][here] = best[w * stride : w * stride + len(here)] == w
    return out


def _golds(spans: list[npt.NDArray[np.int64]], stride: int, start: int, end: int) -> list[tuple[int, int]]:
    """(first, last) token of the characters start to end in each window, (0, 0) where a window has not all of
    their tokens. Characters that no token stands for, such as white space, are in none and missed by none.
    """
    here = [np.flatnonzero((span[:, 0] >= 0) & (span[:, 0] < end) & (span[:, 1] > start)) for span in spans]
    # window w begins at token w * stride of the context
    places = [
        {w * stride + int(i) for i in found - np.argmax(span[:, 0] >= 0)}
        for w, (span, found) in enumerate(zip(spans, here, strict=True))
    ]
    whole = set().union(*places)
    return [
        (int(found[0]), int(found[-1])) if place and place == whole else (0, 0)
        for found, place in zip(here, places, strict=True)
    ]
