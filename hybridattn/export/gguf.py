"""Models as GGUF files for llama.cpp: gated_delta hybrids as `qwen35`, mamba2 hybrids as `granitehybrid`,
softmax models as what they are.

Checked against llama.cpp as llama-cpp-python 0.3.36 holds it. Needs the `gguf` package.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import (
    decoder,
    expanded,
    gguf_bamba,
    gguf_qwen35,
    gguf_vocabulary,
    plain_tensors,
    qwen3_5,
    qwen3_5_native,
    qwen3_5_tensors,
    rope,
)
from .gguf_file import Values, write_file
from .registry import Layout, Misfit, Options
from .weights import Array

if TYPE_CHECKING:
    from ..model.model import Model

HYBRID, BAMBA = "qwen35", gguf_bamba.ARCHITECTURE
_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
# What llama.cpp's graphs do: only these take factors for single frequencies.
_FACTORS = ("llama", BAMBA)
ROPE_KINDS = ("default", "linear", "yarn")
FILE = "model.gguf"
DTYPES = ("float32", "float16", "bfloat16", "q8_0", "q4_0", "q4_1")


def architecture(model: Model) -> str:
    """The GGUF architecture that a model is written as."""
    if any(spec["kind"] == "mamba2" for specs in model.layers for spec in specs):
        return BAMBA
    plain = all([spec["kind"] for spec in specs] == ["softmax"] for specs in model.layers)
    return _ARCHITECTURES.get(model.model_config.family, HYBRID) if plain else HYBRID


def misfits(model: Model) -> list[Misfit]:
    """What of a model llama.cpp cannot hold."""
    if qwen3_5_native.is_native(model):
        return gguf_qwen35.misfits(model)
    found = [Misfit(reason) for reason in decoder.reasons(model)]
    if found:
        return found
    kind = architecture(model)
    bad_rope = rope.misfit(model, (*ROPE_KINDS, "llama3") if kind in _FACTORS else ROPE_KINDS)
    bad_tokenizer = gguf_vocabulary.misfit(model)
    found += [Misfit(reason) for reason in (bad_rope, bad_tokenizer) if reason]
    found += [Misfit(reason) for reason in _own(model, kind)]
    if kind == HYBRID:
        found += qwen3_5.layer_misfits(model)
    if kind == BAMBA:
        found += gguf_bamba.misfits(model)
    return found


def _own(model: Model, kind: str) -> Iterator[str]:
    config = model.model_config
    if config.output_bias and kind not in ("llama", BAMBA):
        yield f"its attention has a bias on the output, which llama.cpp's {kind} has no place for"
    if kind == "qwen2" and config.num_heads * config.head_dim != config.hidden_size:
        yield f"head_dim is {config.head_dim}; llama.cpp's qwen2 wants hidden_size / num_attention_heads"
    if kind not in (HYBRID, BAMBA) and 0 < config.sliding_window < config.max_positions:
        yield f"its layers see {config.sliding_window} tokens, and llama.cpp's {kind} has no sliding window"


def write(model: Model, folder: Path, options: Options) -> dict[str, Any]:
    """Write the file."""
    kind = architecture(model)
    made: Iterator[tuple[str, Array]]
    if qwen3_5_native.is_native(model):
        made, notes = gguf_qwen35.tensors(model), {}
        keys = _common(model) | gguf_qwen35.keys(model)
    elif kind == HYBRID:
        chosen = qwen3_5.constants(model, options)
        taps = decoder.taps(model)
        made = (
            gguf_qwen35.value(name, array)
            for name, array in qwen3_5_tensors.tensors(model, chosen, taps)
            if not name.endswith("o_proj.bias")  # zeros, for which llama.cpp has no place
        )
        notes = qwen3_5.notes(model, chosen)
        keys = _common(model) | gguf_qwen35.padded_keys(model, taps)
    elif kind == BAMBA:
        made = chain(gguf_bamba.tensors(model), _rope_factors(model))
        notes = {**expanded.notes(model), "heads": gguf_bamba.heads(model)}
        keys = _common(model) | gguf_bamba.keys(model)
    else:
        made = chain(_plain(model, kind), _rope_factors(model))
        notes, keys = {}, _common(model) | _plain_keys(model)
    kept = write_file(
        folder / FILE,
        kind,
        {**{f"{kind}.{key}": value for key, value in keys.items()}, **_general(model)},
        gguf_vocabulary.keys(model),
        made,
        options.dtype,
    )
    return {**notes, "architecture": kind, **({"kept_finer": kept} if kept else {})}


def _general(model: Model) -> Values:
    name = model.model_config.hf.get("_name_or_path")
    return {"general.name": str(name).rstrip("/").rsplit("/", 1)[-1] if name else "hybrid"}


def _common(model: Model) -> Values:
    c = model.model_config
    scaling = rope.parameters(model)
    keys: Values = {
        "block_count": c.num_layers,
        "context_length": c.max_positions,
        "embedding_length": c.hidden_size,
        "feed_forward_length": c.intermediate_size,
        "attention.head_count": c.num_heads,
        "attention.head_count_kv": c.num_kv_heads,
        "attention.layer_norm_rms_epsilon": float(c.norm_eps),
        "rope.freq_base": scaling["rope_theta"],
        "rope.dimension_count": c.head_dim,
        "vocab_size": c.vocab_size,
    }
    if scaling["rope_type"] in ("linear", "yarn"):
        keys |= {"rope.scaling.type": scaling["rope_type"], "rope.scaling.factor": float(scaling["factor"])}
    if scaling["rope_type"] == "yarn":
        keys["rope.scaling.original_context_length"] = int(scaling["original_max_position_embeddings"])
        for key in ("beta_fast", "beta_slow"):
            if key in scaling:
                keys[f"rope.scaling.yarn_{key}"] = float(scaling[key])
    return keys


def _plain_keys(model: Model) -> Values:
    dim = model.model_config.head_dim
    return {"attention.key_length": dim, "attention.value_length": dim}


def _plain(model: Model, kind: str) -> Iterator[tuple[str, Array]]:
    config = model.model_config
    for name, array in plain_tensors.tensors(model):
        turned = kind == "llama" and (".q_proj." in name or ".k_proj." in name)
        yield name, plain_tensors.interleaved(array, config.head_dim) if turned else array


def _rope_factors(model: Model) -> Iterator[tuple[str, Array]]:
    if rope.parameters(model)["rope_type"] == "llama3":
        yield "rope_freqs.weight", rope.factors(model)


LAYOUT = Layout(
    name="gguf",
    summary="a GGUF file: gated_delta as qwen35, mamba2 as granitehybrid, Llama, Qwen2, Qwen3 as they are",
    programs="llama.cpp and what is built on it",
    dtypes=DTYPES,
    misfits=misfits,
    write=write,
    library="gguf",
)
