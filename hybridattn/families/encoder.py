"""Encoders with a norm after each sum and learned positions: BERT, and families that differ by a setting."""

from __future__ import annotations

from typing import Any

from ..checks import check_bool, refuse
from .config import ModelConfig
from .heads import FamilyHead, task_from_hf
from .reading import has_lm_head, head_size, special_tokens

# What every encoder refuses: a mask, a memory or positions of another kind.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "is_causal": (None, False),
    "is_decoder": (None, False),
    "position_embedding_type": (None, "absolute"),
}


def encoder(
    hf: dict[str, Any],
    family: str,
    head: FamilyHead,
    *,
    hidden_key: str,
    hidden: int,
    heads_key: str,
    heads: int,
    **settings: Any,
) -> ModelConfig:
    """The ModelConfig of an encoder of that width and those heads; head: of the family's classifiers;
    `settings` are further fields.
    """
    lm_head = has_lm_head(hf)
    tied = check_bool("tie_word_embeddings", hf.get("tie_word_embeddings", True))
    if lm_head and not tied:  # such files hold two biases, and versions of the class differ in which counts
        raise refuse("tie_word_embeddings", tied, f"true for model_type {family}")
    return ModelConfig(
        family=family,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=head_size(hidden_key, hidden, heads_key, heads),
        rope_inv_freq=(),
        bidirectional=True,
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        norm="layer",
        block="post",
        max_positions=settings["positions"],
        embed_norm=True,
        final_norm=False,
        lm_head=lm_head,
        head_bias=lm_head,
        head_transform=lm_head,
        tie_embeddings=tied,
        **special_tokens(hf, settings["vocab_size"]),
        task=task_from_hf(hf, head),
        hf=hf,
        **settings,
    )
