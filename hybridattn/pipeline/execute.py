"""The whole job from one recipe, stage by stage, in a folder that it can be stopped in and go on from.

    paths = run(Recipe(), "out")        # {"md", "html", "json"}: the report

Every stage writes stages/NAME.json with a fingerprint of all it was made from. A run executes the stages
whose fingerprint has changed or is missing and skips the others; training stages also keep checkpoints of
their own. So Ctrl-C at any moment loses little, and a changed recipe runs only what depends on the change.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from .. import report
from .._core import mixers
from ..distributed.pieces import agree, by_first, together
from ..distributed.state import current, is_writer
from ..files import OURS, atomic_write
from ..locks import locked
from ..report import numbers
from . import estimate, work
from .job import Job
from .lengths import fitted
from .recipe import Recipe
from .results import assemble
from .stages import Stage, build
from .store import Store, fingerprint

__all__ = ["Job", "run"]

REGISTERED = "registered from Python"  # the core's summary of such a mixer, whose code no fingerprint holds


def run(
    recipe: Recipe,
    out: str | Path,
    log: Callable[[str], None] = print,
    progress: bool = True,
    force: bool = False,
) -> dict[str, Path]:
    """Run a recipe into `out` and return the paths of the report: {"md", "html", "json"}.

    log: called with each line of progress; progress: bars on stderr within stages; force: write into a
    folder that holds what no run has made. Raises HybridAttnError, also when another run writes into `out`,
    and OSError; KeyboardInterrupt leaves a folder that the same call goes on from.
    """
    recipe.check()
    agree("recipe", {"text": recipe.to_toml()})
    by_first(lambda: Store(Path(out)).claim(force))
    with locked(Path(out) / f"{OURS}lock") if is_writer() else nullcontext():
        return _run(recipe, Path(out), log if is_writer() else _silent, progress and is_writer())


def _silent(_line: str) -> None:
    """The log of ranks other than 0."""


def _run(recipe: Recipe, out: Path, log: Callable[[str], None], progress: bool) -> dict[str, Path]:
    atomic_write(out / "recipe.toml", recipe.to_toml())
    job = Job(recipe, out, log, progress)
    started = time.perf_counter()
    log("fetching teacher and text")
    job.results["fetch"] = _fetch(job)
    job.seconds["fetch"] = time.perf_counter() - started
    _execute(job, Stage("teacher", work.teacher, lambda j: j.results["fetch"]["digests"]["teacher"]))
    job.recipe = fitted(recipe, int(job.results["teacher"]["max_positions"]), log)
    stages = build(job.recipe, job.num_layers)
    done = by_first(lambda: _survey(job, stages))
    by_first(lambda: _announce(job, stages, done))
    if len(done) < len(stages):
        by_first(lambda: work.check(job))
    for number, stage in enumerate(stages, 1):
        _execute(job, stage, f"[{number}/{len(stages)}] ")
    return by_first(lambda: _report(job, started))


def _fetch(job: Job) -> dict[str, Any]:
    """Teacher and text: rank 0 downloads what is missing, then every rank looks for the same files."""
    found = by_first(lambda: work.fetch(job))
    world = current()
    if world is not None:
        own = together(world, lambda: work.fetch(job) if world.rank else found)[world.rank]
        agree("files", own["digests"])
        return own
    return found


def _execute(job: Job, stage: Stage, label: str = "") -> None:
    """Take the stage's result from the folder when it is still good, else do the work and keep the result."""
    digest = job.digests[stage.name] = _digest(job, stage)
    record = by_first(lambda: _record(job, stage, digest))
    if record is None:
        expected = estimate.seconds([stage], job.results)
        if label and expected >= 10:
            job.log(f"{label}{stage.name}, about {numbers.seconds(expected)}")
        job.store.drop(stage.name)
        start = time.perf_counter() - job.store.spent(stage.name, digest)
        try:
            result = stage.run(job) if stage.shared else by_first(lambda: stage.run(job))
        except BaseException:
            with suppress(OSError):  # a full disk must not hide why the stage ended
                job.store.interrupted(stage.name, digest, time.perf_counter() - start)
            raise
        seconds = time.perf_counter() - start
        record = by_first(lambda: job.store.save(stage.name, digest, seconds, result, stage.files(job)))
        if label:
            job.log(f"{label}{stage.name}: done in {numbers.seconds(record['seconds'])}")
    job.results[stage.name] = record["result"]
    job.seconds[stage.name] = record["seconds"]
    job.tokens[stage.name] = stage.tokens


def _digest(job: Job, stage: Stage) -> str:
    """A fingerprint of all that a stage is made from."""
    inputs = stage.inputs(job)
    inputs = inputs if job.compute == "float32" else [job.compute, inputs]
    training = job.recipe.training
    if training == {"memory": None, "moments": "auto"} or stage.name.split("/")[0] not in (
        "align",
        "distill",
    ):
        return fingerprint(stage.name, inputs)
    return fingerprint(stage.name, [training, inputs])


def _record(job: Job, stage: Stage, digest: str) -> dict[str, Any] | None:
    return job.store.load(stage.name, digest, stage.files(job))


def _survey(job: Job, stages: list[Stage]) -> set[str]:
    """Names of the stages that need not run again."""
    done: set[str] = set()
    for stage in stages:
        try:
            digest = job.digests[stage.name] = _digest(job, stage)
        except KeyError:  # it depends on the result of a stage that is still to be done
            continue
        record = _record(job, stage, digest)
        if record is not None:
            done.add(stage.name)
            job.results[stage.name] = record["result"]
    return done


def _announce(job: Job, stages: list[Stage], done: set[str]) -> None:
    """Say what will be done and how long it will take."""
    kept, kind = job.recipe.softmax_layers(job.num_layers), job.recipe.mixer["kind"]
    job.log(
        f"{job.results['fetch']['name']}: {kept} of {job.num_layers} layers stay softmax, the others become "
        f"{kind}; output in {job.out}"
    )
    if done and mixers()[kind]["summary"] == REGISTERED:
        job.log(
            f"what is done already is taken to be of the same functions of {kind!r}; if not: another folder"
        )
    if len(done) == len(stages):
        job.log("everything is done already; writing the report")
        return
    for line in estimate.table(stages, done, job.results):
        job.log(line)
    job.log("Ctrl-C stops it; the same command goes on from there.")


def _report(job: Job, started: float) -> dict[str, Path]:
    paths = report.write(assemble(job), job.out)
    job.store.clean()
    job.log(f"report: {paths['html']} ({numbers.seconds(time.perf_counter() - started)} this time)")
    return paths
