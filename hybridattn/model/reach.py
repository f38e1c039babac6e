"""The C model, with passes that are no longer than its rotary angles hold.

RoPE of type `dynamic` has other frequencies for a text of more tokens than the model was trained on, by its
length (transformers' `dynamic_rope_update`); the C model has those of the trained length. Every other type
goes on as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..checks import refuse
from ..families.config import ModelConfig
from ..families.rope import rope_parameters


class ReachModel(_core.Model):
    """Refuses, with ConfigError, what `model_config` says it cannot compute."""

    model_config: ModelConfig

    def check_reach(self, tokens: int) -> None:
        """ConfigError for a sequence of so many tokens, if the frequencies are other ones there."""
        limit = self.model_config.max_positions
        parameters = rope_parameters(self.model_config.hf)
        if tokens > limit and "dynamic" in (parameters.get("rope_type"), parameters.get("type")):
            raise refuse("length", tokens, f"at most {limit} positions, for rope_type dynamic")

    def logits(
        self,
        tokens: Any,
        mask: Any = None,
        cache: _core.Cache | None = None,
        last: bool = False,
        segments: Any = None,
    ) -> npt.NDArray[np.float32]:
        """Logits of every token, or of the last one of each row, see the C type."""
        self._check_rows(tokens, mask, cache)
        return super().logits(tokens, mask, cache, last, segments)

    def hidden(
        self, tokens: Any, mask: Any = None, cache: _core.Cache | None = None, segments: Any = None
    ) -> npt.NDArray[np.float32]:
        """Final hidden states, see the C type."""
        self._check_rows(tokens, mask, cache)
        return super().hidden(tokens, mask, cache, segments)

    def nll(self, tokens: Any, mask: Any = None) -> npt.NDArray[np.float32]:
        """-log p of every token but the first, see the C type."""
        self._check_rows(tokens, mask, None)
        return super().nll(tokens, mask)

    def _check_rows(self, tokens: Any, mask: Any, cache: _core.Cache | None) -> None:
        shape = np.shape(tokens)
        width = shape[-1] if shape else 0
        held = 0 if cache is None else int(np.max(cache.lengths, initial=0))
        if width + held <= self.model_config.max_positions:
            return
        rows = np.asarray(width) if mask is None else np.sum(np.asarray(mask, dtype=bool), axis=-1)
        lengths = rows + (0 if cache is None else cache.lengths)
        self.check_reach(int(np.max(lengths, initial=0)))
