"""Which layers of a model stay softmax: a plan, a small JSON file that says how it was made."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from ..charts import views
from ..errors import PlanError
from ..families.config import MAX_LAYERS
from ..files import write_sheet
from ..reading import field as field_of
from ..reading import read_json
from ..results import markup

FORMAT = "hybridattn-plan-1"


@dataclass(frozen=True, repr=False)
class Plan:
    """The layers (0-based, ascending) that keep softmax attention; every other layer gets the linear
    `mixer`.

    `method` names what chose them; `mixer` is the linear mixer's spec ({} when the plan serves any); `how`
    holds whatever explains the choice (scores, text, seed) and is written to the file as it is.
    """

    softmax_layers: tuple[int, ...]
    num_layers: int
    method: str
    mixer: dict[str, Any] = field(default_factory=dict)
    how: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layers = tuple(int(i) for i in self.softmax_layers)
        object.__setattr__(self, "softmax_layers", layers)
        if self.num_layers < 1:
            raise PlanError(f"num_layers is {self.num_layers}; allowed: 1 or more")
        if list(layers) != sorted(set(layers)):
            raise PlanError(f"softmax_layers is {list(layers)}; allowed: ascending numbers without repeats")
        if layers and not (layers[0] >= 0 and layers[-1] < self.num_layers):
            raise PlanError(f"softmax_layers is {list(layers)}; allowed: 0 to {self.num_layers - 1}")

    @property
    def k(self) -> int:
        """The number of softmax layers."""
        return len(self.softmax_layers)

    @property
    def ratio(self) -> float:
        """The share of layers that stay softmax."""
        return self.k / self.num_layers

    @property
    def linear_layers(self) -> tuple[int, ...]:
        """The layers that become linear, ascending."""
        return tuple(i for i in range(self.num_layers) if i not in self.softmax_layers)

    def __repr__(self) -> str:
        return f"Plan({self._said()}: {list(self.softmax_layers)})"

    def _said(self) -> str:
        kind = self.mixer.get("kind", "linear")
        return f"{self.k} of {self.num_layers} layers softmax by {self.method}, the others {kind}"

    def _repr_html_(self) -> str:
        """A row of squares, those that stay softmax filled."""
        row = markup.squares(self.softmax_layers, self.num_layers, "softmax layers filled")
        listed = ", ".join(map(str, self.softmax_layers)) or "none"
        return markup.box(self._said(), row, f"Filled: softmax, {listed}.")

    def plot(self) -> Any:
        """A matplotlib figure of the row of layers. Needs the extra `report`."""
        return views.plan(self)

    def to_dict(self) -> dict[str, Any]:
        """What `save` writes and a hybrid's config.json carries."""
        return {
            "format": FORMAT,
            "method": self.method,
            "num_layers": self.num_layers,
            "softmax_layers": list(self.softmax_layers),
            "mixer": self.mixer,
            "how": self.how,
        }

    @classmethod
    def from_dict(cls, data: Any, source: str = "plan") -> Plan:
        """The plan in a dict as `to_dict` makes it. `source` names the file in errors. Raises PlanError."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            got = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise PlanError(f"{source}: format is {got!r}; allowed: {FORMAT!r}")
        want = {"method": str, "num_layers": int, "softmax_layers": list, "mixer": dict, "how": dict}
        for key, kind in want.items():
            field_of(data, key, kind, source, PlanError)
        if data["num_layers"] > MAX_LAYERS:
            raise PlanError(f"{source}: num_layers is {data['num_layers']}; allowed: up to {MAX_LAYERS}")
        for key, value in data["mixer"].items():
            if not isinstance(value, (str, int, float)):
                raise PlanError(f"{source}: mixer.{key} is {value!r}; allowed: text or a number")
        if not all(type(i) is int for i in data["softmax_layers"]):
            raise PlanError(f"{source}: softmax_layers is {data['softmax_layers']}; allowed: whole numbers")
        try:
            return cls(
                tuple(data["softmax_layers"]), data["num_layers"], data["method"], data["mixer"], data["how"]
            )
        except PlanError as error:
            raise PlanError(f"{source}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, whole or not at all."""
        write_sheet(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan. Raises PlanError naming the file and the field when it is not one."""
        return cls.from_dict(read_json(path, PlanError), str(path))
