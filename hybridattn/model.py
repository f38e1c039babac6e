"""The model a user holds: the C model with its configuration and tokenizer, loaded, saved, converted and
sampled from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from . import _core, hub
from .config import ModelConfig, refuse
from .elastic import chosen, gates_for
from .errors import ConfigError, PlanError
from .families import hf_name
from .files import atomic_write
from .hybrid_config import Spec, read_config, to_hf
from .plan import Plan
from .tokenizer import Tokenizer
from .weights import WeightSource, load_into, open_weights, save_safetensors

if TYPE_CHECKING:
    from .radlads import TrainResult

SAVE_DTYPES: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


class Model(_core.Model):
    """A teacher (all layers softmax), a probe (softmax and a linear mixer in every layer) or a hybrid.

    layers: one list of mixer specs per layer; None makes every layer softmax. Weights are zero until loaded
    or copied.
    """

    model_config: ModelConfig
    tokenizer: Tokenizer | None
    plan: Plan | None
    train_result: TrainResult | None
    softmax_order: tuple[int, ...] | None  # see `elastic.make`

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
        self.softmax_order = None

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str], softmax_layers: int | Sequence[int] | None = None
    ) -> Model:
        """Load a Hugging Face folder, a folder written by `save_pretrained`, a .gguf file, or what
        `hub.resolve` knows by name. Weights become float32.

        softmax_layers: of a checkpoint that holds both mixers, load the hybrid with that many softmax layers
        (the first of its saved order) or with these.

        Raises ConfigError or WeightError naming the file and field, DataError for a damaged tokenizer.
        """
        source = hub.resolve(path)
        model = cls._from_gguf(source) if source.suffix == ".gguf" else cls._from_folder(source)
        return model if softmax_layers is None else model.to_hybrid(chosen(model, softmax_layers))

    @classmethod
    def _from_gguf(cls, path: Path) -> Model:
        from .gguf_file import open_gguf

        gguf = open_gguf(path)
        model = cls(gguf.config, tokenizer=Tokenizer.from_gguf(path))
        with gguf.source:
            model._load(gguf.source)
        return model

    @classmethod
    def _from_folder(cls, folder: Path) -> Model:
        config, section = read_config(folder / "config.json")
        has_tokenizer = (folder / "tokenizer.json").is_file()
        tokenizer = Tokenizer.from_folder(folder) if has_tokenizer else None
        try:
            model = cls(config, section.layers, tokenizer)
        except ConfigError as error:
            raise ConfigError(f"{folder / 'config.json'}: {error}") from None
        with open_weights(folder) as weights:
            model._load(weights)
        model.plan = section.plan
        model.softmax_order = section.softmax_order
        if section.gates is not None:
            model.gates[:] = section.gates
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
        config = to_hf(self, dtype)
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

    def set_softmax_layers(self, softmax_layers: int | Sequence[int]) -> None:
        """Choose at run time which layers of a model with both mixers are softmax: the first so many of
        `softmax_order` (see `elastic.make`), or these. Caches made before keep their own choice.
        """
        self.gates[:] = gates_for(self, softmax_layers)

    def copy(self) -> Model:
        """The same model with memory of its own."""
        twin = self._derive(self.layers)
        twin.gates[:] = self.gates
        twin.plan = self.plan
        twin.softmax_order = self.softmax_order
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

    def cache(self, batch: int = 1, dtype: str = "f32") -> _core.Cache:
        """An empty decode cache for `batch` sequences, to give to `logits`, `hidden` and `generate`.

        dtype: how keys and values are stored, "f32" or "f16" (half the bytes; sums of linear layers stay
        f32). Raises ConfigError for another one.
        """
        try:
            return _core.Cache(self, batch, dtype)  # type: ignore[arg-type]
        except ValueError as error:
            raise ConfigError(str(error)) from None

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
