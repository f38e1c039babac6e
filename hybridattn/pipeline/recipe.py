"""The recipe of a whole job: what `hybridattn run` reads from a small TOML file.

Every number that decides how long a run takes is a default in this file. The demo, a job of under 15 minutes
on 2 cores for a teacher of 135M parameters, differs by `DEMO` alone. A recipe file only names what differs.
One dataclass per TOML table; `Recipe.load` refuses unknown tables and keys by name and says which was meant.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks import LARGEST, as_float, nearest
from ..diagnostics.texts import TEXT_KINDS
from ..errors import ConfigError, PlanError
from ..radlads.schedules import SCHEDULES

DEMO_TEACHER, DEMO_TEXT = "smollm2-135m", "wikipedia"  # fetched by hub, no model hub needed
DEMO: dict[str, Any] = {"evaluate": {"tokens": 4_096}}  # less text to evaluate on than by default
SOFTMAX_LAYERS = 8  # that stay when a recipe says nothing
MODEL_IDS = ("chosen", "uniform", "random", "diagnostic", "all-linear")


@dataclass(frozen=True)
class TeacherPart:
    """The softmax model to convert."""

    model: str = DEMO_TEACHER  # folder, .gguf file, hub id, or the built-in teacher
    name: str = ""  # how the report calls it; empty: taken from `model`


@dataclass(frozen=True)
class TextPart:
    """Text for training and, set aside from it, for scoring and for held-out evaluation."""

    train: str = DEMO_TEXT  # .txt, .txt.gz, .jsonl, a folder of them, or a built-in text
    heldout: str = ""  # a file of its own, or a built-in text; empty: a part of `train` set aside


@dataclass(frozen=True)
class AlignPart:
    """RADLADS step 1: every layer gets a linear mixer that imitates its softmax mixer."""

    tokens: int = 32_768
    seq_len: int = 2_048  # longer than step 2's: a linear part trained on short text hurts on long
    batch_size: int = 1
    lr: float = 0.0  # 0: the mixer's own, radlads.align_lr
    lr_final: float = 1e-5
    layerwise: bool = False  # one layer at a time: the memory of one layer, slower


@dataclass(frozen=True)
class ScorePart:
    """Layer scores by KL divergence."""

    methods: tuple[str, ...] = ("kl_replace", "kl_gate")
    text: str = "recall"  # what scores are read on: recall prompts, plain text, a mix, or diagnostic:TASK
    tokens: int = 2_048
    seq_len: int = 512


@dataclass(frozen=True)
class PlanPart:
    """Which layers stay softmax: `softmax_layers` of them, or a `ratio` of all layers; not both."""

    softmax_layers: int = 0  # 0: from the ratio, and 8 when that is 0 too
    ratio: float = 0.0
    method: str = ""  # the score that chooses; one of score.methods, empty: the first
    random_seeds: int = 3  # how many random sets are evaluated as a baseline
    diagnostic: str = ""  # a diagnostic task whose answers choose one more baseline; empty: none


@dataclass(frozen=True)
class DistillPart:
    """RADLADS step 2 (KL on logits; 0 tokens: none) and, with finetune_tokens, step 3.

    Every model of `models` gets the same budget.
    """

    tokens: int = 8_192
    seq_len: int = 512
    batch_size: int = 1
    lr_mixers: float = 1e-4
    lr_rest: float = 1e-5
    schedule: str = "constant"
    finetune_tokens: int = 0
    # "all-linear" is left out: its distillation costs as much again, and says what softmax layers are worth;
    # "diagnostic" counts where plan.diagnostic names a task
    models: tuple[str, ...] = ("chosen", "uniform", "random", "diagnostic")
    random_seeds: int = 1  # how many of the random sets are distilled (each costs as much as the chosen one)


@dataclass(frozen=True)
class EvaluatePart:
    """Held-out KL and perplexity; the same tokens are cut at each length."""

    tokens: int = 16_384
    lengths: tuple[int, ...] = (512, 2_048)


@dataclass(frozen=True)
class MeasurePart:
    """Latency and cache size against the teacher."""

    lengths: tuple[int, ...] = (512, 2_048)
    decode_tokens: int = 16
    repeats: int = 3
    dtype: str = "float32"  # of the weights while they are timed, see Model.astype


@dataclass(frozen=True)
class TasksPart:
    """What every model is asked at the end, without examples. No names: nothing."""

    glue: tuple[str, ...] = ()  # by likelihood: built-in GLUE-style sets, or GLUE's tasks: "SST-2/validation"
    glue_data: str = ""  # the folder of GLUE's files, for tasks that are not built in
    squad: tuple[str, ...] = ()  # written answers: built-in SQuAD-style sets, or files
    recall: tuple[str, ...] = ()  # diagnostic tasks, answered by generation
    examples: int = 200  # of each of glue, drawn by `seed`
    questions: int = 100  # of each of squad, drawn by `seed`
    prompts: int = 24  # of each of recall
    seq_len: int = 512  # of recall


@dataclass(frozen=True)
class SamplesPart:
    """A continuation of one prompt by each model (greedy)."""

    prompt: str = "The moon is the only natural satellite of the Earth. It"
    tokens: int = 48


@dataclass(frozen=True)
class Recipe:
    """A whole job. `mixer` is the spec given to the core: kind and its options."""

    teacher: TeacherPart = field(default_factory=TeacherPart)
    text: TextPart = field(default_factory=TextPart)
    mixer: dict[str, Any] = field(default_factory=lambda: {"kind": "window_linear"})
    align: AlignPart = field(default_factory=AlignPart)
    score: ScorePart = field(default_factory=ScorePart)
    plan: PlanPart = field(default_factory=PlanPart)
    distill: DistillPart = field(default_factory=DistillPart)
    evaluate: EvaluatePart = field(default_factory=EvaluatePart)
    measure: MeasurePart = field(default_factory=MeasurePart)
    tasks: TasksPart = field(default_factory=TasksPart)
    samples: SamplesPart = field(default_factory=SamplesPart)
    seed: int = 0

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
        _relative_to(table, Path(path).parent)  # not the overrides: they come from another place
        return cls.from_dict(merge(table, overrides or {}))

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> Recipe:
        """Build and validate. Unknown tables, unknown keys, wrong types and values raise ConfigError."""
        parts = {f.name: f for f in dataclasses.fields(cls)}
        _refuse_unknown("recipe", table, parts)
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name == "seed":
                values[name] = _typed("seed", value, 0)
            elif not isinstance(value, dict):
                raise ConfigError(f"recipe: {name} must be a table, write [{name}] on a line of its own")
            elif name == "mixer":
                values[name] = _mixer(value)
            else:
                values[name] = _part(name, PARTS[name], value)
        recipe = cls(**values)
        recipe.check()
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers, every key present."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def to_toml(self) -> str:
        """The recipe as TOML that `load` reads back to an equal one."""
        from ..radlads.schedules import align_lr

        lines = [f"seed = {self.seed}"]
        for name, part in self.to_dict().items():
            if name == "seed":
                continue
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {_toml(value)}" for key, value in part.items()]
            if name == "plan" and not self.plan.method:
                lines[lines.index('method = ""')] += f"  # the first of score.methods: {self.method}"
            if name == "plan" and not (self.plan.softmax_layers or self.plan.ratio):
                lines[lines.index("softmax_layers = 0")] += f"  # of the default: {SOFTMAX_LAYERS}"
            if name == "align" and not self.align.lr:
                kind = self.mixer["kind"]
                lines[lines.index("lr = 0.0")] += f"  # the one of {kind}: {align_lr(kind)}"
        return "\n".join(lines) + "\n"

    def check(self) -> None:
        """Refuse values that make no sense, alone or together; ConfigError names key and value."""
        for part_name, key in _POSITIVE:
            value = getattr(getattr(self, part_name), key)
            if not value > 0:
                raise ConfigError(f"recipe: {part_name}.{key} is {value}; it must be greater than 0")
        for part_name, key in _NOT_NEGATIVE:
            value = getattr(getattr(self, part_name), key)
            if not 0 <= value < math.inf:
                raise ConfigError(f"recipe: {part_name}.{key} is {value}; it must be 0 or more")
        if self.seed < 0:
            raise ConfigError(f"recipe: seed is {self.seed}; it must be 0 or more")
        if not self.samples.prompt:
            raise ConfigError("recipe: samples.prompt is empty; it must hold the text to go on from")
        for part_name, key in (("align", "tokens"), ("distill", "tokens"), ("distill", "finetune_tokens")):
            part = getattr(self, part_name)
            tokens, step = getattr(part, key), part.seq_len * part.batch_size
            if 0 < tokens < step:
                raise ConfigError(
                    f"recipe: {part_name}.{key} is {tokens}, less than one step of batch_size x "
                    f"seq_len = {step} tokens"
                )
        if not self.score.text.startswith("diagnostic:"):  # which tasks there are is for diagnostics to say
            _one_of("score.text", self.score.text, TEXT_KINDS)
        _one_of("distill.schedule", self.distill.schedule, tuple(SCHEDULES))
        for model in self.distill.models:
            _one_of("distill.models", model, MODEL_IDS)
        if "chosen" not in self.distill.models:
            raise ConfigError('recipe: distill.models must hold "chosen"')
        if not self.score.methods:
            raise ConfigError("recipe: score.methods is empty; name at least one")
        _one_of("plan.method", self.method, self.score.methods, "one of score.methods: ")
        if self.plan.softmax_layers and self.plan.ratio:
            raise ConfigError(
                f"recipe: plan.softmax_layers is {self.plan.softmax_layers} and plan.ratio is "
                f"{self.plan.ratio}; give one of them"
            )
        if not 0.0 <= self.plan.ratio <= 1.0:
            raise ConfigError(f"recipe: plan.ratio is {self.plan.ratio}; it must be between 0 and 1")
        for name, lengths in (
            ("evaluate.lengths", self.evaluate.lengths),
            ("measure.lengths", self.measure.lengths),
        ):
            if not lengths or min(lengths) < 2:
                raise ConfigError(
                    f"recipe: {name} is {list(lengths)}; it needs one length or more, each at least 2"
                )
        if self.evaluate.tokens < max(self.evaluate.lengths):
            raise ConfigError(
                f"recipe: evaluate.tokens is {self.evaluate.tokens}, less than the longest of "
                f"evaluate.lengths, {max(self.evaluate.lengths)}"
            )


PARTS: dict[str, type] = {
    "teacher": TeacherPart,
    "text": TextPart,
    "align": AlignPart,
    "score": ScorePart,
    "plan": PlanPart,
    "distill": DistillPart,
    "evaluate": EvaluatePart,
    "measure": MeasurePart,
    "tasks": TasksPart,
    "samples": SamplesPart,
}
_PATHS = [
    ("teacher", "model"),
    ("text", "train"),
    ("text", "heldout"),
    ("tasks", "glue_data"),
    ("tasks", "squad"),
]
_POSITIVE = [
    ("align", "tokens"),
    ("align", "seq_len"),
    ("align", "batch_size"),
    ("score", "tokens"),
    ("score", "seq_len"),
    ("distill", "seq_len"),
    ("distill", "batch_size"),
    ("evaluate", "tokens"),
    ("measure", "decode_tokens"),
    ("measure", "repeats"),
    ("tasks", "examples"),
    ("tasks", "questions"),
    ("tasks", "prompts"),
    ("tasks", "seq_len"),
    ("samples", "tokens"),
]
_NOT_NEGATIVE = [
    ("align", "lr"),
    ("align", "lr_final"),
    ("plan", "softmax_layers"),
    ("plan", "random_seeds"),
    ("distill", "tokens"),
    ("distill", "lr_mixers"),
    ("distill", "lr_rest"),
    ("distill", "finetune_tokens"),
    ("distill", "random_seeds"),
]


def _toml(value: Any) -> str:
    """JSON's scalars and arrays are TOML's, but for two surrogates in the place of one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def parse_toml(text: str, origin: str) -> dict[str, Any]:
    """TOML text to a dict; ConfigError with the parser's line number."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"recipe {origin}: not valid TOML: it is nested too deep") from None
    except ValueError as error:  # the parser's own, and a number of too many digits
        raise ConfigError(f"recipe {origin}: not valid TOML: {error}") from None


def parse_setting(text: str) -> dict[str, Any]:
    """'table.key=value' from the command line -> {"table": {"key": value}}."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"setting {text!r}: write it as table.key=value, for example align.tokens=100000")
    try:
        parsed = parse_toml(f"x = {value.strip()}", "--set")["x"]
    except ConfigError:
        parsed = value.strip()
    for part in reversed(name.strip().split(".")):
        parsed = {part: parsed}
    return parsed


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, table by table. Another kind of mixer drops the options of the old one."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            another_kind = key == "mixer" and value.get("kind", old.get("kind")) != old.get("kind")
            result[key] = dict(value) if another_kind else merge(old, value)
        else:
            result[key] = value
    return result


