"""Scores on diagnostic data: what do the answers lose when only this layer is linear?"""

from __future__ import annotations

from collections.abc import Callable

from .. import diagnostics
from ..model.base import tokenizer_of
from .task import Result, Task


def selector(name: str) -> Callable[..., Result]:
    """The selector of one diagnostic task."""

    def score(task: Task, *, seed: int = 0) -> Result:
        """Rise of the answers' negative log-likelihood, nats per token. The prompts are as many and at
        most as long as the windows of the given data; only their answers count.
        """
        data = diagnostics.make(name, tokenizer_of(task.probe), len(task.data), task.data.seq_len, seed).data
        own = Task(task.probe, data, task.name, task.progress)
        base, rows = own.flip_teacher(nll=True)
        # counted against the text that was read, as every other cost
        task.extra += own.passes * task.data.num_tokens / data.num_tokens
        return Result(rows - base, options={"answer_nll": float(own.mean(base))}, text=data.label)

    return score
