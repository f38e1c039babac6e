"""What every layout of pre-norm decoders asks of a model before it looks at the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.model import Model

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


def reasons(model: Model, mlp_bias: bool = False) -> list[str]:
    """Why the model is not a plain decoder: pre-norm with RMSNorm, SwiGLU, an LM head. mlp_bias: the layout
    has a place for biases of the MLP.
    """
    config = model.model_config
    if config.family not in FAMILIES:
        return [f"model_type is {config.family}; allowed: {', '.join(FAMILIES)}"]
    found = []
    if config.task is not None:
        found.append(f"it has the head of a task ({config.task.kind}); allowed: an LM head")
    elif not config.lm_head:
        found.append("it has no LM head")
    if config.bidirectional:
        found.append("it is bidirectional; allowed: a decoder")
    if config.mlp_bias and not mlp_bias:
        found.append("its MLP has biases (mlp_bias), which the layout has no place for")
    if not config.hf:
        found.append(
            "model_config.hf is empty; allowed: the Hugging Face config that the model was made from"
        )
    return found
