"""mamba2 hybrids as Bamba models: `BambaForCausalLM`, model_type `bamba`, softmax layers anywhere.

Every head is a group of its own, so that the gated norm, which Bamba takes group by group, is one of each
head. transformers 4 takes it over all groups and turns half of each head by RoPE: it does not run these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import decoder, rope
from .checkpoint import DTYPES, write_checkpoint
from .expanded import Expanded, notes
from .registry import Layout, Misfit, Options
from .weights import Array, Weights

if TYPE_CHECKING:
    from ..model.model import Model

ROPE_KINDS = ("default", "linear", "yarn", "llama3")


def misfits(model: Model) -> list[Misfit]:
    """What of a model the layout cannot hold."""
    return decoder.body_misfits(model, ROPE_KINDS, _own, mlp_bias=True)


def _own(model: Model) -> list[Misfit]:
    config = model.model_config
    inner, found = config.num_heads * config.head_dim, []
    if inner % config.hidden_size:
        allowed = f"a multiple of hidden_size ({config.hidden_size})"
        found.append(Misfit(f"its heads have {inner} channels; allowed: {allowed}"))
    return found + own_misfits(model)


def own_misfits(model: Model) -> list[Misfit]:
    """What of its attention and layers a Bamba model has no place for, in any file format."""
    found = []
    if model.model_config.qk_norm:
        found.append(Misfit("its attention norms q and k, which Bamba has no place for"))
    return found + decoder.layer_misfits(model, "mamba2", "Bamba", _linear)


def _linear(model: Model, spec: Mapping[str, Any]) -> Iterator[str]:
    config = model.model_config
    if (config.attention_bias or config.output_bias) and spec.get("bias", 1):
        yield "mamba2 has biases on its projections; allowed: bias 0 (an option of align)"


def config(model: Model, dtype: str) -> dict[str, Any]:
    """The config.json."""
    c, hf = model.model_config, model.model_config.hf
    return {
        "architectures": ["BambaForCausalLM"],
        "model_type": "bamba",
        **decoder.sizes(model),
        "attention_bias": c.attention_bias or c.output_bias,
        "attention_dropout": 0.0,
        "mlp_bias": c.mlp_bias,
        "initializer_range": hf.get("initializer_range", 0.02),
        "use_cache": True,
        "attn_layer_indices": [i for i, specs in enumerate(model.layers) if specs[0]["kind"] == "softmax"],
        "mamba_n_heads": c.num_heads,
        "mamba_d_head": c.head_dim,
        "mamba_n_groups": c.num_heads,
        "mamba_d_state": c.head_dim,
        "mamba_d_conv": decoder.taps(model),
        "mamba_expand": c.num_heads * c.head_dim // c.hidden_size,
        "mamba_conv_bias": False,
        "mamba_proj_bias": False,
        "rope_parameters": {**rope.parameters(model), "partial_rotary_factor": 1.0},
        "dtype": dtype,
        # the class's own defaults are ids of another vocabulary
        **decoder.special_ids(model),
    }


def tensors(model: Model) -> Iterator[tuple[str, Array]]:
    """(name, float32) of every tensor."""
    weights, config = Expanded(model), model.model_config
    yield "model.embed_tokens.weight", weights["embed.weight"]
    for i, specs in enumerate(model.layers):
        before, ours = f"model.layers.{i}.", f"layers.{i}."
        yield f"{before}input_layernorm.weight", weights[f"{ours}mixer_norm.weight"]
        yield f"{before}pre_ff_layernorm.weight", weights[f"{ours}mlp_norm.weight"]
        if specs[0]["kind"] == "softmax":
            made = _softmax(model, weights, f"{ours}softmax.")
            yield from ((f"{before}self_attn.{name}", array) for name, array in made)
        else:
            made = _mamba(model, weights, f"{ours}mamba2.")
            yield from ((f"{before}mamba.{name}", array) for name, array in made)
        for part in ("gate", "up", "down"):
            for which in ("weight", "bias") if config.mlp_bias else ("weight",):
                name = f"{part}_proj.{which}"
                yield f"{before}feed_forward.{name}", weights[f"{ours}mlp.{name}"]
    yield "model.final_layernorm.weight", weights["final_norm.weight"]
    if not config.tie_embeddings:
        yield "lm_head.weight", weights["lm_head.weight"]


def _softmax(model: Model, weights: Weights, ours: str) -> Iterator[tuple[str, Array]]:
    """All four projections have a bias or none."""
    config = model.model_config
    for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
        weight, bias = weights[f"{ours}{part}.weight"], weights.get(f"{ours}{part}.bias")
        yield f"{part}.weight", weight
        if config.attention_bias or config.output_bias:
            yield f"{part}.bias", np.zeros(len(weight), np.float32) if bias is None else bias


def _mamba(model: Model, weights: Weights, ours: str) -> Iterator[tuple[str, Array]]:
    """Joined rows: gate, then x, B and C, which are v, k and q, then the step."""
    heads, width = model.model_config.num_heads, decoder.taps(model)
    yield "in_proj.weight", np.concatenate([weights[f"{ours}{part}_proj.weight"] for part in "gvkqa"])
    yield "conv1d.weight", np.concatenate([_taps(weights, ours, part, width) for part in "vkq"])[:, None]
    yield "dt_bias", weights[f"{ours}dt_bias"]
    yield "A_log", weights[f"{ours}A_log"]
    yield "D", np.zeros(heads, np.float32)
    yield "norm.weight", np.tile(weights[f"{ours}norm.weight"], heads)
    yield "out_proj.weight", weights[f"{ours}o_proj.weight"]


def _taps(weights: Weights, ours: str, part: str, width: int) -> Array:
    """The convolution of q, k or v with zeros before it, the identity where there is none: [channels,
    width].
    """
    own = weights.get(f"{ours}{part}_conv.weight")
    out = np.zeros((len(weights[f"{ours}{part}_proj.weight"]), width), np.float32)
    if own is None:
        out[:, -1] = 1.0
    else:
        out[:, width - own.shape[1] :] = own
    return out


def write(model: Model, folder: Path, options: Options) -> dict[str, Any]:
    """Write the checkpoint."""
    write_checkpoint(model, folder, config(model, options.dtype), tensors(model), options.dtype)
    return notes(model)


LAYOUT = Layout(
    name="bamba",
    summary="mamba2 and softmax layers as a Bamba model",
    programs="transformers 5 (BambaForCausalLM)",
    dtypes=DTYPES,
    misfits=misfits,
    write=write,
)
