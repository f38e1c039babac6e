"""The configuration of a hybrid for transformers: the teacher's keys and a `hybridattn` section.

The section is what hybridattn itself reads; `layers` has the mixers of each layer with all options, and
`body` the numbers of the teacher that its family keeps under names of its own.
"""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class HybridAttnConfig(PretrainedConfig):
    model_type = "hybridattn"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]

    def __init__(self, **kwargs: Any) -> None:
        # kept as it is for hybridattn; the model reads body.rope_inv_freq, to which scaling has been applied
        rope = kwargs.pop("rope_parameters", None)
        self.hybridattn: dict[str, Any] = kwargs.pop("hybridattn", {})
        self.use_cache = kwargs.pop("use_cache", True)
        super().__init__(**kwargs)
        self.rope_parameters = rope

    def to_diff_dict(self) -> dict[str, Any]:
        """What is saved. transformers 4 leaves out a true tie_word_embeddings, which for hybridattn is not
        the default.
        """
        return {**super().to_diff_dict(), "tie_word_embeddings": self.tie_word_embeddings}

    @property
    def body(self) -> dict[str, Any]:
        """Numbers and flags of the teacher's block."""
        return self.hybridattn["body"]

    @property
    def mixers(self) -> list[dict[str, Any]]:
        """The mixer of each layer: its kind and options."""
        return [specs[0] for specs in self.hybridattn["layers"]]
