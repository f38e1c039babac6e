"""The layouts there are, which of them hold a model, and the one way to write any of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import refuse
from ..errors import ExportError
from ..model.card import write_card
from .folder import SHEET, staged, write_sheet_of

if TYPE_CHECKING:
    from ..model.model import Model

# Modules of this room that define LAYOUT, in the order in which they are listed.
_MODULES = ("qwen3_5", "sliding_window", "gguf", "bamba", "remote_code")


@dataclass(frozen=True)
class Misfit:
    """Why a layout does not hold a model. layer: the layer at fault, None for the model as a whole."""

    reason: str
    layer: int | None = None

    def __str__(self) -> str:
        return self.reason if self.layer is None else f"layer {self.layer}: {self.reason}"


@dataclass(frozen=True)
class Options:
    """What a layout is asked for. dtype: one of the layout's; text: what magnitudes are measured on."""

    dtype: str
    text: Any = None


@dataclass(frozen=True)
class Layout:
    """A way to store a model that another program reads.

    programs: what reads it. dtypes: the types it is written in. misfits(model): what of the model it cannot
    hold, nothing when it fits. write(model, folder, options): writes everything into an empty folder and
    returns what is worth knowing of it, as JSON data. library: what opens the folder, as model hubs call it.
    """

    name: str
    summary: str
    programs: str
    dtypes: tuple[str, ...]
    misfits: Callable[[Model], list[Misfit]]
    write: Callable[[Model, Path, Options], dict[str, Any]]
    library: str = "transformers"


@dataclass(frozen=True)
class Export:
    """What `export` wrote. notes: what the layout says of it, as the constant of padded heads."""

    layout: str
    folder: Path
    dtype: str
    files: tuple[str, ...]
    notes: dict[str, Any] = field(default_factory=dict)


def layouts() -> dict[str, Layout]:
    """Every layout by name."""
    found = (import_module(f"{__package__}.{module}").LAYOUT for module in _MODULES)
    return {layout.name: layout for layout in found}


def layout_of(name: str) -> Layout:
    """The layout of that name, or ConfigError with the names there are."""
    known = layouts()
    if name not in known:
        raise refuse("layout", name, ", ".join(known))
    return known[name]


def fits(model: Model) -> dict[str, list[Misfit]]:
    """For every layout what of the model it cannot hold; an empty list for those that fit."""
    return {name: layout.misfits(model) for name, layout in layouts().items()}


def export(
    model: Model,
    folder: str | os.PathLike[str],
    layout: str,
    dtype: str | None = None,
    text: Any = None,
    force: bool = False,
) -> Export:
    """Write `model` to `folder` in a layout that other programs read.

    dtype: of the weights, one of the layout's; None takes the type that most of the model's matrices have, or
    else float32. text: what q and k are measured on where a layout has to know how large they are: a text,
    token ids [n], or a TokenData; None takes a passage of the package's own.
    force: replace what is in the folder; without it only an earlier export is replaced.

    The folder appears when it is whole. Raises ExportError, naming layer and reason, for a model that the
    layout does not hold; ConfigError for a wrong option.
    """
    chosen = layout_of(layout)
    kind = _dtype(model, chosen, dtype)
    found = chosen.misfits(model)
    if found:
        raise ExportError(_refusal(model, chosen, found))
    with staged(Path(os.path.abspath(folder)), force) as target:
        notes = chosen.write(model, target, Options(kind, text))
        facts = {"layout": layout, "read by": chosen.programs, "weights": kind, **_facts(notes)}
        write_card(target, model, chosen.library, facts)
        files = tuple(sorted(path.name for path in target.iterdir()))
        write_sheet_of(target, {"layout": layout, "dtype": kind, "files": [*files, SHEET], "notes": notes})
    return Export(layout, Path(folder), kind, (*files, SHEET), notes)


def _facts(notes: dict[str, Any]) -> dict[str, Any]:
    """What of a layout's notes a model card has room for."""
    return {key: value for key, value in notes.items() if not isinstance(value, dict)}


def _dtype(model: Model, layout: Layout, dtype: str | None) -> str:
    if dtype is None:
        kinds = [name for name, _ in model.stored().values()]
        most = max(sorted(set(kinds)), key=kinds.count) if kinds else "float32"
        return most if most in layout.dtypes else layout.dtypes[0]
    full = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(dtype, dtype)
    if full not in layout.dtypes:
        raise refuse("dtype", dtype, f"{', '.join(layout.dtypes)} for layout {layout.name}")
    return full


def _refusal(model: Model, layout: Layout, found: list[Misfit]) -> str:
    """One line: every reason with its layers, and what would hold the model."""
    others = [name for name, misfits in fits(model).items() if not misfits]
    hint = f"; layouts that hold this model: {', '.join(others)}" if others else ""
    return f"layout {layout.name} does not hold this model: {'; '.join(grouped(found))}{hint}"


def grouped(found: Iterable[Misfit]) -> list[str]:
    """Reasons with the layers that share them: "layers 0 to 2, 5: reason"."""
    by_reason: dict[str, list[int]] = {}
    for misfit in found:
        layers = by_reason.setdefault(misfit.reason, [])
        if misfit.layer is not None:
            layers.append(misfit.layer)
    return [f"{_layers(layers)}: {reason}" if layers else reason for reason, layers in by_reason.items()]


def _layers(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return f"layer{'s' if len(numbers) > 1 else ''} {', '.join(parts)}"
