"""How good is a model on a text: perplexity, plain or with a sliding window, and KL from a teacher,
sequence by sequence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import diagnostics, stats
from .._core import KLScorer
from ..checks import refuse
from ..data.tokens import TokenData, Windows, slices
from ..distributed.pieces import spread
from ..model.base import tokenizer_of
from ..results.progress import bar
from ..signatures import renamed
from .results import Divergence, Perplexity, Recall

if TYPE_CHECKING:
    from ..model.model import Model

SLICE_TOKENS = 2048  # between two checks for Ctrl-C and two moves of the bar


def perplexity(
    model: Model,
    text: str | Iterable[str] | TokenData,
    *,
    seq_len: int | None = None,
    stride: int | None = None,
    max_tokens: int | None = None,
    batch_size: int = 4,
    progress: bool = False,
) -> Perplexity:
    """Perplexity per token, exp of the mean negative log-likelihood in nats.

    Plain (stride None): the text is cut into windows of `seq_len`, each read on its own; the first token of a
    window is not predicted. Sliding: windows start every `stride` tokens and each counts only its tokens past
    the one before it, so every token but the first is predicted once, with at least seq_len - stride tokens
    before it. `text` as TokenData brings its own windows for the plain kind, and its stream for the sliding
    one. seq_len: by default the data's, else 512, at most the model's positions.

    Returns a `Perplexity`; for a text with bits_per_byte and word_perplexity, from the mean nll over all
    tokens of the text; words are counted as lm-eval does, white space at an end making one more. Raises
    ConfigError, DataError.
    """
    if model.model_config.bidirectional:
        raise refuse("model", "bidirectional", "a causal model: a bidirectional one sees the next token")
    counts, limit = None, model.model_config.max_positions
    if isinstance(text, TokenData):
        data = text
    else:
        tokenizer = tokenizer_of(model)
        counter = _Counter([text] if isinstance(text, str) else text)
        seq_len = seq_len or min(512, limit)
        _check_length(seq_len, limit)
        data = TokenData.from_text(counter, tokenizer, seq_len, max_tokens, keep_tail=True)
        if max_tokens is None:
            counts = (counter.bytes, counter.words)
    length = seq_len or data.seq_len
    _check_length(length, limit)
    if stride is not None and not 1 <= stride <= length:
        raise refuse("stride", stride, f"1 to seq_len, {length}")
    if isinstance(text, TokenData) and stride is None:
        if seq_len not in (None, data.seq_len):
            raise refuse("seq_len", seq_len, f"{data.seq_len}, the windows of the given data")
        windows, first = data.windows, np.ones(len(data), np.int64)
    else:
        windows, first = spans(len(data.tokens), length, stride or length)
    sums, scored = _window_nll(model, data, windows, first, batch_size, progress)
    tokens = int(scored.sum())
    nll = float(sums.sum() / tokens)
    per_byte = per_word = None
    if counts is not None:
        of_byte, of_word = (nll * len(data.tokens) / max(count, 1) for count in counts)
        per_byte, per_word = of_byte / math.log(2.0), math.exp(min(of_word, 700.0))
    return Perplexity(
        perplexity=math.exp(min(nll, 700.0)),
        nll=nll,
        nll_stderr=stats.mean((sums / scored).tolist(), scored.tolist())[1],
        tokens=tokens,
        windows=len(windows),
        seq_len=length,
        stride=stride,
        bits_per_byte=per_byte,
        word_perplexity=per_word,
    )


class _Counter:
    """Texts that go by, and how many bytes and words they have, as lm-eval counts them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.bytes = self.words = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            yield text  # what is no text is refused there
            self.bytes += len(text.encode())
            self.words += len(re.split(r"\s+", text))


def _check_length(seq_len: int, limit: int) -> None:
    if not 2 <= seq_len <= limit:
        raise refuse("seq_len", seq_len, f"2 to the model's {limit} positions")


