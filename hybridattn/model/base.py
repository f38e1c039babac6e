"""The C model with its configuration, tokenizer and plan; copies of it with other mixers.

`model.py` adds what a user holds: files, storage types, sampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _core
from ..checks import check_int, refuse
from ..compute import Compute
from ..compute import chosen as chosen_compute
from ..data.tokenizer import Tokenizer
from ..errors import ConfigError, DataError, PlanError
from ..families.config import ModelConfig, TaskHead
from ..results import markup
from . import calibrated, pickled
from .calibrated import Calibration
from .plan import Plan
from .reach import ReachModel
from .result import TrainResult
from .saved import Spec, complete, own_layers

if TYPE_CHECKING:
    from ..data.tokens import TokenData


def chosen(model: BaseModel, softmax_layers: int | Sequence[int]) -> list[int]:
    """The layers that stay softmax: an int means the first so many of the model's order, a sequence names
    them. ConfigError for a number without an order, or a layer that is not there.
    """
    count = len(model.layers)
    if isinstance(softmax_layers, (int, np.integer)):
        if model.softmax_order is None:
            raise refuse("softmax_order", None, "a model made by elastic.make, to choose layers by number")
        return list(model.softmax_order[: check_int("softmax_layers", int(softmax_layers), 0, count)])
    given: Any = softmax_layers
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise refuse("softmax_layers", given, "a number of layers, or the layers")
    keep = [i.item() if isinstance(i, np.integer) else i for i in given]
    if not all(type(i) is int and 0 <= i < count for i in keep):
        raise refuse("softmax_layers", keep, f"layers from 0 to {count - 1}")
    return keep


def gates_for(model: BaseModel, softmax_layers: int | Sequence[int]) -> np.ndarray:
    """float32 [num_layers]: 1 where a layer is softmax. ConfigError as `chosen`, or when a layer lacks the
    mixer.
    """
    gates = np.zeros(len(model.layers), np.float32)
    gates[chosen(model, softmax_layers)] = 1.0
    for layer, specs in enumerate(model.layers):
        kinds = [spec["kind"] == "softmax" for spec in specs]
        if (gates[layer] == 1.0 and not any(kinds)) or (gates[layer] == 0.0 and all(kinds)):
            wanted = "softmax" if gates[layer] else "a linear mixer"
            raise refuse(f"layer {layer}", [spec["kind"] for spec in specs], f"a layer that holds {wanted}")
    return gates


@contextmanager
def switched(model: BaseModel, softmax_layers: int | Sequence[int]) -> Iterator[None]:
    """The model with other softmax layers for the length of a `with` block."""
    before = model.gates.copy()
    model.gates[:] = gates_for(model, softmax_layers)
    try:
        yield
    finally:
        model.gates[:] = before


def switchable(model: BaseModel) -> list[int]:
    """The layers that hold softmax and a linear mixer; of a probe all but those that are linear for good."""
    kinds = [[spec["kind"] for spec in specs] for specs in model.layers]
    return [i for i, found in enumerate(kinds) if "softmax" in found and len(found) > 1]


def linear_mixer(probe: BaseModel) -> dict[str, Any]:
    """The spec of the probe's linear mixer, {} when layers have different ones. Layers that are linear in the
    family's own checkpoints do not count. Raises ConfigError when another one does not hold softmax and a
    linear mixer.
    """
    found: list[dict[str, Any]] = []
    is_probe = bool(switchable(probe))
    for i, specs in enumerate(probe.layers):
        kinds = [spec["kind"] for spec in specs]
        if is_probe and len(kinds) == 1 and kinds != ["softmax"]:
            continue
        if len(kinds) != 2 or kinds.count("softmax") != 1:
            raise refuse(f"layer {i} of the probe", kinds, "softmax and a linear mixer (see Model.to_probe)")
        found += [dict(spec) for spec in specs if spec["kind"] != "softmax"]
    return found[0] if all(spec == found[0] for spec in found) else {}


def tokenizer_of(model: BaseModel) -> Tokenizer:
    """The model's tokenizer, or DataError that says what is missing."""
    if model.tokenizer is None:
        raise DataError(
            "tokenizer is None: the model's folder has no tokenizer.json; put it there (from old files: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)), or give token ids"
        )
    return model.tokenizer


