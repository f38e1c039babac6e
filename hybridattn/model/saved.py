"""The config.json of a model with linear mixers: the Hugging Face config it came from and a `hybridattn`
section.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

from .._core import mixers
from ..checks import refuse
from ..data import old_tokenizer_files
from ..data.tokenizer import remove_leftovers
from ..errors import ConfigError, PlanError
from ..families import config_from_hf, layout_of
from ..families.config import ModelConfig, TaskHead
from ..families.heads import task_to_hf
from ..formats.exported import MODEL_TYPES
from ..formats.other_weights import other_weights
from ..reading import read_json
from .generation_config import NAME as GENERATION
from .plan import Plan


def order_of(layers: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """`layers` as an order of all layers, the one that keeps its softmax longest first. ConfigError if it is
    not.
    """
    if sorted(layers) != list(range(num_layers)):
        raise refuse("softmax_order", list(layers), f"every layer from 0 to {num_layers - 1} once")
    return tuple(int(i) for i in layers)


Spec = dict[str, Any]

HYBRID_TYPE = "hybridattn"
_LAYER_TYPE = {"softmax": "full_attention"}
_ARCHITECTURE = {
    None: "HybridAttnForCausalLM",
    "classify": "HybridAttnForSequenceClassification",
    "regress": "HybridAttnForSequenceClassification",
    "span": "HybridAttnForQuestionAnswering",
}
# auto_map: the code of a remote_code folder, which is not written again
_OURS = (HYBRID_TYPE, "base_model_type", "architectures", "layer_types", "auto_map")


@dataclass(frozen=True)
class Section:
    """What a config.json says beyond the Hugging Face config; all None for a plain model."""

    layers: list[list[Spec]] | None = None
    gates: list[float] | None = None
    plan: Plan | None = None
    softmax_order: tuple[int, ...] | None = None


def complete(spec: Mapping[str, Any]) -> Spec:
    """A mixer spec with the default of every option that it leaves out, so that what is saved keeps its
    meaning.
    """
    options = mixers().get(str(spec.get("kind")), {}).get("options", {})
    return {"kind": spec.get("kind"), **{name: option["default"] for name, option in options.items()}, **spec}


def named_options(kind: str) -> dict[str, tuple[str, ...]]:
    """The options of a mixer whose values have names, and these names."""
    options = mixers().get(kind, {}).get("options", {})
    return {name: option["choices"] for name, option in options.items() if "choices" in option}


def own_layers(config: ModelConfig) -> list[list[Spec]]:
    """The mixers of the family's own checkpoints."""
    specs = config.native_layers or ({"kind": "softmax"},) * config.num_layers
    return [[complete(spec)] for spec in specs]


def to_hf(config: ModelConfig, saved: Section, dtype: str) -> dict[str, Any]:
    """The config.json to write, for weights of `dtype`. ConfigError for a model that was not made
    from a Hugging Face config.
    """
    layers = saved.layers or []
    if not config.hf:
        raise ConfigError(
            "model_config.hf is empty; allowed: the Hugging Face config that the model was made from"
        )
    hf = {**config.hf, **task_to_hf(config), "torch_dtype": dtype}
    task = config.task
    if "dtype" in hf:
        hf["dtype"] = dtype
    plain = not layers or layers == own_layers(config)
    if plain and (task is None or layout_of(config).task.computes(task)):
        return hf
    section: dict[str, Any] = {"format": 1, "layers": layers}
    if any(len(specs) > 1 for specs in layers):
        section["gates"] = saved.gates
    if saved.plan is not None:
        section["plan"] = saved.plan.to_dict()
    if saved.softmax_order is not None:
        section["softmax_order"] = list(saved.softmax_order)
    if task is not None:
        section["task"] = asdict(task)
    section["base_architectures"] = hf.get("architectures")
    without = {key: value for key, value in config.hf.items() if key != "layer_types"}
    if config.native_layers or config_from_hf(without).local_layers != config.local_layers:
        section["base_layer_types"] = hf.get("layer_types")
    return {
        **hf,
        "model_type": HYBRID_TYPE,
        "base_model_type": hf["model_type"],
        "architectures": [_ARCHITECTURE[task.kind if task else None]],
        "layer_types": [
            "mixed" if len(specs) > 1 else _LAYER_TYPE.get(specs[0]["kind"], "linear_attention")
            for specs in layers
        ],
        HYBRID_TYPE: section,
    }


def is_hybrid(folder: Path) -> bool:
    """Whether a folder holds a model that was saved here, by its config.json."""
    try:
        content = read_json(folder / "config.json", ConfigError)
    except (OSError, ConfigError):
        return False
    return isinstance(content, dict) and content.get("model_type") == HYBRID_TYPE


