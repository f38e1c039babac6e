"""`window` hybrids as Qwen2 or Qwen3 models whose `layer_types` mix sliding and full attention.

A body of Llama's or Mistral's kind is a Qwen2 with biases of zero. Read by transformers (4.53 and newer).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import decoder, rope
from .checkpoint import DTYPES, write_checkpoint
from .plain_tensors import tensors
from .registry import Layout, Misfit, Options

if TYPE_CHECKING:
    from ..model.model import Model

ROPE_KINDS = ("default", "linear", "dynamic", "yarn", "llama3")  # one program: what it reads


def misfits(model: Model) -> list[Misfit]:
    """What of a model the layout cannot hold."""
    return decoder.body_misfits(model, ROPE_KINDS, _own)


def _own(model: Model) -> list[Misfit]:
    found = []
    if model.model_config.output_bias and not model.model_config.qk_norm:
        found.append(Misfit("its attention has a bias on the output, which Qwen2 has no place for"))
    found += [Misfit(reason, i) for i, specs in enumerate(model.layers) for reason in _layer(specs)]
    widths = sorted({_width(model, i) for i in range(len(model.layers))} - {0})
    if len(widths) > 1 and not any(misfit.layer is not None for misfit in found):
        found.append(Misfit(f"its windows are {widths} tokens wide; allowed: one width for all layers"))
    return found


def _layer(specs: list[dict[str, Any]]) -> Iterator[str]:
    kind, more = specs[0]["kind"], decoder.several(specs)
    if more:
        yield more
    elif kind not in ("softmax", "window"):
        yield f"{kind} has no place in a model of windows; allowed: softmax or window"
    elif specs[0].get("sinks"):
        yield f"window has {specs[0]['sinks']} sinks; allowed: sinks 0"


def _width(model: Model, layer: int) -> int:
    """Tokens that a layer sees, 0 for all."""
    spec = model.layers[layer][0]
    return int(spec["window"]) if spec["kind"] == "window" else model.model_config.sliding_window


def config(model: Model, dtype: str) -> dict[str, Any]:
    """The config.json."""
    c, hf = model.model_config, model.model_config.hf
    widths = [_width(model, i) for i in range(len(model.layers))]
    return {
        "architectures": ["Qwen3ForCausalLM" if c.qk_norm else "Qwen2ForCausalLM"],
        "model_type": "qwen3" if c.qk_norm else "qwen2",
        **decoder.sizes(model),
        **({"attention_bias": c.attention_bias} if c.qk_norm else {}),
        "attention_dropout": 0.0,
        "initializer_range": hf.get("initializer_range", 0.02),
        "use_cache": True,
        "use_sliding_window": any(widths),
        "sliding_window": max(widths) or None,
        "max_window_layers": c.num_layers,  # counts only where layer_types is not given
        "layer_types": ["sliding_attention" if width else "full_attention" for width in widths],
        # both spellings: transformers 4 reads rope_theta and rope_scaling, 5 rope_parameters
        **rope.old_and_new(model),
        "dtype": dtype,
        "torch_dtype": dtype,
        **{key: value for key, value in decoder.special_ids(model).items() if value is not None},
    }


QWEN2_TOKENIZER = (
    "transformers 5 reads any tokenizer of a qwen2 folder as Qwen2's own; load it with "
    "PreTrainedTokenizerFast.from_pretrained"
)


def write(model: Model, folder: Path, options: Options) -> dict[str, Any]:
    """Write the checkpoint."""
    made = tensors(model, zero_biases=not model.model_config.qk_norm)
    made_config = config(model, options.dtype)
    write_checkpoint(model, folder, made_config, made, options.dtype)
    if made_config["model_type"] == "qwen2" and model.model_config.family != "qwen2":
        return {"tokenizer": QWEN2_TOKENIZER}
    return {}


LAYOUT = Layout(
    name="sliding_window",
    summary="window (without sinks) and softmax layers as a Qwen2 or Qwen3 model with layer_types",
    programs="transformers 4.53 and newer (Qwen2ForCausalLM, Qwen3ForCausalLM)",
    dtypes=DTYPES,
    misfits=misfits,
    write=write,
)