def spans(num_tokens: int, seq_len: int, stride: int) -> tuple[Windows, npt.NDArray[np.int64]]:
    """(windows int64 [m, 2], first int64 [m]): window i counts its tokens from position `first[i]` within
    it on.

    With stride = seq_len the windows do not overlap and each leaves out its first token; else only token 0 is
    left out. A last window of a single token is dropped.
    """
    windows, first, reached = [], [], 0
    for start in range(0, num_tokens, stride):
        stop = min(start + seq_len, num_tokens)
        if stop - start >= 2:
            windows.append((start, stop))
            first.append(max(1, reached - start))
        reached = stop
        if stop == num_tokens:
            break
    return np.array(windows, np.int64).reshape(-1, 2), np.array(first, np.int64)


def _window_nll(
    model: Model,
    data: TokenData,
    windows: Windows,
    first: npt.NDArray[np.int64],
    batch_size: int,
    progress: bool,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(sum of nll, number of tokens) that each window counts; windows of one length go through the model
    together.
    """
    length = windows[:, 1] - windows[:, 0]
    sums = np.zeros(len(windows))
    total = int(length.sum())
    with bar(None, "perplexity", progress, total=total, unit="tok", unit_scale=True) as moving:

        def work(chosen: npt.NDArray[np.int64]) -> list[float]:
            batch = np.stack([data.tokens[start:stop] for start, stop in windows[chosen]])
            # float64 sums: a long text has too many tokens for float32
            nll = model.nll(batch).astype(np.float64)
            moving.update(int(length[chosen].sum()))
            return [row[begin - 1 :].sum() for row, begin in zip(nll, first[chosen], strict=True)]

        batches = [
            same[at : at + batch_size]
            for size in np.unique(length)
            for same in [np.flatnonzero(length == size)]
            for at in range(0, len(same), batch_size)
        ]
        for chosen, found in zip(batches, spread(batches, work, what="batches of windows"), strict=True):
            sums[chosen] = found
    return sums, length - first


def kl(
    student: Model,
    teacher: Model | None,
    data: TokenData,
    *,
    teacher_hidden: npt.NDArray[np.float32] | None = None,
    weighted: bool = False,
    progress: bool = False,
) -> Divergence:
    """KL(teacher || student) in nats per token: the mean over the positions of each window, its last one too,
    so that students can be compared in pairs, and over all windows by their length; the share of these
    positions for which both models hold the same next token likeliest; and the student's plain perplexity,
    from one pass. weighted: all over the predictions that `data.weights` counts, as of answers.

    teacher None: `student` is a probe and its own softmax mixers are the teacher. teacher_hidden: float32
    [tokens, hidden_size] from `final_hidden(teacher, data)`, to compare several students at the cost of one
    pass of the teacher. Returns a `Divergence`: kl, kl_stderr, per_sequence (a list, one mean per window),
    perplexity, tokens, measure, agreement, agreement_stderr, agreement_per_sequence. Of models without an LM
    head the numbers are what `KLScorer.measure` says, and there is no agreement; theirs and those of masked
    language models come with no perplexity and tokens, and count the tokens that `data.weights` says.
    """
    for model in (student, teacher):
        if model is not None:
            model.check_reach(data.seq_len)
    scorer = KLScorer(student, teacher)
    if scorer.measure != "kl" or student.model_config.bidirectional:
        weights = data.weights if student.model_config.task is None else None
        return _distance(scorer, data, weights, teacher_hidden, progress)
    counting = data.weights if weighted else None
    values, counts, shares, sums = [], [], [], 0.0
    parts = slices(data.windows, SLICE_TOKENS)
    found = spread(
        parts,
        lambda part: scorer.evaluate(
            data.tokens, part, None, teacher_hidden, counting, data.segments, agreement=True
        ),
        lambda mine: bar(mine, "kl", progress),
        "parts of the text",
    )
    for part, (divergence, nll, share) in zip(parts, found, strict=True):
        count = part[:, 1] - part[:, 0] - 1  # the last token of a window predicts nothing
        if counting is not None:
            count = np.array([counting[start + 1 : stop].sum(dtype=np.float64) for start, stop in part])
        values.append(divergence)
        counts.append(count)
        shares.append(share)
        sums += float((nll * count).sum())
    per_sequence, weights = np.concatenate(values), np.concatenate(counts)
    predicted = int(weights.sum())
    mean, stderr = stats.mean(per_sequence.tolist(), weights.tolist())
    positions = data.windows[:, 1] - data.windows[:, 0] if counting is None else weights
    return Divergence(
        kl=mean,
        kl_stderr=stderr,
        per_sequence=per_sequence.tolist(),
        perplexity=math.exp(min(sums / predicted, 700.0)),
        tokens=predicted,
        measure=scorer.measure,
        **_agreement(np.concatenate(shares), positions),
    )


def _agreement(shares: npt.NDArray[np.float64], positions: npt.NDArray[Any]) -> dict[str, Any]:
    """The fields of a Divergence from the share of each window, which counts by its positions."""
    mean, stderr = stats.mean(shares.tolist(), positions.tolist())
    return {
        "agreement": mean,
        "agreement_stderr": stderr,
        "agreement_per_sequence": shares.tolist(),
    }


def _distance(
    scorer: KLScorer,
    data: TokenData,
    weights: npt.NDArray[np.float32] | None,
    teacher_hidden: npt.NDArray[np.float32] | None,
    progress: bool,
) -> Divergence:
    """`kl` of models that predict no next token: every sequence counts alike."""
    masked = scorer.measure == "kl"

    def work(part: Windows) -> tuple[npt.NDArray[np.float64], ...]:
        given = (data.tokens, part, None, teacher_hidden, weights, data.segments)
        return scorer.kl(*given, agreement=True) if masked else (scorer.kl(*given),)

    found = spread(
        slices(data.windows, SLICE_TOKENS),
        work,
        lambda mine: bar(mine, scorer.measure, progress),
        "parts of the text",
    )
    values, *shares = (np.concatenate(column) for column in zip(*found, strict=True))
    mean, stderr = stats.mean(values.tolist())
    return Divergence(
        kl=mean,
        kl_stderr=stderr,
        per_sequence=values.tolist(),
        measure=scorer.measure,
        **(_agreement(shares[0], np.ones(len(values), np.int64)) if masked else {}),
    )


@renamed(task="kind")
def recall(
    model: Model,
    kind: str,
    *,
    n: int = 32,
    seq_len: int = 512,
    seed: int = 0,
    batch_size: int = 8,
    progress: bool = False,
) -> Recall:
    """Answers of a diagnostic (see `diagnostics`): greedy continuations that match token for token.

    `n` examples of at most `seq_len` tokens. Returns a `Recall`: accuracy, stderr, correct (a list of bools,
    paired between models for equal kind, n, seq_len and seed), answer_nll (mean -log p of the answers'
    tokens, nats), and the settings. Raises ConfigError, DataError.
    """
    examples = diagnostics.make(kind, tokenizer_of(model), n, seq_len, seed)

    def work(at: int) -> list[bool]:
        wanted = [answer.tolist() for answer in examples.answers[at : at + batch_size]]
        prompts = [prompt.tolist() for prompt in examples.prompts[at : at + batch_size]]
        made = model.generate(prompts, max_new_tokens=max(map(len, wanted)))
        return [tokens[: len(answer)] == answer for tokens, answer in zip(made, wanted, strict=True)]

    steps = range(0, n, batch_size)
    correct = sum(
        spread(steps, work, lambda mine: bar(mine, f"recall {kind}", progress), "batches of prompts"),
        list[bool](),
    )
    accuracy, stderr = stats.mean([float(hit) for hit in correct])
    return Recall(
        accuracy=accuracy,
        stderr=stderr,
        correct=correct,
        answer_nll=_answer_nll(model, examples.data),
        task=kind,
        n=n,
        seq_len=seq_len,
        seed=seed,
    )


def _answer_nll(model: Model, data: TokenData) -> float:
    """Mean over examples of the mean -log p of the answer's tokens."""
    assert data.weights is not None
    tokens, counts = data.tokens, data.weights

    def work(window: list[int]) -> float:
        start, stop = window
        nll = model.nll(tokens[None, start:stop])[0].astype(np.float64)
        weights = counts[start + 1 : stop].astype(np.float64)
        return float(nll @ weights / weights.sum())

    return float(np.mean(spread(data.windows.tolist(), work, what="prompts")))
