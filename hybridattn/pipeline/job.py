"""What the stages of a run share: recipe, results so far, and models and text, loaded when first needed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..compute import Compute, chosen
from ..data.split import Texts
from ..data.tokens import TokenData
from ..diagnostics import scoring_text
from ..distributed.state import current
from ..model.base import tokenizer_of
from ..model.model import Model
from ..model.plan import Plan
from ..radlads.teacher import final_hidden
from .question_sets import QuestionSets, read
from .recipe import Recipe
from .store import Store, fingerprint


class Job:
    """One run of a recipe into the folder `out`.

    `results` holds what finished stages returned and `digests` what they were made from, by stage name;
    `on_ranks`: whether a world does the run, be it of one rank.
    Models load when a stage asks for them, so a run that skips everything loads none. One hybrid is kept.
    """

    def __init__(self, recipe: Recipe, out: Path, log: Callable[[str], None], progress: bool = True) -> None:
        self.recipe = recipe
        self.out = out
        self.log = log
        self.progress = progress
        self.on_ranks = current() is not None
        self.store = Store(out)
        self.results: dict[str, dict[str, Any]] = {}
        self.digests: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.tokens: dict[str, int | None] = {}
        self._models: dict[str, Model] = {}
        self._hybrid_name = ""
        self._hidden: dict[str, npt.NDArray[np.float32]] = {}

    @property
    def num_layers(self) -> int:
        return int(self.results["teacher"]["num_layers"])

    @cached_property
    def compute(self) -> Compute:
        """What products are computed in on this processor."""
        return chosen(self.recipe.compute)

    # ---- models

    def keep(self, name: str, model: Model) -> Model:
        """Hold a model ("teacher", "probe" or "hybrid") for the stages to come."""
        self._models[name] = model
        return model

    def forget(self, name: str) -> None:
        """Let go of a model; its memory is free before the next one is made."""
        self._models.pop(name, None)
        gc.collect()

    @property
    def teacher(self) -> Model:
        """The softmax model."""
        return self._models.get("teacher") or self.keep(
            "teacher", self._load(self.results["fetch"]["teacher"])
        )

    @property
    def probe(self) -> Model:
        """The model of step 1: both mixers in every layer."""
        return self._models.get("probe") or self.keep("probe", self._load(self.out / "probe"))

    def layers(self, model_id: str) -> list[int]:
        """The softmax layers of a model of the report."""
        fixed: dict[str, list[int]] = {"teacher": list(range(self.num_layers)), "all-linear": []}
        return fixed[model_id] if model_id in fixed else self.results["plan"]["sets"][model_id]

    def model(self, model_id: str, when: str) -> Model:
        """A model of the report, "before" or "after" distillation."""
        if model_id == "teacher":
            return self.teacher
        name = f"{model_id}/{when}"
        if "hybrid" not in self._models or self._hybrid_name != name:
            self.forget("hybrid")
            self._hybrid_name = name
            if when == "before":
                self.keep("hybrid", self.probe.to_hybrid(self._plan(model_id)))
            else:
                self.keep("hybrid", self._load(self.model_folder(model_id)))
        return self._models["hybrid"]

    def _plan(self, model_id: str) -> Plan | list[int]:
        """The plan a saved hybrid carries in its config."""
        path = self.out / "plans" / f"{model_id}.json"
        return Plan.load(path) if path.exists() else self.layers(model_id)

    def model_digest(self, model_id: str, when: str) -> str:
        """A fingerprint of a model's weights by what they were made from."""
        if model_id == "teacher":
            return fingerprint("teacher", self.results["fetch"]["digests"]["teacher"])
        if when == "after":
            return self.digests[f"distill/{model_id}"]
        return fingerprint("hybrid", [self.digests["align"], self.layers(model_id)])

    def model_folder(self, model_id: str) -> Path:
        """Where a distilled hybrid is saved."""
        return self.out / "models" / model_id

    def _load(self, path: str | Path) -> Model:
        return Model.from_pretrained(path, compute=self.compute)

    # ---- text

    @cached_property
    def texts(self) -> Texts:
        """The text of the run, in parts."""
        files = self.results["fetch"]
        heldout = Path(files["heldout"]) if files["heldout"] else None
        return Texts(Path(files["text"]), heldout, self.recipe.text.answers_only)

    def training_text(self, tokens: int, seq_len: int, skip: int = 0) -> TokenData:
        """See `Texts.training`."""
        return self.texts.training(tokenizer_of(self.teacher), tokens, seq_len, skip)

    def scoring_text(self) -> TokenData:
        """What layer scores are read on: recall prompts, plain text, half and half, or a diagnostic."""
        part = self.recipe.score
        count = max(1, part.tokens // part.seq_len)
        tokenizer, wanted = tokenizer_of(self.teacher), count * part.seq_len
        plain = None
        if part.text in ("plain", "mix"):
            plain = self.texts.read("scoring", tokenizer, wanted, part.seq_len)
        return scoring_text(part.text, tokenizer, count, part.seq_len, plain, self.recipe.seed)

    @cached_property
    def question_sets(self) -> QuestionSets:
        """The examples and questions that the recipe's [tasks] names."""
        return read(self.recipe)

    def heldout_text(self, length: int) -> TokenData:
        """The evaluation tokens, the same ones at every length, in windows of `length`."""
        return self.texts.read("held-out", tokenizer_of(self.teacher), self.recipe.evaluate.tokens, length)

    def teacher_hidden(self, data: TokenData) -> npt.NDArray[np.float32]:
        """The teacher's final hidden states on evaluation text: one pass for all models that are compared."""
        key = data.fingerprint()
        if key not in self._hidden:
            self._hidden[key] = final_hidden(self.teacher, data)
        return self._hidden[key]