class BaseModel(ReachModel):
    """The parts of `Model` that need neither files nor text."""

    tokenizer: Tokenizer | None
    plan: Plan | None
    train_result: TrainResult | None
    calibration: Calibration | None  # of the start of a probe, see `to_probe`
    softmax_order: tuple[int, ...] | None  # see `elastic.make`

    def __init__(
        self,
        model_config: ModelConfig,
        layers: Sequence[Sequence[Mapping[str, Any]]] | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        given = layers or own_layers(model_config)
        try:
            super().__init__(model_config.to_core(), [[complete(spec) for spec in specs] for specs in given])
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.model_config = model_config
        self.tokenizer = tokenizer
        self.plan = None
        self.train_result = None
        self.calibration = None
        self.softmax_order = None

    @property
    def compute(self) -> Compute:
        """What products with matrices are computed in: "float32", or "bfloat16", which rounds what is
        multiplied and adds up in float32. Weights, norms, softmax, recurrences and losses are float32 in
        either.

        May be set at any time, to "auto" too: bfloat16 where the processor has instructions for it. Copies,
        probes and hybrids made from a model compute as it does; files do not keep it. ConfigError for
        another name.
        """
        return super().compute

    @compute.setter
    def compute(self, name: str) -> None:
        _core.Model.compute.__set__(self, chosen_compute(name))  # type: ignore[attr-defined]

    def arrays(self, stored: bool = True) -> dict[str, np.ndarray]:
        """Every parameter by its internal name, without a copy: writable float32, and of matrices stored in
        another type (left out with stored=False) read-only views, or float32 copies of block types.
        """
        return {name: tensor.numpy() for name, tensor in self.parameters(stored).items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters as they are stored."""
        stored = sum(data.nbytes for _, data in self.stored().values())
        return stored + sum(tensor.nbytes for tensor in self.parameters(stored=False).values())

    def to_probe(
        self,
        mixer: Mapping[str, Any],
        seed: int = 0,
        *,
        init: str = "transfer",
        data: TokenData | None = None,
    ) -> Self:
        """A model with this one's softmax mixers and, beside each, a linear mixer started from it (weight
        transfer).

        init "calibrated" then fits the start of a recurrence (gated_delta, kda, gla, mamba2) to this model's
        attention on the first 8192 tokens of `data` (after arXiv 2606.16429); `calibration` has its cost.

        Layers that are linear in the family's own checkpoints stay as they are; their options are the
        defaults of a mixer of the same kind, so that the model can be saved as such a checkpoint again.

        The copy shares nothing with this model but stored matrices outside linear mixers, which never change.
        Its gates are 1: it computes what this model computes.
        """
        kind = mixer.get("kind")
        if kind is None or kind == "softmax":
            raise refuse("mixer kind", kind, "a linear mixer, for example window_linear or gated_delta")
        mixer = {**self._native_spec(str(kind)), **mixer}
        calibrated.check(mixer, init, data)
        if not any(self.softmax_at(i) for i in range(len(self.layers))):
            raise refuse("layers", "all linear", "at least one softmax layer, to start a linear mixer from")
        layers = [
            [self._softmax_spec(i), dict(mixer)] if self.softmax_at(i) else [dict(self.layers[i][0])]
            for i in range(len(self.layers))
        ]
        probe = self._twin(layers)
        self._share(probe, but=tuple(f"layers.{i}.{kind}." for i in switchable(probe)))
        probe.gates[:] = 1.0
        probe.init_mixers(seed=seed)
        if data is not None:
            probe.calibration = calibrated.calibrate(probe, data)
        return probe

    def to_hybrid(self, softmax_layers: Iterable[int] | Plan) -> Self:
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
            if not self.softmax_at(i):
                continue
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

    def copy(self) -> Self:
        """The same model with memory of its own; stored matrices, which never change, are shared."""
        twin = self.like()
        self._share(twin)
        return twin

    def with_task(self, task: TaskHead) -> Self:
        """A copy whose head is `task`'s, with weights of its own only where this model has the same head; see
        `tasks.add_head`, which makes them.
        """
        twin = self._twin(self.layers, self.model_config.with_task(task))
        self._share(twin)
        twin.gates[:] = self.gates
        twin.plan, twin.softmax_order = self.plan, self.softmax_order
        return twin

    def like(self) -> Self:
        """A model of the same mixers, gates, plan and order, with zero weights."""
        twin = self._twin(self.layers)
        twin.gates[:] = self.gates
        twin.plan = self.plan
        twin.softmax_order = self.softmax_order
        return twin

    def _twin(self, layers: Sequence[Sequence[Mapping[str, Any]]], config: ModelConfig | None = None) -> Self:
        """A model of these mixers with zero weights that computes as this one does."""
        twin = type(self)(config or self.model_config, layers, self.tokenizer)
        twin.compute = self.compute
        return twin

    def _derive(self, layers: list[list[Spec]]) -> Self:
        """A model of other mixers with every parameter that both have, by name."""
        model = self._twin(layers)
        self._share(model)
        return model

    def _share(self, model: BaseModel, but: tuple[str, ...] = ()) -> None:
        mine, stored = self.arrays(stored=False), self.stored()
        for name, array in model.arrays().items():
            if name.startswith(but):
                continue
            if name in stored:
                model.store(name, *stored[name])
            elif name in mine and mine[name].shape == array.shape:
                array[...] = mine[name]

    def softmax_at(self, layer: int) -> bool:
        """Whether the layer is softmax in the family's own checkpoints, so that it may become linear."""
        native = self.model_config.native_layers
        return not native or bool(native[layer]["kind"] == "softmax")

    def _native_spec(self, kind: str) -> Spec:
        """The spec of the linear layers that the family has itself, {} where they are of another kind."""
        return next((dict(spec) for spec in self.model_config.native_layers if spec["kind"] == kind), {})

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

    def __repr__(self) -> str:
        kinds = ["+".join(spec["kind"] for spec in specs) for specs in self.layers]
        mix = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        family = self.model_config.family
        return f"<hybridattn.Model {family}, {self.num_parameters:,} parameters, layers: {mix}>"

    def _repr_html_(self) -> str:
        """Squares, softmax ones filled, and a row for each run of alike layers."""
        kinds = ["+".join(spec["kind"] for spec in specs) for specs in self.layers]
        softmax = [i for i, kind in enumerate(kinds) if kind == "softmax"]
        size = [0] * len(kinds)
        stored = {name: data.nbytes for name, (_, data) in self.stored().items()}
        floats = {name: tensor.nbytes for name, tensor in self.parameters(stored=False).items()}
        for name, count in {**stored, **floats}.items():
            if name.startswith("layers."):
                size[int(name.split(".")[1])] += count
        rows = [[name, kinds[at], f"{size[at] / 2**20:.2f}"] for name, at in markup.runs(kinds)]
        size_of_all = f"{self.num_parameters:,} parameters, {self.nbytes / 2**20:,.1f} MiB"
        title = f"{self.model_config.family}: {size_of_all}"
        return markup.box(
            title,
            markup.squares(softmax, len(kinds), "softmax layers filled"),
            markup.table(rows, ["layer", "mixer", "MiB a layer"]),
        )

    def __reduce__(self) -> Any:
        """Pickle and deepcopy, see `pickled`."""
        return pickled.reduced(self)
