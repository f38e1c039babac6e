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
from .config import ModelConfig, TaskHead, refuse
from .elastic import chosen, gates_for
from .errors import ConfigError, PlanError
from .files import atomic_write
from .hybrid_config import Spec, complete, read_config, to_hf
from .plan import Plan
from .storage import astype, dtype_name
from .tokenizer import Tokenizer
from .weights import WeightSource, load_into, open_weights, save_safetensors, tensors_of

if TYPE_CHECKING:
    from .data import TokenData
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
            super().__init__(model_config.to_core(), [[complete(spec) for spec in specs] for specs in given])
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.model_config = model_config
        self.tokenizer = tokenizer
        self.plan = None
        self.train_result = None
        self.softmax_order = None

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        softmax_layers: int | Sequence[int] | None = None,
        dtype: str = "float32",
    ) -> Model:
        """Load a Hugging Face folder, a folder written by `save_pretrained`, a .gguf file, or what
        `hub.resolve` knows by name.

        dtype: "float32", what training needs; "auto" keeps bfloat16, float16, q8_0, q4_0 and q4_1 matrices
        as they are, mapped from the file, and makes the rest float32; any other as `astype`.

        softmax_layers: of a checkpoint that holds both mixers, load the hybrid with that many softmax layers
        (the first of its saved order) or with these.

        Raises ConfigError or WeightError naming the file and field, DataError for a damaged tokenizer.
        """
        dtype = dtype_name(dtype, more=("auto",))
        source = hub.resolve(path)
        keep = dtype != "float32"
        model = cls._from_gguf(source, keep) if source.suffix == ".gguf" else cls._from_folder(source, keep)
        if dtype not in ("auto", "float32"):
            model = model.astype(dtype)
        return model if softmax_layers is None else model.to_hybrid(chosen(model, softmax_layers))

    @classmethod
    def _from_gguf(cls, path: Path, keep: bool) -> Model:
        from .gguf_file import open_gguf

        gguf = open_gguf(path)
        model = cls(gguf.config, tokenizer=Tokenizer.from_gguf(path))
        with gguf.source:
            model._load(gguf.source, keep)
        return model

    @classmethod
    def _from_folder(cls, folder: Path, keep: bool) -> Model:
        config, section = read_config(folder / "config.json")
        has_tokenizer = (folder / "tokenizer.json").is_file()
        tokenizer = Tokenizer.from_folder(folder) if has_tokenizer else None
        try:
            model = cls(config, section.layers, tokenizer)
        except ConfigError as error:
            raise ConfigError(f"{folder / 'config.json'}: {error}") from None
        with open_weights(folder) as weights:
            model._load(weights, keep)
        model.plan = section.plan
        model.softmax_order = section.softmax_order
        if section.gates is not None:
            model.gates[:] = section.gates
        return model

    def _load(self, source: WeightSource, keep: bool) -> None:
        kept = set(self.matrices()) if keep else set()
        load_into(self.arrays(), source, self.model_config, dict.fromkeys(kept, self.store))

    def arrays(self, stored: bool = True) -> dict[str, np.ndarray]:
        """Every parameter by its internal name, without a copy: writable float32, and of matrices stored in
        another type (left out with stored=False) read-only views, or float32 copies of block types.
        """
        return {name: tensor.numpy() for name, tensor in self.parameters(stored).items()}

    def astype(self, dtype: str, calibration: TokenData | None = None) -> Model:
        """This model with its matrices (embedding, projections, LM head) stored in another type: "float32",
        "bfloat16", "float16", or GGML's blocks "q8_0", "q4_0", "q4_1" of 32 numbers.

        Everything else stays float32. The 4-bit types keep the embedding and the LM head in q8_0, since those
        lose most. What is stored cannot be trained; `align` trains the linear mixers of its probe, which are
        float32, beside it. Raises ConfigError, naming the parameter, where rows are not whole blocks.

        calibration: text by which matrices of blocks are rounded so that their products come out right (GPTQ,
        arXiv 2210.17323); 16,384 tokens will do. The 4-bit types then keep values, outputs and down
        projections in q8_0.
        """
        return astype(self, dtype, calibration)

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters as they are stored."""
        stored = sum(data.nbytes for _, data in self.stored().values())
        return stored + sum(tensor.nbytes for tensor in self.parameters(stored=False).values())

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write config.json, model.safetensors and the tokenizer, which `from_pretrained` reads back.

        An all-softmax model is written as the Hugging Face model it came from; any other gets model_type
        "hybridattn", `layer_types` and a `hybridattn` section with the mixers and the plan. config.json is
        taken away first and written last: a folder that has one is whole.

        dtype: of all weights, "float32", "bfloat16" or "float16". None keeps the type of every weight, which
        safetensors cannot for block types: ConfigError.
        """
        if dtype is None:
            block = next((name for name, _ in self.stored().values() if name not in SAVE_DTYPES), None)
            if block:
                raise refuse(
                    "dtype", None, f"{', '.join(SAVE_DTYPES)}, since safetensors files have no {block}"
                )
        else:
            dtype = dtype_name(dtype)
            if dtype not in SAVE_DTYPES:
                raise refuse("dtype", dtype, ", ".join(SAVE_DTYPES))
        kinds = [name for name, _ in self.stored().values()]
        config = to_hf(self, dtype or (max(set(kinds), key=kinds.count) if kinds else "float32"))
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        (target / "config.json").unlink(missing_ok=True)
        arrays = {
            name: array.astype(SAVE_DTYPES[dtype] if dtype else array.dtype, copy=False)
            for name, array in self.arrays().items()
        }
        tensors = tensors_of(self.model_config, arrays)
        save_safetensors(target / "model.safetensors", tensors, {"format": "pt"})
        if self.tokenizer is not None:
            self.tokenizer.save(target)
        atomic_write(target / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")

    def to_probe(self, mixer: Mapping[str, Any], seed: int = 0) -> Model:
        """A model with this one's softmax mixers and, beside each, a linear mixer started from it (weight
        transfer).

        The copy shares nothing with this model but stored matrices outside linear mixers, which never change.
        Its gates are 1: it computes what this model computes.
        """
        kind = mixer.get("kind")
        if kind is None or kind == "softmax":
            raise refuse("mixer kind", kind, "a linear mixer, for example window_linear or gated_delta")
        layers = [[self._softmax_spec(i), dict(mixer)] for i in range(len(self.layers))]
        probe = Model(self.model_config, layers, self.tokenizer)
        self._share(probe, but=tuple(f"layers.{i}.{kind}." for i in range(len(layers))))
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
        """The same model with memory of its own; stored matrices, which never change, are shared."""
        twin = self.like()
        self._share(twin)
        return twin

    def with_task(self, task: TaskHead) -> Model:
        """A copy whose head is `task`'s, with weights of its own only where this model has the same head; see
        `tasks.add_head`, which makes them.
        """
        twin = Model(self.model_config.with_task(task), self.layers, self.tokenizer)
        self._share(twin)
        twin.gates[:] = self.gates
        twin.plan, twin.softmax_order = self.plan, self.softmax_order
        return twin

    def like(self) -> Model:
        """A model of the same mixers, gates, plan and order, with zero weights."""
        twin = Model(self.model_config, self.layers, self.tokenizer)
        twin.gates[:] = self.gates
        twin.plan = self.plan
        twin.softmax_order = self.softmax_order
        return twin

    def _derive(self, layers: list[list[Spec]]) -> Model:
        """A model of other mixers with every parameter that both have, by name."""
        model = Model(self.model_config, layers, self.tokenizer)
        self._share(model)
        return model

    def _share(self, model: Model, but: tuple[str, ...] = ()) -> None:
        mine, stored = self.arrays(stored=False), self.stored()
        for name, array in model.arrays().items():
            if name.startswith(but):
                continue
            if name in stored:
                model.store(name, *stored[name])
            elif name in mine and mine[name].shape == array.shape:
                array[...] = mine[name]

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
