"""The tables of a recipe, one dataclass each: every key with its default, its meaning and what it may be.

Every number that decides how long a run takes is a default in this file. The demo, a job of under 15 minutes
on 2 cores for a teacher of 135M parameters, differs by `DEMO` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..diagnostics.texts import TEXT_KINDS
from ..distributed.state import OVERLAP, REDUCE
from ..errors import ConfigError
from ..model.calibrated import INITS
from ..radlads.schedules import SCHEDULES
from .recipe_keys import filled, key, lengths, not_negative, one_of, positive, share

DEMO_TEACHER, DEMO_TEXT = "smollm2-135m", "wikipedia"  # fetched by hub, no model hub needed
DEMO: dict[str, Any] = {"evaluate": {"tokens": 4_096}}  # less text to evaluate on than by default
MODEL_IDS = ("chosen", "uniform", "random", "diagnostic", "all-linear")

DROPOUT = "share of the steps in which window_linear hides its softmax window, so that its linear part learns"


def _scoring_text(name: str, value: str) -> None:
    if not value.startswith("diagnostic:"):  # which kinds there are is for diagnostics to say
        one_of(TEXT_KINDS)(name, value)


def _models(name: str, value: tuple[str, ...]) -> None:
    one_of(MODEL_IDS)(name, value)
    if "chosen" not in value:
        raise ConfigError(f'recipe: {name} must hold "chosen"')


@dataclass(frozen=True)
class TeacherPart:
    """The softmax model to convert."""

    model: str = key(DEMO_TEACHER, "folder, .gguf file, hub id, or the built-in teacher", path=True)
    name: str = key("", "how the report calls it; empty: taken from `model`")


@dataclass(frozen=True)
class TextPart:
    """Text for training and, set aside from it, for scoring and for held-out evaluation."""

    train: str = key(DEMO_TEXT, ".txt, .jsonl or .parquet, a folder of them, or a built-in text", path=True)
    heldout: str = key(
        "", "a file of its own, or a built-in text; empty: a part of `train` set aside", path=True
    )
    answers_only: bool = key(
        False, "rows of messages: what assistants say is all that counts in losses, scores and evaluation"
    )


@dataclass(frozen=True)
class AlignPart:
    """RADLADS step 1: every layer gets a linear mixer that imitates its softmax mixer."""

    tokens: int = key(32_768, "text to train on", positive)
    seq_len: int = key(
        2_048, "longer than step 2's: a linear part trained on short text hurts on long", positive
    )
    batch_size: int = key(1, "windows per step", positive)
    lr: float = key(0.0, "0: the mixer's own, radlads.align_lr", not_negative)
    lr_final: float = key(1e-5, "learning rate of the last step", not_negative)
    init: str = key(
        "transfer",
        'where mixers start: softmax weights alone, or "calibrated": fitted to the teacher on 8192 tokens',
        one_of(INITS),
    )
    window_dropout: float = key(0.0, DROPOUT, share)
    layerwise: bool = key(False, "one layer at a time: the memory of one layer, slower")


@dataclass(frozen=True)
class ScorePart:
    """Layer scores by KL divergence."""

    methods: tuple[str, ...] = key(
        ("kl_replace", "kl_gate"), "how layers are scored", filled("name at least one")
    )
    text: str = key(
        "recall",
        "what scores are read on: recall prompts, plain text, a mix, or diagnostic:TASK",
        _scoring_text,
    )
    tokens: int = key(2_048, "text to score on", positive)
    seq_len: int = key(512, "tokens per sequence", positive)


@dataclass(frozen=True)
class PlanPart:
    """Which layers stay softmax: `softmax_layers` of them, or a `ratio` of all layers; not both."""

    softmax_layers: int = key(0, "0: from the ratio, and 8 when that is 0 too", not_negative)
    ratio: float = key(0.0, "share of all layers", share)
    method: str = key("", "the score that chooses; one of score.methods, empty: the first")
    random_seeds: int = key(3, "how many random sets are evaluated as a baseline", not_negative)
    diagnostic: str = key("", "a diagnostic whose answers choose one more baseline; empty: none")


@dataclass(frozen=True)
class DistillPart:
    """RADLADS step 2 (KL on logits; 0 tokens: none) and, with finetune_tokens, step 3.

    Every model of `models` gets the same budget.
    """

    tokens: int = key(8_192, "text to train on", not_negative)
    seq_len: int = key(512, "tokens per window", positive)
    batch_size: int = key(1, "windows per step", positive)
    lr_mixers: float = key(1e-4, "learning rate of the mixers", not_negative)
    lr_rest: float = key(1e-5, "learning rate of everything else", not_negative)
    schedule: str = key("constant", "how the learning rates go on", one_of(SCHEDULES))
    window_dropout: float = key(0.0, DROPOUT, share)
    finetune_tokens: int = key(0, "text of step 3; 0: none", not_negative)
    reduce: str = key(
        "tree", 'with mpiexec: "tree" for the same bits on any number of ranks, or "fast"', one_of(REDUCE)
    )
    leaves: int = key(8, "with mpiexec: parts of a step that are added as a tree", positive)
    overlap: str = key(
        "auto",
        'with mpiexec: whether gradients are sent during the backward pass; "auto" between machines',
        one_of(OVERLAP),
    )
    # the distillation of "all-linear" costs as much again, and says what softmax layers are worth
    models: tuple[str, ...] = key(
        ("chosen", "uniform", "random", "diagnostic"),
        '"all-linear" too on request; "diagnostic" counts where plan.diagnostic names a task',
        _models,
    )
    random_seeds: int = key(
        1, "how many of the random sets are distilled (each costs as much as the chosen one)", not_negative
    )


@dataclass(frozen=True)
class EvaluatePart:
    """Held-out KL and perplexity; the same tokens are cut at each length."""

    tokens: int = key(16_384, "text to evaluate on", positive)
    lengths: tuple[int, ...] = key((512, 2_048), "tokens per window", lengths)


@dataclass(frozen=True)
class MeasurePart:
    """Latency and cache size against the teacher."""

    lengths: tuple[int, ...] = key((512, 2_048), "tokens of the prompt", lengths)
    decode_tokens: int = key(16, "tokens that are written after it", positive)
    repeats: int = key(
        5, "rounds in which all models take turns; the median counts, the range is told", positive
    )
    dtype: str = key("float32", "of the weights while they are timed, see Model.astype")


@dataclass(frozen=True)
class TasksPart:
    """What every model is asked at the end, without examples. No names: nothing."""

    glue: tuple[str, ...] = key(
        (), 'by likelihood: built-in GLUE-style sets, or GLUE\'s tasks: "SST-2/validation"'
    )
    glue_data: str = key("", "the folder of GLUE's files, for tasks that are not built in", path=True)
    squad: tuple[str, ...] = key((), "written answers: built-in SQuAD-style sets, or files", path=True)
    recall: tuple[str, ...] = key((), "diagnostics, answered by generation")
    examples: int = key(200, "of each of glue, drawn by `seed`", positive)
    questions: int = key(100, "of each of squad, drawn by `seed`", positive)
    prompts: int = key(24, "of each of recall", positive)
    seq_len: int = key(512, "of recall", positive)


@dataclass(frozen=True)
class SamplesPart:
    """A continuation of one prompt by each model (greedy)."""

    prompt: str = key(
        "The moon is the only natural satellite of the Earth. It",
        "what each model goes on from",
        filled("it must hold the text to go on from"),
    )
    tokens: int = key(48, "at most this many", positive)
