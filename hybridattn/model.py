"""The model a user holds: the C model with its configuration and tokenizer, loaded, saved, converted and
sampled from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import ml_dtypes
import numpy as np

from . import _core, hub
from .config import ModelConfig, refuse
from .errors import ConfigError, PlanError
from .families import config_from_hf, hf_name
from .files import atomic_write
from .plan import Plan
from .tokenizer import Tokenizer
from .weights import WeightSource, load_into, open_weights, save_safetensors

if TYPE_CHECKING:
    from .radlads import TrainResult

Spec = dict[str, Any]

SAVE_DTYPES: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
HYBRID_TYPE = "hybridattn"
_LAYER_TYPE = {"softmax": "full_attention"}
_OURS = (HYBRID_TYPE, "base_model_type", "architectures", "layer_types")


class Model(_core.Model):
    """A teacher (all layers softmax), a probe (softmax and a linear mixer in every layer) or a hybrid.

    layers: one list of mixer specs per layer; None makes every layer softmax. Weights are zero until loaded
    or copied.
    """

    model_config: ModelConfig
    tokenizer: Tokenizer | None
    plan: Plan | None
    train_result: TrainResult | None

    def __init__(
        self,
        model_config: ModelConfig,
        layers: Sequence[Sequence[Mapping[str, Any]]] | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        given = layers or [[{"kind": "softmax"}]] * model_config.num_layers
        try:
            super().__init__(model_config.to_core(), [[_complete(spec) for spec in specs] for specs in given])
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.model_config = model_config
        self.tokenizer = tokenizer
        self.plan = None
        self.train_result = None

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> Model:
        """Load a Hugging Face folder, a folder written by `save_pretrained`, a .gguf file, or what
        `hub.resolve` knows by name. Weights become float32.

        Raises ConfigError or WeightError naming the file and field, DataError for a damaged tokenizer.
        """
        source = hub.resolve(path)
        if source.suffix == ".gguf":
            from .gguf_file import open_gguf

            gguf = open_gguf(source)
            model = cls(gguf.config, tokenizer=Tokenizer.from_gguf(source))
            with gguf.source:
                model._load(gguf.source)
            return model
        config, layers, gates, plan = _read_config(source / "config.json")
        has_tokenizer = (source / "tokenizer.json").is_file()
        tokenizer = Tokenizer.from_folder(source) if has_tokenizer else None
        try:
            model = cls(config, layers, tokenizer)
        except ConfigError as error:
            raise ConfigError(f"{source / 'config.json'}: {error}") from None
        with open_weights(source) as weights:
            model._load(weights)
        model.plan = plan
        if gates is not None:
            model.gates[:] = gates
        return model

    def _load(self, source: WeightSource) -> None:
        load_into(self.arrays(), source, self.model_config)

    def arrays(self) -> dict[str, np.ndarray]:
        """Every parameter by its internal name as a writable float32 array, without a copy."""
        return {name: tensor.numpy() for name, tensor in self.parameters().items()}

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: str = "float32") -> None:
        """Write config.json, model.safetensors and the tokenizer, which `from_pretrained` reads back.

        An all-softmax model is written as the Hugging Face model it came from; any other gets model_type
        "hybridattn", `layer_types` and a `hybridattn` section with the mixers and the plan. config.json is
        taken away first and written last: a folder that has one is whole.
        """
        if dtype not in SAVE_DTYPES:
            raise refuse("dtype", dtype, ", ".join(SAVE_DTYPES))
        config = self._hf_config(dtype)
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        (target / "config.json").unlink(missing_ok=True)
        tensors = {
            hf_name(self.model_config, name): array.astype(SAVE_DTYPES[dtype], copy=False)
            for name, array in self.arrays().items()
        }
        save_safetensors(target / "model.safetensors", tensors, {"format": "pt"})
        if self.tokenizer is not None:
            self.tokenizer.save(target)
        atomic_write(target / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")

    def _hf_config(self, dtype: str) -> dict[str, Any]:
        """The config.json to write."""
        if not self.model_config.hf:
            raise ConfigError(
                "model_config.hf is empty; allowed: the Hugging Face config that the model was made from"
            )
        hf = {**self.model_config.hf, "torch_dtype": dtype}
        if "dtype" in hf:
            hf["dtype"] = dtype
        if all([spec["kind"] for spec in specs] == ["softmax"] for specs in self.layers):
            return hf
        section: dict[str, Any] = {"format": 1, "layers": self.layers}
        if any(len(specs) > 1 for specs in self.layers):
            section["gates"] = [float(gate) for gate in self.gates]
        if self.plan is not None:
            section["plan"] = self.plan.to_dict()
        section["base_architectures"] = hf.get("architectures")
        return {
            **hf,
            "model_type": HYBRID_TYPE,
            "base_model_type": hf["model_type"],
            "architectures": ["HybridAttnForCausalLM"],
            "layer_types": [
                "mixed" if len(specs) > 1 else _LAYER_TYPE.get(specs[0]["kind"], "linear_attention")
                for specs in self.layers
            ],
            HYBRID_TYPE: section,
        }

    def to_probe(self, mixer: Mapping[str, Any], seed: int = 0) -> Model:
        """A model with this one's softmax mixers and, beside each, a linear mixer started from it (weight
        transfer).

        The copy shares nothing with this model, and its gates are 1: it computes what this model computes.
        """
        kind = mixer.get("kind")
        if kind is None or kind == "softmax":
            raise refuse("mixer kind", kind, "a linear mixer, for example window_linear or gated_delta")
        layers = [[self._softmax_spec(i), dict(mixer)] for i in range(len(self.layers))]
        probe = self._derive(layers)
        probe.gates[:] = 1.0
        probe.init_mixers(seed=seed)
        return probe

    def to_hybrid(self, softmax_layers: Iterable[int] | Plan) -> Model:
        """From a probe, the model in which the given layers are softmax and every other one is linear;
        weights are copied.

        All layers give the teacher back, none the all-linear model. Raises PlanError when a plan does not
        fit.
        """
        plan = softmax_layers if isinstance(softmax_layers, Plan) else None
        keep = set(plan.softmax_layers if plan else (int(i) for i in softmax_layers))  # type: ignore[union-attr]
        count = len(self.layers)
        if plan and plan.num_layers != count:
            raise PlanError(f"num_layers of the plan is {plan.num_layers}; allowed: {count}, as in the model")
        if not keep <= set(range(count)):
            raise PlanError(f"softmax_layers is {sorted(keep)}; allowed: 0 to {count - 1}")
        layers = [[self._softmax_spec(i) if i in keep else self._linear_spec(i)] for i in range(count)]
        wanted = plan.mixer if plan else {}
        for i in sorted(set(range(count)) - keep):
            wrong = [key for key, value in wanted.items() if layers[i][0].get(key) != value]
            if wrong:
                key = wrong[0]
                raise PlanError(
                    f"mixer {key} of the plan is {wanted[key]!r}; "
                    f"allowed: {layers[i][0].get(key)!r}, as in layer {i}"
                )
        hybrid = self._derive(layers)
        hybrid.plan = plan
        return hybrid

    def copy(self) -> Model:
        """The same model with memory of its own."""
        twin = self._derive(self.layers)
        twin.gates[:] = self.gates
        twin.plan = self.plan
        return twin

    def _derive(self, layers: list[list[Spec]]) -> Model:
        """A model of other mixers with every parameter that both have copied, by name."""
        model = Model(self.model_config, layers, self.tokenizer)
        mine = self.arrays()
        for name, array in model.arrays().items():
            if name in mine:
                array[...] = mine[name]
        return model

    def _softmax_spec(self, layer: int) -> Spec:
        return self._spec(layer, [s for s in self.layers[layer] if s["kind"] == "softmax"], "softmax")

    def _linear_spec(self, layer: int) -> Spec:
        return self._spec(layer, [s for s in self.layers[layer] if s["kind"] != "softmax"], "a linear mixer")

    def _spec(self, layer: int, found: list[Spec], wanted: str) -> Spec:
        if not found:
            raise refuse(
                f"layer {layer}", [spec["kind"] for spec in self.layers[layer]], f"layers that hold {wanted}"
            )
        return dict(found[0])

    def generate(self, prompt: Any, **options: Any) -> Any:
        """Continue a prompt or a list of prompts, see `hybridattn.generate.generate`."""
        from .generate import generate

        return generate(self, prompt, **options)

    def stream(self, prompt: Any, **options: Any) -> Iterator[str]:
        """Continue one prompt, piece by piece as it is made, see `hybridattn.generate.stream`."""
        from .generate import stream

        return stream(self, prompt, **options)

    def __repr__(self) -> str:
        kinds = ["+".join(spec["kind"] for spec in specs) for specs in self.layers]
        mix = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        family = self.model_config.family
        return f"<hybridattn.Model {family}, {self.num_parameters:,} parameters, layers: {mix}>"


def _complete(spec: Mapping[str, Any]) -> Spec:
    """A mixer spec with the default of every option that it leaves out, so that a saved model keeps its
    meaning.
    """
    options = _core.mixers().get(str(spec.get("kind")), {}).get("options", {})
    return {"kind": spec.get("kind"), **{name: option["default"] for name, option in options.items()}, **spec}


def _read_config(path: Path) -> tuple[ModelConfig, list[list[Spec]] | None, list[float] | None, Plan | None]:
    """Configuration, mixers, gates and plan of a config.json; the last three are None for a plain model."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; a model folder holds config.json and model.safetensors"
        ) from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a JSON file: {error}") from None
    try:
        if not isinstance(content, dict) or content.get("model_type") != HYBRID_TYPE:
            return config_from_hf(content), None, None, None
        return _split_hybrid(content)
    except (ConfigError, PlanError) as error:
        raise type(error)(f"{path}: {error}") from None


