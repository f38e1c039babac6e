"""The recipe of a whole job: what `hybridattn run` reads from a small TOML file.

A recipe file only names what differs from the defaults. One dataclass per TOML table (recipe_parts.py);
`Recipe.load` refuses unknown tables and keys by name and says which was meant.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks import bytes_of
from ..compute import COMPUTES
from ..errors import ConfigError, PlanError
from ..model.saved import named_options
from ..radlads.moments import MOMENTS
from ..radlads.schedules import align_lr
from .recipe_keys import check_keys, key, keys, not_negative, one_of, read_keys, refuse_unknown, typed
from .recipe_parts import (
    AlignPart,
    DistillPart,
    EvaluatePart,
    MeasurePart,
    PlanPart,
    SamplesPart,
    ScorePart,
    TasksPart,
    TeacherPart,
    TextPart,
)
from .recipe_toml import merge, parse_toml, place, write_toml

SOFTMAX_LAYERS = 8  # that stay when a recipe says nothing
MIXER = "window_linear"  # the kind, when a recipe says nothing


def _memory(name: str, value: str) -> None:
    if value:
        bytes_of(value, name)


@dataclass(frozen=True)
class Recipe:
    """A whole job. `mixer` is the spec given to the core: kind and its options."""

    teacher: TeacherPart = field(default_factory=TeacherPart)
    text: TextPart = field(default_factory=TextPart)
    mixer: dict[str, Any] = field(
        default_factory=lambda: {"kind": MIXER},
        metadata={"help": "The linear mixer: its kind, and the options of that kind."},
    )
    align: AlignPart = field(default_factory=AlignPart)
    score: ScorePart = field(default_factory=ScorePart)
    plan: PlanPart = field(default_factory=PlanPart)
    distill: DistillPart = field(default_factory=DistillPart)
    evaluate: EvaluatePart = field(default_factory=EvaluatePart)
    measure: MeasurePart = field(default_factory=MeasurePart)
    tasks: TasksPart = field(default_factory=TasksPart)
    samples: SamplesPart = field(default_factory=SamplesPart)
    seed: int = key(0, "of everything that is drawn", not_negative)
    compute: str = key(
        "float32", "of products: float32, bfloat16, or auto: what the processor is best at", one_of(COMPUTES)
    )

    memory: str = key("", "the most that training may take, such as 2GiB; empty: no limit", _memory)
    moments: str = key(
        "auto", "of AdamW: float32, bfloat16 in half the memory, or auto: float32 unless memory is short",
        one_of(("auto", *MOMENTS)),
    )  # fmt: skip

    @property
    def training(self) -> dict[str, Any]:
        """The keywords of the training steps that say what they may take."""
        return {"memory": self.memory or None, "moments": self.moments}

    @property
    def method(self) -> str:
        """The score that chooses."""
        return self.plan.method or self.score.methods[0]

    def softmax_layers(self, num_layers: int) -> int:
        """How many of `num_layers` layers stay softmax; PlanError when that leaves nothing to choose."""
        part = self.plan
        k = part.softmax_layers or (int(part.ratio * num_layers + 0.5) if part.ratio else SOFTMAX_LAYERS)
        if not 0 < k < num_layers:
            given = f"ratio is {part.ratio}, which keeps" if part.ratio else "softmax_layers is"
            raise PlanError(
                f"plan.{given} {k}; allowed: 1 to {num_layers - 1}, as the teacher has {num_layers} layers"
            )
        return k

    @classmethod
    def load(cls, path: str | os.PathLike, overrides: dict[str, Any] | None = None) -> Recipe:
        """Read a TOML file; `overrides` ({"align": {"tokens": 1000}}) win over it. ConfigError when wrong."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"recipe {str(path)!r} does not exist; write one, or use --demo") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"recipe {str(path)!r}: byte {error.start} is not UTF-8 text") from None
        table = parse_toml(text, str(path))
        place(table, Path(path).parent, PARTS)  # not the overrides: they come from another place
        return cls.from_dict(merge(table, overrides or {}))

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> Recipe:
        """Build and validate. Unknown tables, unknown keys, wrong types and values raise ConfigError."""
        refuse_unknown("recipe", table, keys(cls))
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name in ("seed", "compute", "memory", "moments"):
                values[name] = typed(name, value, keys(cls)[name].default)
            elif not isinstance(value, dict):
                raise ConfigError(f"recipe: {name} must be a table, write [{name}] on a line of its own")
            elif name == "mixer":
                values[name] = _mixer(value)
            else:
                values[name] = read_keys(name, PARTS[name], value)
        recipe = cls(**values)
        recipe.check()
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers, every key present."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def to_toml(self, explain: bool = False) -> str:
        """The recipe as TOML that `load` reads back to an equal one. explain: with what each key is for."""
        return write_toml(self, self.to_dict(), self._notes(), explain)

    def _notes(self) -> dict[str, str]:
        """What a value that says nothing stands for, by key."""
        notes = {}
        if not self.align.lr:
            kind = self.mixer["kind"]
            notes["align.lr"] = f"the one of {kind}: {align_lr(kind)}"
        if not self.plan.method:
            notes["plan.method"] = f"the first of score.methods: {self.method}"
        if not (self.plan.softmax_layers or self.plan.ratio):
            notes["plan.softmax_layers"] = f"of the default: {SOFTMAX_LAYERS}"
        return notes

    def check(self) -> None:
        """Refuse values that make no sense, alone or together; ConfigError names key and value."""
        check_keys(self)
        for name in PARTS:
            check_keys(getattr(self, name), f"{name}.")
        for name, part, tokens in (
            ("align.tokens", self.align, self.align.tokens),
            ("distill.tokens", self.distill, self.distill.tokens),
            ("distill.finetune_tokens", self.distill, self.distill.finetune_tokens),
        ):
            step = part.seq_len * part.batch_size
            if 0 < tokens < step:
                raise ConfigError(
                    f"recipe: {name} is {tokens}, less than one step of batch_size x seq_len = {step} tokens"
                )
        one_of(self.score.methods, "one of score.methods: ")("plan.method", self.method)
        if self.plan.softmax_layers and self.plan.ratio:
            raise ConfigError(
                f"recipe: plan.softmax_layers is {self.plan.softmax_layers} and plan.ratio is "
                f"{self.plan.ratio}; give one of them"
            )
        if self.evaluate.tokens < max(self.evaluate.lengths):
            raise ConfigError(
                f"recipe: evaluate.tokens is {self.evaluate.tokens}, less than the longest of "
                f"evaluate.lengths, {max(self.evaluate.lengths)}"
            )


# The tables whose keys are known; those of the mixer are its kind's.
PARTS = {name: type(part) for name, part in vars(Recipe()).items() if dataclasses.is_dataclass(part)}


def _mixer(table: dict[str, Any]) -> dict[str, Any]:
    """Kind and options, whole numbers or names; which options a kind has is for the core to say."""
    kind = table.get("kind", MIXER)
    if not isinstance(kind, str):
        raise ConfigError(f"recipe: mixer.kind is {kind!r}; it must be text in quotes")
    options = {name: value for name, value in table.items() if name != "kind"}
    named = named_options(kind)
    for name, value in options.items():
        if not isinstance(value, (int, float)) and not (isinstance(value, str) and name in named):
            raise ConfigError(f"recipe: mixer.{name} is {value!r}; it must be a number, true or false")
    return {
        "kind": kind,
        **{name: int(value) if isinstance(value, bool) else value for name, value in options.items()},
    }