def exported_config(folder: Path) -> dict[str, Any] | None:
    """The config.json of a folder with a model_type that hybrids are exported as; None for any other, which
    `read_config` reads.
    """
    try:
        content = read_json(folder / "config.json", ConfigError)
    except (OSError, ConfigError):
        return None
    return content if isinstance(content, dict) and content.get("model_type") in MODEL_TYPES else None


def read_config(path: Path) -> tuple[ModelConfig, Section]:
    """The configuration and the section of a config.json. Raises ConfigError or PlanError naming the file."""
    try:
        content = read_json(path, ConfigError)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; a model folder holds config.json and model.safetensors"
            f"{other_weights(path.parent)}"
        ) from None
    try:
        if not isinstance(content, dict) or content.get("model_type") != HYBRID_TYPE:
            return config_from_hf(content), Section()
        return _split(content)
    except (ConfigError, PlanError) as error:
        raise type(error)(f"{path}: {error}") from None


def _split(content: dict[str, Any]) -> tuple[ModelConfig, Section]:
    """Undo what `to_hf` did."""
    hf = {key: value for key, value in content.items() if key not in _OURS}
    section = content.get(HYBRID_TYPE)
    if not isinstance(section, dict) or section.get("format") != 1:
        raise refuse(HYBRID_TYPE, section, "an object with format 1")
    hf["model_type"] = content.get("base_model_type")
    if section.get("base_architectures") is not None:
        hf["architectures"] = section["base_architectures"]
    if section.get("base_layer_types") is not None:
        hf["layer_types"] = section["base_layer_types"]
    config = config_from_hf(hf)
    if section.get("task") is not None:
        config = config.with_task(_task(section["task"]))
    count = config.num_layers
    layers, gates, order = section.get("layers"), section.get("gates"), section.get("softmax_order")
    if not _is_list(layers, list, count) or not all(_is_list(specs, dict) for specs in layers):
        raise refuse(f"{HYBRID_TYPE}.layers", layers, f"{count} lists of mixer specs")
    if gates is not None and not (
        _is_list(gates, (int, float), count) and all(0 <= g <= 1 and not isinstance(g, bool) for g in gates)
    ):
        raise refuse(f"{HYBRID_TYPE}.gates", gates, f"{count} numbers from 0 to 1")
    if order is not None and not _is_list(order, int, count):
        raise refuse(f"{HYBRID_TYPE}.softmax_order", order, f"{count} numbers of layers")
    plan = section.get("plan")
    if plan is not None:
        plan = Plan.from_dict(plan, f"{HYBRID_TYPE}.plan")
        _check_plan(plan, layers)
    return config, Section(
        layers,
        gates,
        plan,
        None if order is None else order_of(order, count),
    )


def _check_plan(plan: Plan, layers: list[list[Spec]]) -> None:
    """PlanError when a plan speaks of other layers than the model has, or of other softmax layers."""
    if plan.num_layers != len(layers):
        raise PlanError(
            f"num_layers of the plan is {plan.num_layers}; allowed: {len(layers)}, as in the model"
        )
    if all(len(specs) == 1 for specs in layers):
        softmax = [i for i, specs in enumerate(layers) if specs[0].get("kind") == "softmax"]
        if softmax != list(plan.softmax_layers):
            given = list(plan.softmax_layers)
            raise PlanError(f"softmax_layers of the plan is {given}; allowed: {softmax}, as in the model")


def _task(value: Any) -> TaskHead:
    try:
        return TaskHead(**value)
    except TypeError:
        raise refuse(
            f"{HYBRID_TYPE}.task", value, "an object with kind, num_labels, pool, pooler, bias"
        ) from None


def _is_list(value: Any, kind: type | tuple[type, ...], length: int | None = None) -> TypeGuard[list[Any]]:
    """Whether JSON data is a list of `kind`, of that length."""
    fits = isinstance(value, list) and all(isinstance(item, kind) for item in value)
    return fits and length in (None, len(value))


def remove_others(folder: Path, has_tokenizer: bool, has_generation: bool) -> None:
    """Take away what another model left in a folder that holds a new model.safetensors: files with names that
    Hugging Face and this package give, none else.
    """
    stale = [*folder.glob("model-*-of-*.safetensors"), folder / "model.safetensors.index.json"]
    stale += [folder / name for name in old_tokenizer_files.FILES]
    if not has_tokenizer:
        stale += [folder / name for name in ("tokenizer.json", "tokenizer_config.json")]
        remove_leftovers(folder)
    if not has_generation:
        stale.append(folder / GENERATION)
    for path in stale:
        path.unlink(missing_ok=True)
