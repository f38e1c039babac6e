"""mamba2 hybrids as Bamba models: `BambaForCausalLM`, model_type `bamba`, softmax layers anywhere.

Every head is a group of its own, so that the gated norm, which Bamba takes group by group, is one of each
head. transformers 4 takes it over all groups and turns half of each head by RoPE: it does not run these.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import decoder, rope
from .checkpoint import DTYPES, write_checkpoint
from .registry import Layout, Misfit, Options
from .weights import Array, Weights

if TYPE_CHECKING:
    from ..model.model import Model

ROPE_KINDS = ("default", "linear", "yarn", "llama3")
CONV = 4  # taps where a hybrid has fewer: what programs have kernels for


def misfits(model: Model) -> list[Misfit]:
    """What of a model the layout cannot hold."""
    config = model.model_config
    found = [Misfit(reason) for reason in decoder.reasons(model, mlp_bias=True)]
    if found:
        return found
    bad_rope = rope.misfit(model, ROPE_KINDS)
    if bad_rope:
        found.append(Misfit(bad_rope))
    inner = config.num_heads * config.head_dim
    if inner % config.hidden_size:
        found.append(
            Misfit(
                f"its heads have {inner} channels; allowed: a multiple of hidden_size ({config.hidden_size})"
            )
        )
    return found + own_misfits(model)


def own_misfits(model: Model) -> list[Misfit]:
    """What of its attention and layers a Bamba model has no place for, in any file format."""
    found = []
    if model.model_config.qk_norm:
        found.append(Misfit("its attention norms q and k, which Bamba has no place for"))
    return found + [
        Misfit(reason, i) for i, specs in enumerate(model.layers) for reason in _layer(model, specs)
    ]


def _layer(model: Model, specs: list[dict[str, Any]]) -> Iterator[str]:
    config = model.model_config
    kinds = [spec["kind"] for spec in specs]
    if len(kinds) > 1:
        yield f"holds {' and '.join(kinds)}; allowed: one mixer (to_hybrid makes a hybrid of a probe)"
    elif kinds[0] == "softmax":
        if 0 < config.sliding_window < config.max_positions:
            yield f"its softmax sees a window of {config.sliding_window} tokens; allowed: full attention"
    elif kinds[0] != "mamba2":
        yield f"{kinds[0]} has no place in a Bamba model; allowed: softmax or mamba2"
    else:
        spec = specs[0]
        if spec.get("rope"):
            yield "mamba2 rotates q and k (rope 1); allowed: rope 0"
        if not spec.get("silu", 1):
            yield "mamba2 has no silu on q, k and v (silu 0); allowed: silu 1"
        if (config.attention_bias or config.output_bias) and spec.get("bias", 1):
            yield "mamba2 has biases on its projections; allowed: bias 0 (an option of align)"


def config(model: Model, dtype: str) -> dict[str, Any]:
    """The config.json."""
    c, hf = model.model_config, model.model_config.hf
    return {
        "architectures": ["BambaForCausalLM"],
        "model_type": "bamba",
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "intermediate_size": c.intermediate_size,
        "num_hidden_layers": c.num_layers,
        "num_attention_heads": c.num_heads,
        "num_key_value_heads": c.num_kv_heads,
        "head_dim": c.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": c.max_positions,
        "rms_norm_eps": c.norm_eps,
        "tie_word_embeddings": c.tie_embeddings,
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
        "mamba_d_conv": taps(model),
        "mamba_expand": c.num_heads * c.head_dim // c.hidden_size,
        "mamba_conv_bias": False,
        "mamba_proj_bias": False,
        "rope_parameters": {**rope.parameters(model), "partial_rotary_factor": 1.0},
        "dtype": dtype,
        # the class's own defaults are ids of another vocabulary
        **{key: hf.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    }


def taps(model: Model) -> int:
    """Taps of the convolution of all layers."""
    return max(CONV, *(int(specs[0].get("conv", 0)) for specs in model.layers))


def tensors(model: Model) -> Iterator[tuple[str, Array]]:
    """(name, float32) of every tensor."""
    weights, config = Weights(model), model.model_config
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
    heads, width = model.model_config.num_heads, taps(model)
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
    return {}


LAYOUT = Layout(
    name="bamba",
    summary="mamba2 and softmax layers as a Bamba model",
    programs="transformers 5 (BambaForCausalLM)",
    dtypes=DTYPES,
    misfits=misfits,
    write=write,
)