def _refuse_unknown(where: str, table: dict[str, Any], allowed: Iterable[str]) -> None:
    for key in table:
        if key not in allowed:
            raise ConfigError(f'{where}: unknown key "{key}"{nearest(key, allowed)}')


def _one_of(name: str, value: str, allowed: Sequence[str], prefix: str = "") -> None:
    if value not in allowed:
        raise ConfigError(f'recipe: {name} is "{value}"; allowed: {prefix}{", ".join(allowed)}')


def _part(name: str, part: type, table: dict[str, Any]) -> Any:
    fields = {f.name: f for f in dataclasses.fields(part)}
    _refuse_unknown(f"recipe [{name}]", table, fields)
    return part(**{key: _typed(f"{name}.{key}", value, fields[key].default) for key, value in table.items()})


def _typed(name: str, value: Any, default: Any) -> Any:
    """`value` in the type of `default`; an int will do for a float, a list or a single value for a tuple."""
    if isinstance(default, tuple):
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_typed(name, item, default[0] if default else "") for item in items)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        if not math.isfinite(as_float(value)):
            raise ConfigError(f"recipe: {name} is a whole number beyond the range of numbers")
        return as_float(value)
    if type(value) is not type(default):
        wanted = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}
        raise ConfigError(f"recipe: {name} is {value!r}; it must be {wanted[type(default)]}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f"recipe: {name} is {value}; it must be at most {LARGEST}")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"recipe: {name} is {value!r}; it must be UTF-8 text") from None
    return value


def _mixer(table: dict[str, Any]) -> dict[str, Any]:
    """Kind and whole-number options; which options a kind has is for the core to say."""
    kind = table.get("kind", "window_linear")
    if not isinstance(kind, str):
        raise ConfigError(f"recipe: mixer.kind is {kind!r}; it must be text in quotes")
    options = {key: value for key, value in table.items() if key != "kind"}
    for key, value in options.items():
        if not isinstance(value, (int, float)):
            raise ConfigError(f"recipe: mixer.{key} is {value!r}; it must be a number, true or false")
    return {
        "kind": kind,
        **{key: int(value) if isinstance(value, bool) else value for key, value in options.items()},
    }


def _relative_to(table: dict[str, Any], folder: Path) -> None:
    """Paths in a recipe are relative to the recipe's own folder when they exist there."""

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(item) for item in value]
        known = isinstance(value, str) and value and (folder / value).exists()
        return str((folder / value).resolve()) if known else value

    for part, key in _PATHS:
        if isinstance(table.get(part), dict) and key in table[part]:
            table[part][key] = placed(table[part][key])
