"""The stages of a run in order: what each is made from (`inputs`), what it does, how much work it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..model.saved import complete
from ..select import SELECTORS, expected_forwards, takes
from . import answers, work
from .ids import distilled_ids, model_ids, score_methods, shown_ids, state_shown
from .job import Job
from .machine import machine
from .measure import measure
from .recipe import Recipe
from .recipe_parts import AlignPart, DistillPart


@dataclass(frozen=True)
class Stage:
    """One step of a run with a result of its own.

    inputs(job): all that the result depends on, as JSON data; called when the stages before are done.
    forwards: estimated work, in tokens of a forward pass of the teacher. tokens: tokens trained on or read.
    files(job): what must still be in the output folder for the result to be of use. shared: whether the
    ranks of a world do it together; the rest is rank 0's.
    """

    name: str
    run: Callable[[Job], dict[str, Any]]
    inputs: Callable[[Job], Any]
    forwards: float = 0.0
    tokens: int | None = None
    files: Callable[[Job], list[str]] = lambda job: []
    shared: bool = False


def build(recipe: Recipe, num_layers: int) -> list[Stage]:
    """All stages of a recipe between `fetch`, which always runs, and `report`."""
    stages = [_align(recipe)]
    stages += [_score(recipe, method, num_layers) for method in score_methods(recipe)]
    stages.append(_plan(recipe))
    stages += [_evaluate(recipe, model_id, "before") for model_id in model_ids(recipe)]
    for model_id in distilled_ids(recipe):
        stages += [_distill(recipe, model_id), _evaluate(recipe, model_id, "after")]
    stages.append(_measure(recipe))
    if any((recipe.tasks.glue, recipe.tasks.squad, recipe.tasks.recall)):
        stages += [_answers(recipe, model_id) for model_id in shown_ids(recipe)]
    stages += [_sample(recipe, model_id) for model_id in shown_ids(recipe)]
    return stages


# How many tokens of a forward pass of the teacher take as long as one token of each kind of work, from a run
# of the demo on two cores. Only the time estimate uses them.
ALIGN, DISTILL, FINETUNE = 1.7, 4.3, 4.0
EVALUATE = 1.3  # one pass of the model, and the head of the teacher
FLIP = 1.1  # a pass of the teacher that a score counts
DECODE = 10.0  # one token at a time is bound by reading the weights
SET_EXAMPLE, SET_ANSWER = 150.0, 500.0  # of these sets: tokens of an example, of a prompt and its answer


def _align(recipe: Recipe) -> Stage:
    def inputs(job: Job) -> Any:
        files = job.results["fetch"]["digests"]
        settings = _settings(recipe.align)
        return {
            "files": [files["teacher"], files["text"]],  # held-out text is not read
            "mixer": complete(recipe.mixer),
            "align": {**settings, "lr": work.align_lr(recipe)},
            "seed": recipe.seed,
        }

    return Stage(
        "align",
        work.align,
        inputs,
        ALIGN * recipe.align.tokens,
        _whole(recipe.align.tokens, recipe.align),
        lambda job: _model_files(job, "probe"),
        shared=True,
    )


_BEFORE = {"init": "transfer", "window_dropout": 0.0}  # what there was before these keys


def _settings(part: AlignPart | DistillPart) -> dict[str, Any]:
    """The keys of a part, so that results of a run before a key was there are still good."""
    return {key: value for key, value in asdict(part).items() if key not in _BEFORE or value != _BEFORE[key]}


def _whole(tokens: int, part: AlignPart | DistillPart) -> int:
    """What the whole steps of a budget read."""
    step = part.seq_len * part.batch_size
    return tokens // step * step


def _model_files(job: Job, folder: str) -> list[str]:
    """What a saved model cannot be opened without."""
    index = f"{folder}/model.safetensors.index.json"
    return [f"{folder}/config.json", index if (job.out / index).exists() else f"{folder}/model.safetensors"]


def _score(recipe: Recipe, method: str, num_layers: int) -> Stage:
    def inputs(job: Job) -> Any:
        part = {k: v for k, v in asdict(recipe.score).items() if k != "methods"}
        known = method in SELECTORS
        size = recipe.softmax_layers(num_layers) if known and takes(method, "k") else None
        found = {
            "align": job.digests["align"],
            "method": method,
            "score": part,
            "seed": recipe.seed,
            "k": size,
        }
        if known and takes(method, "train"):  # they say which text the candidates learn
            found["train"] = [recipe.distill.tokens, recipe.distill.seq_len]
        return found

    k = recipe.softmax_layers(num_layers)
    cost = FLIP * expected_forwards(method, num_layers, k)
    return Stage(
        f"score/{method}",
        lambda job: work.score(job, method),
        inputs,
        cost * recipe.score.tokens,
        recipe.score.tokens,
        lambda job: [f"scores/{method}.json"],
        shared=True,
    )


def _plan(recipe: Recipe) -> Stage:
    deciding = (recipe.method, f"diagnostic:{recipe.plan.diagnostic}")

    def inputs(job: Job) -> Any:
        return {
            "plan": {**asdict(recipe.plan), "method": recipe.method},
            "seed": recipe.seed,
            "score": [job.digests[f"score/{m}"] for m in score_methods(recipe) if m in deciding],
        }

    return Stage("plan", work.plan, inputs, files=lambda job: ["plans/chosen.json"])


def _evaluate(recipe: Recipe, model_id: str, when: str) -> Stage:
    name = f"evaluate/{when}/{model_id}"

    def inputs(job: Job) -> Any:
        files = job.results["fetch"]["digests"]  # the teacher's digest does not say which text it is read on
        return {
            "model": job.model_digest(model_id, when),
            "evaluate": asdict(recipe.evaluate),
            "text": [files["text"], files["heldout"]],
        }

    tokens = recipe.evaluate.tokens * len(recipe.evaluate.lengths)
    cost = 1.0 if model_id == "teacher" else EVALUATE
    return Stage(
        name, lambda job: work.evaluate(job, model_id, when), inputs, cost * tokens, tokens, shared=True
    )


def _distill(recipe: Recipe, model_id: str) -> Stage:
    part = recipe.distill

    def inputs(job: Job) -> Any:
        others = ("models", "random_seeds", "overlap", *(("reduce", "leaves") if not job.on_ranks else ()))
        settings = {k: v for k, v in _settings(part).items() if k not in others}
        return {"model": job.model_digest(model_id, "before"), "distill": settings, "seed": recipe.seed}

    return Stage(
        f"distill/{model_id}",
        lambda job: work.distill(job, model_id),
        inputs,
        DISTILL * part.tokens + FINETUNE * part.finetune_tokens,
        _whole(part.tokens, part) + _whole(part.finetune_tokens, part),
        lambda job: _model_files(job, f"models/{model_id}"),
        shared=True,
    )


def _measure(recipe: Recipe) -> Stage:
    part, ids = recipe.measure, shown_ids(recipe)

    def inputs(job: Job) -> Any:
        return {
            "models": {model_id: job.model_digest(model_id, "before") for model_id in ids},
            "machine": machine(),
            "measure": asdict(part),
        }

    once = sum(part.lengths) + DECODE * part.decode_tokens * len(part.lengths)
    return Stage("measure", measure, inputs, once * part.repeats * len(ids))


def _answers(recipe: Recipe, model_id: str) -> Stage:
    part, when = recipe.tasks, state_shown(recipe, model_id)

    def inputs(job: Job) -> Any:
        return {
            "model": job.model_digest(model_id, when),
            "teacher": job.model_digest("teacher", "before"),
            "data": job.question_sets.digest(),
            "tasks": asdict(part),
            "seed": recipe.seed,
        }

    return Stage(
        f"tasks/{model_id}",
        lambda job: answers.ask(job, model_id, when),
        inputs,
        SET_EXAMPLE * part.examples * len(part.glue)
        + SET_ANSWER * (part.questions * len(part.squad) + part.prompts * len(part.recall)),
        shared=True,
    )


def _sample(recipe: Recipe, model_id: str) -> Stage:
    when = state_shown(recipe, model_id)

    def inputs(job: Job) -> Any:
        return {"model": job.model_digest(model_id, when), "samples": asdict(recipe.samples)}

    return Stage(
        f"sample/{model_id}",
        lambda job: work.sample(job, model_id, when),
        inputs,
        DECODE * recipe.samples.tokens,
    )
