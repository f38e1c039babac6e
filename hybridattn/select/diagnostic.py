"""Scores on diagnostic data: what do the answers lose when only this layer is linear?"""

from __future__ import annotations

from collections.abc import Callable

from .. import diagnostics
from ..model.base import tokenizer_of
from .scoring import Result, Scoring


def selector(name: str) -> Callable[..., Result]:
    """The selector of one diagnostic."""

    def score(scoring: Scoring, *, seed: int = 0) -> Result:
        """Rise of the answers' negative log-likelihood, nats per token. The prompts are as many and at
        most as long as the windows of the given data; only their answers count.
        """
        data = diagnostics.make(
            name, tokenizer_of(scoring.probe), len(scoring.data), scoring.data.seq_len, seed
        ).data
        own = Scoring(scoring.probe, data, scoring.name, scoring.progress)
        base, rows = own.flip_teacher(nll=True)
        # counted against the text that was read, as every other cost
        scoring.extra += own.passes * scoring.data.num_tokens / data.num_tokens
        return Result(rows - base, options={"answer_nll": float(own.mean(base))}, text=data.label)

    return score
