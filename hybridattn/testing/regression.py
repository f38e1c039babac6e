"""A test's figures against the ones pinned in its file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__, _core
from ..errors import DataError
from ..evaluate import kl as evaluate_kl
from ..evaluate import perplexity as evaluate_perplexity
from ..files import write_sheet
from ..model.base import tokenizer_of
from ..reading import field, read_json
from . import figures

if TYPE_CHECKING:
    from ..data.tokens import TokenData
    from ..model.model import Model
    from ..model.result import TrainResult
    from ..select.scores import LayerScores

FORMAT = "hybridattn-regression-1"
FLAG = "--hybrid-update"


class HybridRegression:
    """The figures that a test measures. Each method measures one under `name`; at the end of the test all
    are compared with the file, which `--hybrid-update` writes.

    Figures are compared to the digits that the file keeps where the machine runs the kernels that made it,
    and to a thousandth where it has other instructions: these add in another order. within: how many standard
    errors a figure may move beside that.
    """

    def __init__(self, path: Path, update: bool = False) -> None:
        self.path, self.update = path, update
        self.found: dict[str, figures.Kept] = {}
        self.within: dict[str, float] = {}
        self.said: list[str] = []  # what an update changed

    def kl(
        self, student: Model, teacher: Model | None, data: TokenData, name: str = "kl", within: float = 0.0
    ) -> float:
        """The KL from the teacher, nats a token, see `evaluate.kl`; its mean is returned."""
        made = evaluate_kl(student, teacher, data)
        self._add(name, figures.mean(made.kl, made.kl_stderr, made.per_sequence), within)
        return made.kl

    def perplexity(
        self, model: Model, text: str | Sequence[str] | TokenData, name: str = "perplexity",
        within: float = 0.0,
    ) -> float:  # fmt: skip
        """The perplexity a token, see `evaluate.perplexity`; it is returned."""
        made = evaluate_perplexity(model, text)
        # the error of exp(nll) by the slope of exp
        self._add(name, figures.mean(made.perplexity, made.perplexity * made.nll_stderr, []), within)
        return made.perplexity

    def layers(self, scores: LayerScores, k: int, name: str = "layers", within: float = 0.0) -> list[int]:
        """The k layers that the scores keep softmax; they are returned."""
        chosen = scores.top(k)
        self._add(name, figures.layers(chosen, scores.values.tolist(), scores.stderr.tolist()), within)
        return chosen

    def text(self, model: Model, prompt: str, max_new_tokens: int = 32, name: str = "text") -> str:
        """What the model writes after the prompt, the likeliest token each time; it is returned."""
        tokenizer = tokenizer_of(model)
        ids = [int(token) for token in tokenizer.encode(prompt)]
        made = model.generate([ids], max_new_tokens=max_new_tokens, temperature=0)[0]
        logits = model.logits(np.array([[*ids, *made]], np.int32))[0, len(ids) - 1 : -1].astype(np.float64)
        best = np.sort(logits, axis=-1)[:, -2:]
        written = tokenizer.decode(made)
        self._add(name, figures.text(prompt, written, made, (best[:, 1] - best[:, 0]).tolist()), 0.0)
        return written

    def losses(self, result: TrainResult, name: str = "losses") -> None:
        """The losses of a training run, step by step (of `align` the mean over layers)."""
        self._add(name, figures.losses(result.curve.tolist()), 0.0)

    def number(self, name: str, value: float) -> None:
        """Any other figure, such as bytes of a cache."""
        self._add(name, figures.number(float(value)), 0.0)

    def _add(self, name: str, kept: figures.Kept, within: float) -> None:
        if name in self.found:
            raise DataError(f"name is {name!r} twice in one test; allowed: a name of its own for each figure")
        self.found[name], self.within[name] = kept, within

    def finish(self) -> None:
        """Compare, or with `update` write. AssertionError says which figures moved, and by how much."""
        pinned, machine = self._pinned()
        here = _machine()
        same = all(machine.get(key) == here[key] for key in ("isa", "blis_kernels"))
        moved = [f"{name} is pinned and was not measured" for name in pinned if name not in self.found]
        for name, found in self.found.items():
            if name not in pinned:
                moved.append(f"{name} is not pinned yet")
            elif how := figures.moved(pinned[name], found, same, self.within[name]):
                moved.append(f"{name} {how}")
        if not moved:
            return
        if self.update:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_sheet(self.path, {"format": FORMAT, "machine": here, "figures": self.found})
            self.said = moved
            return
        where = os.path.relpath(self.path)
        if not pinned:
            raise AssertionError(f"{where} has no figures of this test yet; pytest {FLAG} writes them")
        note = "" if same else f" (made on {_name(machine)}, compared on {_name(here)})"
        raise AssertionError(
            f"{len(moved)} figures have moved from {where}{note}; if they should, pytest {FLAG} pins the new "
            "ones\n" + "\n".join(moved)
        )

    def _pinned(self) -> tuple[dict[str, figures.Kept], dict[str, Any]]:
        """(the figures, the machine) of the file; nothing where there is none."""
        if not self.path.is_file():
            return {}, {}
        content = read_json(self.path, DataError)
        where = f"{self.path}: no file of pinned figures"
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(f"{where}: allowed: an object of format {FORMAT!r}")
        found = [field(content, key, dict, where, DataError) for key in ("figures", "machine")]
        for name, kept in found[0].items():
            if not isinstance(kept, dict):
                raise DataError(f"{where}: figures.{name} is {kept!r:.60}; allowed: an object")
        return found[0], found[1]


def _machine() -> dict[str, Any]:
    config = _core.show_config()
    return {"isa": config["isa"], "blis_kernels": config["blis_kernels"], "version": __version__}


def _name(machine: dict[str, Any]) -> str:
    return f"{machine.get('isa')} with BLIS {machine.get('blis_kernels')}, version {machine.get('version')}"
