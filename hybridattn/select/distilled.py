"""kl_restore after a short step 2 of every candidate: the paper's GA-S2 (arXiv 2512.20569, section 3).

Candidate l is the hybrid in which only layer l is softmax; "none" has no softmax layer. Each is distilled
for a few steps and read on text that it did not train on. The score is KL(none) - KL(l), sequence by
sequence.

Candidates go through rungs of more and more steps (successive halving): after each rung those are dropped
that are clearly below the k-th, by paired differences, and half of what is beyond k (rounded down). The
search ends when the top k have stayed the same from one rung to the next, or when nothing is left to drop. A
candidate starts from the probe at every rung: hybrids are copies, the probe is not touched, and no
optimizer state has to be kept.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__, radlads, stats
from .._core import KLScorer
from ..checks import refuse
from ..data.tokens import digest
from ..distributed.pieces import together
from ..distributed.state import alone, current
from ..errors import DataError, Unfinished
from ..radlads.teacher import weights_fingerprint
from .candidates import Candidates
from .scoring import Floats, Result, Scoring

if TYPE_CHECKING:
    from ..data.tokens import TokenData
    from ..distributed.group import World

NONE = -1
CLEARLY = 2.0  # standard errors of a paired difference


def score(
    scoring: Scoring,
    *,
    k: int | None = None,
    seed: int = 0,
    train: TokenData | None = None,
    steps: Sequence[int] = (4, 8, 16),
    batch_size: int = 1,
    lr_mixers: float = 1e-4,
    lr_rest: float = 1e-5,
    folder: str | os.PathLike[str] | None = None,
    shard: tuple[int, int] = (0, 1),
    wait: float = 0.0,
) -> Result:
    """train: text for step 2, apart from the text that is scored on (required). steps: of each rung,
    ascending.

    folder: finished candidates are kept there and found again. shard (i, n): this process does only
    candidates i, i + n, .., and waits up to `wait` seconds for those of the others; then Unfinished is
    raised. A run without a shard over the same folder does what is missing and returns the scores: that
    is the merge. Layers dropped early keep the score of their last rung and rank below those that went
    on. Raises ConfigError, DataError.
    """
    k = scoring.budget(k)
    rungs = [int(n) for n in steps]
    index, count = shard
    if not rungs or rungs[0] < 1 or rungs != sorted(set(rungs)):
        raise refuse("steps", list(steps), "ascending numbers of 1 or more")
    if not 0 <= index < count:
        raise refuse("shard", f"{index}/{count}", "i/n with i from 0 to n-1")
    if count > 1 and folder is None:
        raise refuse("shard", f"{index}/{count}", "0/1 without a folder to share")
    if train is None:
        raise DataError("train is None; allowed for kl_restore_distilled: text for step 2")
    with scoring.teacher() as teacher, tempfile.TemporaryDirectory() as scratch:
        settings = [seed, batch_size, lr_mixers, lr_rest]
        facts = digest(
            np.frombuffer(weights_fingerprint(teacher).encode(), np.uint8),
            np.frombuffer(
                (__version__ + scoring.data.fingerprint() + train.fingerprint()).encode(), np.uint8
            ),
            np.array(settings, np.float64),
        )
        place = Path(folder) if folder is not None else None
        world = current()
        own = f"-{world.rank}" if world is not None and world.size > 1 else ""  # ranks train by themselves
        cache = (place or Path(scratch)) / f"teacher-{index}-{count}{own}.npy"
        run = _Run(scoring, train.apart(), Candidates(place, facts), (index, count), cache, settings, wait)
        return _search(run, k, rungs)


class _Run:
    """Trains and reads candidates."""

    def __init__(
        self,
        scoring: Scoring,
        train: TokenData,
        results: Candidates,
        shard: tuple[int, int],
        cache: Path,
        settings: list[float],
        wait: float,
    ) -> None:
        self.scoring, self.train, self.results, self.shard, self.cache = scoring, train, results, shard, cache
        self.wait = wait
        self.rungs = 0
        self.seed, self.batch_size, self.lr_mixers, self.lr_rest = settings

    def rung(self, layers: list[int], steps: int) -> dict[int, Floats]:
        """KL [m] of each candidate after `steps` steps."""
        index, count = self.shard
        missing = [layer for layer in layers if self.results.get(layer, steps) is None]
        mine = [layer for i, layer in enumerate(layers) if i % count == index and layer in missing]
        world = current()
        if world is None or world.size == 1:
            for layer in self.scoring.bar(mine, f"{steps} steps"):
                self._candidate(layer, steps)
        else:
            self._on_ranks(world, mine, steps)
        found = {layer: self.results.get(layer, steps) for layer in layers}
        waiting = [layer for layer, result in found.items() if result is None]
        until = time.monotonic() + self.wait
        while waiting and time.monotonic() < until:
            time.sleep(min(1.0, self.wait))
            found.update({layer: self.results.get(layer, steps) for layer in waiting})
            waiting = [layer for layer in waiting if found[layer] is None]
        if waiting:
            raise Unfinished(
                f"shard {index}/{count} is done with {steps} steps; {len(waiting)} candidates are "
                "still with the other shards: run this again when they are done"
            )
        return {layer: result["per_sequence"] for layer, result in found.items() if result is not None}

    def _on_ranks(self, world: World, layers: list[int], steps: int) -> None:
        """Candidates go to whichever rank is free, each whole to one; then all ranks have all results."""
        layers = world.share(layers)  # those that rank 0 finds missing
        world.note_idle(len(layers), "candidates")
        self.scoring.teacher_hidden  # noqa: B018  shared out while all ranks are here
        self.rungs += 1
        counter = f"candidates {self.rungs}"

        def work() -> dict[int, dict[str, Any]]:
            done = []
            with alone():
                while (number := world.next(counter)) < len(layers):
                    self._candidate(layers[number], steps)
                    done.append(layers[number])
            return {layer: self.results.seen[layer, steps] for layer in done}

        for part in together(world, work):
            for layer, result in part.items():
                self.results.seen[layer, steps] = result

    def _candidate(self, layer: int, steps: int) -> None:
        scoring = self.scoring
        started = time.monotonic()
        hybrid = scoring.probe.to_hybrid([] if layer == NONE else [scoring.candidates[layer]])
        radlads.distill(
            hybrid,
            scoring.probe,
            self.train,
            steps,
            int(self.batch_size),
            lr_mixers=self.lr_mixers,
            lr_rest=self.lr_rest,
            seed=int(self.seed),
            cache_teacher=self.cache,
            progress=False,
        )
        scorer = KLScorer(hybrid, scoring.probe)
        data = scoring.data
        found = [
            scorer.kl(data.tokens, part, None, scoring.teacher_hidden, data.weights, data.segments)
            for part in scoring.parts
        ]
        windows = self.train.batches(steps, int(self.batch_size), int(self.seed))
        passes = 3.0 * scoring.total * int((windows[..., 1] - windows[..., 0]).sum()) + scorer.layer_passes
        self.results.put(layer, steps, np.concatenate(found), time.monotonic() - started, passes)


def _search(run: _Run, k: int, rungs: list[int]) -> Result:
    scoring = run.scoring
    alive = list(range(scoring.layers))
    rows = np.zeros((scoring.layers, len(scoring.data)))
    depth = np.zeros(scoring.layers, int)
    base, top, settled = np.zeros(0), list[int](), False
    history: list[dict[str, Any]] = []
    mean = [0.0] * scoring.layers
    for number, steps in enumerate(rungs):
        found = run.rung([NONE, *alive], steps)
        base = found[NONE]
        for layer in alive:
            rows[layer] = base - found[layer]
            mean[layer], depth[layer] = float(scoring.mean(rows[layer])), number
        scoring.extra += sum(run.results.seen[layer, steps]["layer_passes"] for layer in [NONE, *alive])
        used = run.train.batches(steps, int(run.batch_size), int(run.seed)).reshape(-1, 2)
        scoring.extra += scoring.total * int(
            np.diff(np.unique(used, axis=0)).sum()
        )  # the teacher, once a rung
        alive.sort(key=lambda layer: -mean[layer])
        settled = sorted(alive[:k]) == top
        top = sorted(alive[:k])
        history.append({"steps": steps, "candidates": len(alive), "top": top})
        alive = survivors(rows, alive, k, scoring.tokens)
        if settled or len(alive) <= k:
            break
    order = sorted(range(scoring.layers), key=lambda layer: (-depth[layer], -mean[layer]))
    options = {"k": k, "rungs": history, "settled": settled, "order": order}
    return Result(rows, base, options=options)


def survivors(rows: Floats, ranked: list[int], k: int, tokens: Floats | None = None) -> list[int]:
    """Who goes on: the top k of `ranked` (best first) and half of the rest (rounded up), less what is clearly
    below the k-th. rows [num_layers, m]; tokens [m]: what each window counts (None: all alike).
    """
    bar = rows[ranked[k - 1]]
    kept = ranked[:k]
    for layer in ranked[k : k + math.ceil((len(ranked) - k) / 2)]:
        difference, stderr = stats.mean(
            (bar - rows[layer]).tolist(), None if tokens is None else tokens.tolist()
        )
        if math.isnan(stderr) or not difference > CLEARLY * stderr:
            kept.append(layer)
    return kept
