"""What every layout of pre-norm decoders asks of a model and of its layers, and what their configs share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import rope
from .registry import Misfit

if TYPE_CHECKING:
    from ..model.model import Model

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
CONV = 4  # taps where a hybrid has fewer: what programs have kernels for


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


def body_misfits(
    model: Model, rope_kinds: Collection[str], own: Callable[[Model], list[Misfit]], mlp_bias: bool = False
) -> list[Misfit]:
    """What of a model a layout cannot hold: nothing but `reasons` where there are any, else its RoPE and what
    `own` finds. rope_kinds: the types of RoPE that the layout has.
    """
    found = [Misfit(reason) for reason in reasons(model, mlp_bias)]
    if found:
        return found
    bad_rope = rope.misfit(model, rope_kinds)
    return [*([Misfit(bad_rope)] if bad_rope else []), *own(model)]


def layer_misfits(
    model: Model, kind: str, program: str, linear: Callable[[Model, Mapping[str, Any]], Iterator[str]]
) -> list[Misfit]:
    """Layers that are neither full softmax attention nor one mixer of `kind` that `linear` says nothing of.

    program: the model that the layout writes, for messages.
    """
    return [
        Misfit(reason, layer)
        for layer, specs in enumerate(model.layers)
        for reason in _layer(model, specs, kind, program, linear)
    ]


def several(specs: list[dict[str, Any]]) -> str | None:
    """Why the mixers of a layer cannot be written, where they are more than one."""
    if len(specs) < 2:
        return None
    kinds = " and ".join(spec["kind"] for spec in specs)
    return f"holds {kinds}; allowed: one mixer (to_hybrid makes a hybrid of a probe)"


def _layer(
    model: Model,
    specs: list[dict[str, Any]],
    kind: str,
    program: str,
    linear: Callable[[Model, Mapping[str, Any]], Iterator[str]],
) -> Iterator[str]:
    config, spec = model.model_config, specs[0]
    more = several(specs)
    if more:
        yield more
    elif spec["kind"] == "softmax":
        if 0 < config.sliding_window < config.max_positions:
            yield f"its softmax sees a window of {config.sliding_window} tokens; allowed: full attention"
    elif spec["kind"] != kind:
        yield f"{spec['kind']} has no place in a {program} model; allowed: softmax or {kind}"
    else:
        if spec.get("rope"):
            yield f"{kind} rotates q and k (rope 1); allowed: rope 0"
        if not spec.get("silu", 1):
            yield f"{kind} has no silu on q, k and v (silu 0); allowed: silu 1"
        if spec.get("output_gate") == "none":
            yield f"{kind} has no output gate (output_gate none); allowed: output_gate low_rank or full"
        yield from linear(model, spec)


def taps(model: Model) -> int:
    """Of the convolution that all linear layers get: the longest there is, and at least `CONV`."""
    return max([CONV, *(int(specs[0].get("conv", 0)) for specs in model.layers)])


def sizes(model: Model, head_dim: int | None = None) -> dict[str, Any]:
    """Keys of a config.json that every decoder has. head_dim: where the layout's heads are wider."""
    config = model.model_config
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": head_dim or config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
    }


def special_ids(model: Model) -> dict[str, Any]:
    """The ids of special tokens, None for what the teacher's config does not say."""
    return {key: model.model_config.hf.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
