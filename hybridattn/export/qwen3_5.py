"""gated_delta hybrids as Qwen3.5 text models: `Qwen3_5ForCausalLM`, model_type `qwen3_5_text`.

Read by transformers (5.3 and newer) and by vLLM, with softmax layers anywhere. The mapping is in
`qwen3_5_tensors`; checked against the modelling file of transformers 5.24.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import decoder, expanded, rope
from . import qwen3_5_native as native
from .checkpoint import DTYPES, write_checkpoint
from .constant import Constants, choose
from .lengths import query_key_lengths, token_ids
from .qwen3_5_tensors import padded_dim, tensors, zero_centred
from .registry import Layout, Misfit, Options

if TYPE_CHECKING:
    from ..model.model import Model

# Without dynamic: vLLM stretches RoPE from the first token on, transformers beyond the length trained on.
ROPE_KINDS = ("default", "linear", "yarn", "llama3")


def misfits(model: Model) -> list[Misfit]:
    """What of a model the layout cannot hold."""
    if native.is_native(model):
        return native.misfits(model)
    return decoder.body_misfits(model, ROPE_KINDS, layer_misfits)


def layer_misfits(model: Model) -> list[Misfit]:
    """What of its layers a Qwen3.5 model has no place for, in any file format."""
    found = decoder.layer_misfits(model, "gated_delta", "Qwen3.5", _linear)
    if all(spec["kind"] != "softmax" for specs in model.layers for spec in specs):
        found.append(
            Misfit("it has no softmax layer; allowed: at least one, whose cache tells programs the length")
        )
    return found


def _linear(model: Model, spec: Mapping[str, Any]) -> Iterator[str]:
    config = model.model_config
    if config.attention_bias and spec.get("bias", 1):
        yield "gated_delta has biases on q, k and v; allowed: bias 0 (an option of align)"
    if config.output_bias and spec.get("bias", 1):
        yield "gated_delta has a bias on its output; allowed: bias 0 (an option of align)"
    if any(spec.get(key) for key in ("heads", "key_heads", "head_dim")):
        yield "gated_delta has heads of a shape of its own; allowed: heads, key_heads and head_dim 0"
    if config.qk_norm and spec.get("qk_norm", 1):
        yield "gated_delta norms q and k before silu; allowed: qk_norm 0 (an option of align)"


def constants(model: Model, options: Options) -> dict[int, Constants]:
    """Of every softmax layer, for teachers without norms on q and k; chosen on a text."""
    config = model.model_config
    if config.qk_norm:
        return {}
    dim = config.head_dim
    lengths = query_key_lengths(model, token_ids(model, options.text))
    dtype = options.dtype if options.dtype in DTYPES else "float32"
    return {
        layer: choose(dim, padded_dim(dim), query, key, dtype, layer)
        for layer, (query, key) in lengths.items()
    }


def notes(model: Model, chosen: dict[int, Constants]) -> dict[str, Any]:
    """What is worth knowing of the constants and of lean mixers, as JSON data."""
    if not chosen:
        return expanded.notes(model)
    return {
        **expanded.notes(model),
        "padded_head_dim": [model.model_config.head_dim, padded_dim(model.model_config.head_dim)],
        "constants": {str(layer): [item.query, item.key] for layer, item in chosen.items()},
        "constant_error": max(item.error for item in chosen.values()),
    }


def config(model: Model, dtype: str) -> dict[str, Any]:
    """The config.json."""
    c, hf = model.model_config, model.model_config.hf
    head = c.head_dim if c.qk_norm else padded_dim(c.head_dim)
    rotary = rope.parameters(model)
    rotary["partial_rotary_factor"] = share(c.head_dim, head)
    if rotary["rope_type"] == "default":
        # vLLM's scaled RoPE takes positions as they are, and with sections it would get three of each
        rotary |= {"mrope_section": sections(c.head_dim // 2), "mrope_interleaved": True}
    return {
        "architectures": ["Qwen3_5ForCausalLM"],
        "model_type": "qwen3_5_text",
        **decoder.sizes(model, head),
        "attention_bias": not c.qk_norm or c.attention_bias,
        "attention_dropout": 0.0,
        "initializer_range": hf.get("initializer_range", 0.02),
        "use_cache": True,
        "layer_types": [
            "full_attention" if specs[0]["kind"] == "softmax" else "linear_attention"
            for specs in model.layers
        ],
        "linear_conv_kernel_dim": decoder.taps(model),
        "linear_key_head_dim": c.head_dim,
        "linear_value_head_dim": c.head_dim,
        "linear_num_key_heads": c.num_heads,
        "linear_num_value_heads": c.num_heads,
        "rope_parameters": rotary,
        "dtype": dtype,
        **{key: value for key, value in decoder.special_ids(model).items() if value is not None},
    }


def share(dim: int, padded: int) -> float:
    """The part of a padded head that turns, so that every program's int(padded * part) is `dim`."""
    part = dim / padded
    return part if int(padded * part) == dim else float(np.nextafter(part, 2.0))


def sections(pairs: int) -> list[int]:
    """How many pairs turn with each of the three positions, which are one and the same for text. Interleaved,
    so that all are covered: a pair that is not would take a fourth position, 0, in llama.cpp.
    """
    return [(pairs + 2 - i) // 3 for i in range(3)]


def write(model: Model, folder: Path, options: Options) -> dict[str, Any]:
    """Write the checkpoint."""
    if native.is_native(model):
        own = native.native_config(model).hf
        made = native.tensors(model).items()
        write_checkpoint(model, folder, {**own, "dtype": options.dtype}, made, options.dtype)
        return {}
    chosen = constants(model, options)
    plain = tensors(model, chosen, decoder.taps(model), options.dtype)
    stored = ((name, array - np.float32(1) if zero_centred(name) else array) for name, array in plain)
    write_checkpoint(model, folder, config(model, options.dtype), stored, options.dtype)
    return notes(model, chosen)


LAYOUT = Layout(
    name="qwen3_5",
    summary="gated_delta and softmax layers as a Qwen3.5 text model",
    programs="transformers 5.3 and newer (Qwen3_5ForCausalLM), vLLM",
    dtypes=DTYPES,
    misfits=misfits,
    write=write,
)
