"""The logits of a task, sequence by sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..data.tokens import TokenData, Windows, slices
from ..distributed.pieces import spread
from ..results.progress import bar
from .examples import Examples, flatten
from .head import head_of, without_padding

if TYPE_CHECKING:
    from ..model.model import Model

Floats = npt.NDArray[np.float32]
SLICE_TOKENS = 8192  # between two moves of the bar


def predict(
    model: Model, sequences: Sequence[npt.ArrayLike] | Examples, *, progress: bool = False
) -> Floats | list[Floats]:
    """Logits of sequences of token ids: float32 [m, num_labels] of classes or values; for spans a list of
    float32 [length, 2], start and end at every token.

    Sequences are packed, without padding. Raises ConfigError for a model without a head, DataError naming the
    sequence.
    """
    span = head_of(model).kind == "span"
    if isinstance(sequences, Examples):
        data = sequences.data
    else:
        data = TokenData(*flatten(sequences))
    windows = without_padding(model, data.windows, data.tokens)

    def work(part: Windows) -> list[Floats]:
        logits = model.task_logits(data.tokens, part, data.segments)
        return [logits[start:stop].copy() for start, stop in part] if span else [logits]

    parts = spread(
        slices(windows, SLICE_TOKENS),
        work,
        lambda mine: bar(mine, "predict", progress),
        "parts of the sequences",
    )
    found = [logits for part in parts for logits in part]
    return found if span else np.concatenate(found)
