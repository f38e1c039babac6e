"""What each stage does. A function takes the job and returns the stage's result as JSON data."""

from __future__ import annotations

import gc
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from .. import evaluate as evaluation
from .. import radlads, select
from .._core import Model as CoreModel
from ..checks import refuse
from ..data import hub
from ..data.split import locate, note_aligned, same_text
from ..diagnostics import KINDS
from ..distributed.state import current
from ..errors import ConfigError, DataError
from ..files import file_digest
from ..formats.dtypes import dtype_name
from ..model.base import tokenizer_of
from ..model.card import add_measured, evaluation_rows
from ..model.model import Model
from ..report.numbers import finite, finite_list
from ..select import SELECTORS, LayerScores
from ..select import plan as plans
from . import answers
from .job import Job
from .recipe import Recipe

TIMED_TOKENS = 512


def forward_speed(model: Model) -> float:
    """Tokens per second of a forward pass over a few hundred tokens, after a short one to warm up."""
    length = min(TIMED_TOKENS, model.model_config.max_positions)
    tokens = np.arange(length, dtype=np.int32).reshape(1, -1) % model.model_config.vocab_size
    model.nll(np.ascontiguousarray(tokens[:, : max(2, length // 8)]))
    start = time.perf_counter()
    model.nll(tokens)
    return length / (time.perf_counter() - start)


TEACHER_CACHE_BYTES = 1 << 30


def fetch(job: Job) -> dict[str, Any]:
    """Local paths of teacher and text, downloaded when need be. It runs every time: files change."""
    teacher_part, text = job.recipe.teacher, job.recipe.text
    teacher = hub.resolve(teacher_part.model)
    train, heldout = locate(text.train, "text.train"), ""
    if text.heldout:
        heldout = str(locate(text.heldout, "text.heldout", heldout=True))
        if same_text(train, Path(heldout)):
            raise DataError(
                f"text.heldout {text.heldout!r} is the training text; give another one, or none: a part of "
                "the training text is set aside"
            )
    elif text.train in hub.TEXTS and not Path(text.train).exists():
        heldout = str(locate(text.train, "text.train", heldout=True))
    title, weights = hub.described(teacher_part.model)
    read = ", answers only" if text.answers_only else ""  # the stages depend on how it is read, too
    return {
        "teacher": str(teacher),
        "text": str(train),
        "heldout": heldout,
        "name": teacher_part.name or title or teacher.stem,
        "weights": weights,
        "digests": {
            "teacher": file_digest(teacher),
            "text": file_digest(train) + read,
            "heldout": file_digest(Path(heldout)) + read if heldout else "",
        },
    }


def teacher(job: Job) -> dict[str, Any]:
    """Load the teacher, note its size, and time a short forward pass for the estimate."""

    model = job.teacher
    config = model.model_config
    linear = [i for i in range(config.num_layers) if not model.softmax_at(i)]
    if linear:
        raise refuse(
            "teacher.model",
            f"{config.family}, linear in layers {linear}",
            "softmax in every layer; align, score, plan and distil it step by step",
        )
    return {
        "num_layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "parameters": int(model.num_parameters),
        "max_positions": config.max_positions,
        "forward_tokens_per_second": forward_speed(model),
    }


def check(job: Job) -> None:
    """Refuse at the start what would fail later: lengths, mixer options, text that is too short."""
    recipe, limit = job.recipe, int(job.results["teacher"]["max_positions"])
    lengths = {
        "align.seq_len": recipe.align.seq_len,
        "score.seq_len": recipe.score.seq_len,
        "distill.seq_len": recipe.distill.seq_len,
        "evaluate.lengths": max(recipe.evaluate.lengths),
        "measure.lengths": max(recipe.measure.lengths) + recipe.measure.decode_tokens,
        "samples": len(tokenizer_of(job.teacher).encode(recipe.samples.prompt)) + recipe.samples.tokens,
    }
    for name, length in lengths.items():
        if length > limit:
            raise ConfigError(f"recipe: {name} needs {length} positions, but the teacher has {limit}")
    dtype_name(recipe.measure.dtype)
    try:
        _tiny_probe(recipe.mixer)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"recipe: mixer: {error}") from None
    for method in recipe.score.methods:
        if method not in SELECTORS:
            raise ConfigError(f"recipe: score.methods holds {method!r}; allowed: {', '.join(SELECTORS)}")
    if recipe.plan.diagnostic not in ("", *KINDS):
        raise ConfigError(
            f"recipe: plan.diagnostic is {recipe.plan.diagnostic!r}; allowed: {', '.join(KINDS)}, or none"
        )
    answers.check(job)
    job.heldout_text(max(recipe.evaluate.lengths))
    job.scoring_text()
    job.training_text(recipe.align.seq_len, recipe.align.seq_len)


def _tiny_probe(mixer: dict[str, Any]) -> None:
    """Let the core judge a mixer spec on a model of one small layer."""
    CoreModel(
        {
            "vocab_size": 8,
            "hidden_size": 16,
            "num_layers": 1,
            "num_heads": 2,
            "num_kv_heads": 2,
            "head_dim": 8,
            "intermediate_size": 16,
            "norm_eps": 1e-5,
            "rope_inv_freq": [1.0, 0.5, 0.25, 0.125],
            "rope_attention_factor": 1.0,
            "sliding_window": 0,
            "bidirectional": False,
            "attention_bias": False,
            "output_bias": False,
            "mlp_bias": False,
            "tie_embeddings": True,
        },
        [[{"kind": "softmax"}, mixer]],
    )


def align(job: Job) -> dict[str, Any]:
    """Step 1; saves the probe to probe/."""
    part = job.recipe.align
    data = job.training_text(part.tokens, part.seq_len)
    steps = max(1, part.tokens // (part.seq_len * part.batch_size))
    job.forget("probe")
    probe = radlads.align(
        job.teacher,
        job.recipe.mixer,
        data,
        steps=steps,
        batch_size=part.batch_size,
        lr=align_lr(job.recipe),
        lr_final=part.lr_final,
        init=part.init,
        window_dropout=part.window_dropout,
        seed=job.recipe.seed,
        layerwise=part.layerwise,
        checkpoint=job.store.checkpoint("align", job.digests["align"]),
        checkpoint_last=False,  # the probe is saved at once
        progress=job.progress,
        **job.recipe.training,
    )
    probe.save_pretrained(job.out / "probe")
    note_aligned(job.out / "probe", job.texts, part.tokens)
    result = probe.train_result
    assert result is not None  # align sets it
    job.keep("probe", probe)
    found = {"curve": curve(result.curve, part.seq_len * part.batch_size)}
    cost = probe.calibration
    return (
        found if cost is None else {**found, "calibration": {"tokens": cost.tokens, "seconds": cost.seconds}}
    )


def align_lr(recipe: Recipe) -> float:
    """The learning rate of step 1: the recipe's, or the mixer's own."""
    return recipe.align.lr or radlads.align_lr(recipe.mixer["kind"])


def score(job: Job, method: str) -> dict[str, Any]:
    """Layer scores by one method; the full record goes to scores/METHOD.json."""
    k = job.recipe.softmax_layers(job.num_layers)
    (job.out / "scores").mkdir(exist_ok=True)
    options: dict[str, Any] = {}
    if select.takes(method, "train"):
        part = job.recipe.distill
        options["train"] = job.training_text(
            part.tokens or part.seq_len, part.seq_len, job.recipe.align.tokens
        )
        options["folder"] = job.out / "scores" / f"{method}-{job.digests[f'score/{method}'][:12]}"
    scores = select.score(
        job.probe, job.scoring_text(), method, seed=job.recipe.seed, k=k, progress=job.progress, **options
    )
    scores.save(job.out / "scores" / f"{method}.json")
    return {
        "method": method,
        "text": scores.text,
        "values": finite_list(scores.values),
        "stderr": finite_list(scores.stderr),
        "all_linear_kl": finite(scores.all_linear_kl),
        "sum_single": finite(scores.sum_single),
        "sequences": scores.num_sequences,
        "tokens": job.recipe.score.tokens,
        "seconds": scores.seconds,
        "cost": scores.cost,
    }


def plan(job: Job) -> dict[str, Any]:
    """The chosen set, the uniform one and the random ones; each saved to plans/ID.json."""
    part, k = job.recipe.plan, job.recipe.softmax_layers(job.num_layers)
    scores = LayerScores.load(job.out / "scores" / f"{job.recipe.method}.json")
    sets = {"chosen": plans.make(scores, k=k), "uniform": plans.uniform(job.num_layers, k, scores.mixer)}
    for index in range(part.random_seeds):
        sets[f"random-{index}"] = plans.random(job.num_layers, k, job.recipe.seed + index, scores.mixer)
    if part.diagnostic:
        found = LayerScores.load(job.out / "scores" / f"diagnostic:{part.diagnostic}.json")
        sets["diagnostic"] = plans.make(found, k=k)
    (job.out / "plans").mkdir(exist_ok=True)
    for name, made in sets.items():
        made.save(job.out / "plans" / f"{name}.json")
    return {"sets": {name: list(made.softmax_layers) for name, made in sets.items()}}


def evaluate(job: Job, model_id: str, when: str) -> dict[str, Any]:
    """Held-out KL and perplexity at every length."""
    model = job.model(model_id, when)
    rows: dict[str, Any] = {}
    for length in job.recipe.evaluate.lengths:
        data = job.heldout_text(length)
        kl = evaluation.kl(
            model,
            job.teacher,
            data,
            teacher_hidden=job.teacher_hidden(data),
            weighted=data.weights is not None,
        )
        rows[str(length)] = {
            "kl": kl.kl,
            "kl_stderr": finite(kl.kl_stderr),
            "per_sequence": finite_list(kl.per_sequence),
            "agreement": None if kl.agreement is None else finite(kl.agreement),
            "agreement_stderr": None if kl.agreement_stderr is None else finite(kl.agreement_stderr),
            "perplexity": kl.perplexity,
            "tokens": data.num_tokens,
        }
    if when == "after":
        add_measured(job.model_folder(model_id), evaluation_rows(rows))
    return rows


def distill(job: Job, model_id: str) -> dict[str, Any]:
    """Step 2, and step 3 when the recipe has tokens for it; saves the hybrid to models/ID/."""
    part, name = job.recipe.distill, f"distill/{model_id}"
    if (world := current()) is not None:
        world.reduce, world.leaves, world.overlap = part.reduce, part.leaves, part.overlap
    hybrid = job.model(model_id, "before")
    job.forget("hybrid")
    job.forget("probe")  # it is read again for the next hybrid; training needs the memory
    per_step = part.seq_len * part.batch_size
    data = job.training_text(part.tokens, part.seq_len, skip=job.recipe.align.tokens)
    checkpoint = job.store.checkpoint(name, job.digests[name])
    # every model reads the same text: the teacher runs once, unless its outputs would fill the disk
    small = data.num_tokens * int(job.results["teacher"]["hidden_size"]) * 4 <= TEACHER_CACHE_BYTES
    result = radlads.distill(
        hybrid,
        job.teacher,
        data,
        steps=max(1, part.tokens // per_step),
        batch_size=part.batch_size,
        lr_mixers=part.lr_mixers,
        lr_rest=part.lr_rest,
        schedule=part.schedule,
        window_dropout=part.window_dropout,
        seed=job.recipe.seed,
        cache_teacher=job.store.teacher_cache if small else None,
        checkpoint=checkpoint,
        checkpoint_last=part.finetune_tokens > 0,
        progress=job.progress,
        **job.recipe.training,
    )
    found = {"curve": curve(result.curve, per_step), "finetune_curve": None}
    if part.finetune_tokens:
        result = radlads.finetune(
            hybrid,
            data,
            steps=max(1, part.finetune_tokens // per_step),
            batch_size=part.batch_size,
            seed=job.recipe.seed + 1,
            checkpoint_last=False,
            progress=job.progress,
            **job.recipe.training,
            checkpoint=job.store.checkpoint(name, job.digests[name], "finetune"),
        )
        found["finetune_curve"] = curve(result.curve, per_step)
    hybrid.save_pretrained(job.model_folder(model_id))
    del hybrid
    gc.collect()
    return found


def sample(job: Job, model_id: str, when: str) -> dict[str, Any]:
    """A greedy continuation of the recipe's prompt."""
    part = job.recipe.samples
    return {when: job.model(model_id, when).generate(part.prompt, max_new_tokens=part.tokens)}


def curve(losses: Any, tokens_per_step: int, points: int = 200) -> dict[str, list[float]]:
    """A loss curve of at most about `points` points, each the mean of the steps up to it."""
    values = [float(x) for x in losses]
    width = max(1, math.ceil(len(values) / points))
    groups = [values[i : i + width] for i in range(0, len(values), width)]
    stops = [min((i + 1) * width, len(values)) for i in range(len(groups))]
    return {"tokens": [stop * tokens_per_step for stop in stops], "loss": [sum(g) / len(g) for g in groups]}
