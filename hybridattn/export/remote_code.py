"""Layout `remote_code`: the folder that `save_pretrained` writes and the Python files that run it in
transformers.

Nothing is converted: names and tensors are those of a saved hybrid, so `from_pretrained` reads the folder
back to the bit, and every mixer of a decoder fits. What runs it is in `modelling/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..families import hf_name
from ..families.rope import rope_parameters
from ..files import atomic_write
from ..model.saved import HYBRID_TYPE, Section, to_hf
from . import decoder, source
from .checkpoint import DTYPES, write_checkpoint
from .registry import Layout, Misfit, Options
from .weights import Weights

if TYPE_CHECKING:
    from ..model.model import Model

# what the block needs to know and a family's config says in a way of its own, or not at all
_BODY = (
    "norm_eps",
    "rope_inv_freq",
    "rope_attention_factor",
    "sliding_window",
    "attention_bias",
    "output_bias",
    "mlp_bias",
    "qk_norm",
)
_OLD_ROPE = ("rope_theta", "rope_scaling", "partial_rotary_factor")


def misfits(model: Model) -> list[Misfit]:
    """What of the model the modelling file does not run."""
    reasons = decoder.reasons(model, mlp_bias=True)
    if reasons:
        return [Misfit(reason) for reason in reasons]
    served, found = source.kinds(), []
    for layer, specs in enumerate(model.layers):
        kinds = [spec["kind"] for spec in specs]
        if len(kinds) > 1:
            found.append(
                Misfit(f"it holds {' and '.join(kinds)}; allowed: one mixer, as to_hybrid leaves it", layer)
            )
        elif any(specs[0].get(key) for key in ("heads", "key_heads", "head_dim")):
            found.append(
                Misfit("its heads have a shape of their own; allowed: heads, key_heads and head_dim 0", layer)
            )
        elif kinds[0] not in served:
            found.append(Misfit(f"its mixer is {kinds[0]}; allowed: {', '.join(served)}", layer))
    if all([spec["kind"] for spec in specs] == ["softmax"] for specs in model.layers):
        found.append(
            Misfit("all its layers are softmax; save_pretrained writes it for transformers as it is")
        )
    return found


def config_of(model: Model, dtype: str) -> dict[str, Any]:
    """The config.json: that of a saved hybrid, with the module that runs it and what the block needs to
    know.
    """
    body = model.model_config
    config = to_hf(body, Section(model.layers, plan=model.plan, softmax_order=model.softmax_order), dtype)
    section = {**config[HYBRID_TYPE], "body": {name: getattr(body, name) for name in _BODY}}
    # one key for RoPE: transformers 5 makes others into it and loses what it does not expect
    rope = {"rope_type": "default", "rope_theta": 10000.0, **rope_parameters(config)}
    for name in _OLD_ROPE:
        config.pop(name, None)
    return {
        **config,
        "auto_map": source.AUTO_MAP,
        "vocab_size": body.vocab_size,
        "hidden_size": body.hidden_size,
        "num_hidden_layers": body.num_layers,
        "num_attention_heads": body.num_heads,
        "num_key_value_heads": body.num_kv_heads,
        "head_dim": body.head_dim,
        "intermediate_size": body.intermediate_size,
        "tie_word_embeddings": body.tie_embeddings,
        "rope_parameters": rope,
        HYBRID_TYPE: section,
    }


def write(model: Model, folder: Path, options: Options) -> dict[str, Any]:
    """Write the checkpoint and its code into an empty folder."""
    weights = Weights(model)
    names = [name for name, _, _ in model.parameter_info()]
    tensors = ((hf_name(model.model_config, name), weights[name]) for name in names)
    for name, text in source.files().items():
        atomic_write(folder / name, text)
    write_checkpoint(model, folder, config_of(model, options.dtype), tensors, options.dtype)
    return {}


LAYOUT = Layout(
    name="remote_code",
    summary="every mixer, as a modelling file in plain PyTorch beside the weights",
    programs="transformers 4.57 and 5, with trust_remote_code=True",
    dtypes=DTYPES,
    misfits=misfits,
    write=write,
)