def _split_hybrid(
    content: dict[str, Any],
) -> tuple[ModelConfig, list[list[Spec]], list[float] | None, Plan | None]:
    """Undo what `_hf_config` did."""
    hf = {key: value for key, value in content.items() if key not in _OURS}
    section = content.get(HYBRID_TYPE)
    if not isinstance(section, dict) or section.get("format") != 1:
        raise refuse(HYBRID_TYPE, section, "an object with format 1")
    hf["model_type"] = content.get("base_model_type")
    if section.get("base_architectures") is not None:
        hf["architectures"] = section["base_architectures"]
    config = config_from_hf(hf)
    layers, gates, plan = section.get("layers"), section.get("gates"), section.get("plan")
    if not _is_list(layers, list, config.num_layers) or not all(_is_list(specs, dict) for specs in layers):
        raise refuse(f"{HYBRID_TYPE}.layers", layers, f"{config.num_layers} lists of mixer specs")
    if gates is not None and not _is_list(gates, (int, float), config.num_layers):
        raise refuse(f"{HYBRID_TYPE}.gates", gates, f"{config.num_layers} numbers")
    return config, layers, gates, None if plan is None else Plan.from_dict(plan, f"{HYBRID_TYPE}.plan")


def _is_list(value: Any, kind: type | tuple[type, ...], length: int | None = None) -> TypeGuard[list[Any]]:
    """Whether JSON data is a list of `kind`, of that length."""
    fits = isinstance(value, list) and all(isinstance(item, kind) for item in value)
    return fits and length in (None, len(value))
