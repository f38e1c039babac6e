"""Jobs of test_ranks.py under mpiexec: `python rank_jobs.py NAME [ARGUMENT ..]`. Rank 0 prints JSON."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tiny

from hybridattn import DataError, distributed, evaluate, radlads, select
from hybridattn._core import set_num_threads
from hybridattn.radlads import steps as steps_of_training
from hybridattn.radlads.sharing import WindowSharing
from hybridattn.radlads.teacher import open_cache, weights_fingerprint

MIXER = tiny.MIXERS[1]


def train(checkpoint=None, steps=6, reduce="tree"):
    """Steps 1 to 3; a digest of everything that came out."""
    data, teacher = tiny.text_data(48), tiny.teacher()
    moments = os.environ.get("MOMENTS", "float32")
    probe = radlads.align(teacher, MIXER, data, steps=5, batch_size=3, progress=False, moments=moments)
    hybrid = probe.to_hybrid([1])
    second = radlads.distill(
        hybrid, teacher, data, steps=int(steps), batch_size=6, progress=False, checkpoint=checkpoint,
        checkpoint_steps=10, moments=moments,
    )  # fmt: skip
    half = weights_fingerprint(hybrid)
    third = radlads.finetune(hybrid, data, steps=2, batch_size=5, progress=False)
    losses = [second.losses[:, 0].tolist(), third.losses[:, 0].tolist()]
    return {
        "probe": weights_fingerprint(probe),
        "step1": probe.train_result.losses.tolist(),
        "distilled": half,
        "hybrid": weights_fingerprint(hybrid),
        "losses": losses,
    }


def align(checkpoint, steps):
    """Step 1 alone, with a checkpoint."""
    probe = radlads.align(
        tiny.teacher(layers=6), MIXER, tiny.text_data(48), steps=int(steps), batch_size=3, progress=False,
        checkpoint=checkpoint, checkpoint_steps=10,
    )  # fmt: skip
    return {"probe": weights_fingerprint(probe), "losses": probe.train_result.losses.tolist()}


def look():
    """Scores and evaluation, which have the bits of one process."""
    teacher, data = tiny.teacher(), tiny.text_data(64).take(slice(0, 80))
    probe = teacher.to_probe(MIXER)
    found = {}
    for method in ("kl_replace", "kl_restore", "kl_gate", "kl_greedy_add", "mse"):
        scores = select.score(probe, data, method, progress=False)
        found[method] = [scores.per_sequence.tolist(), scores.cost]
    train_text = tiny.text_data(48).take(slice(0, 8))
    scores = select.score(
        probe, data.take(slice(0, 8)), "kl_restore_distilled", train=train_text, steps=(1, 2), progress=False
    )
    found["kl_restore_distilled"] = [scores.per_sequence.tolist(), scores.cost, scores.options]
    hybrid = probe.to_hybrid([1])
    found["perplexity"] = evaluate.perplexity(hybrid, tiny.TEXT, seq_len=64)
    hidden = evaluate.final_hidden(teacher, data)
    found["hidden"] = [float(hidden.sum()), float(np.abs(hidden).sum())]
    found["kl"] = evaluate.kl(hybrid, teacher, data, teacher_hidden=hidden)
    found["recall"] = evaluate.recall(hybrid, "associative_recall", n=5, seq_len=128, batch_size=2)
    return found


def moments():
    """The share of AdamW's moments that each rank holds: what it does not hold was never touched."""
    trainers, make = [], steps_of_training.make_distiller
    steps_of_training.make_distiller = lambda *given: trainers.append(make(*given)) or trainers[-1]
    hybrid = tiny.teacher().to_probe(MIXER).to_hybrid([1])
    radlads.distill(hybrid, tiny.teacher(), tiny.text_data(48), steps=2, batch_size=4, progress=False)
    held = [trainers[0].arena(kind).numpy() != 0.0 for kind in ("m", "v")]
    everyone = np.stack(distributed.current().allgather(held[1]))
    assert everyone.sum(axis=0).max() == 1  # by one rank each
    return everyone.mean(axis=1).tolist()


def cache(path):
    """The teacher's states, filled by all ranks."""
    data, teacher = tiny.text_data(48), tiny.teacher()
    states = open_cache(path, teacher, data.tokens, data.windows, progress=False)
    return [float(states.sum()), float(np.abs(states).max())]


def other_weights():
    """Rank 1 has another teacher."""
    world = distributed.current()
    teacher = tiny.teacher(seed=1 if world.rank == 1 else 0)
    radlads.align(teacher, MIXER, tiny.text_data(48), steps=1, batch_size=2, progress=False)


def one_fails():
    """Rank 1 fails by itself while the others wait for it."""
    world = distributed.current()
    if world.rank == 1:
        raise DataError("no such text")
    world.barrier()


def windows_fail():
    """Rank 1 fails before its first windows of a step, before its last ones, and after these, when most of
    their gradients have gone to the others. All hear it, and go on: [what they heard, whether a run after it
    has the bits of one before it].
    """
    plain, calls, moment = WindowSharing._windows, [], ""

    def broken(*given):
        calls.append(given)
        where = f"before {len(calls)}"
        if distributed.current().rank == 1 and where == moment:
            raise DataError("no such window")
        loss = plain(*given)
        if distributed.current().rank == 1 and where.replace("before", "after") == moment:
            raise DataError("no such window")
        return loss

    bits, heard = train()["hybrid"], []
    WindowSharing._windows = broken
    for moment in ("before 1", "before 3", "after 3"):  # noqa: B007  broken reads it
        calls.clear()
        try:
            train()
        except ValueError as error:
            heard.append(str(error).replace("rank 1: ", ""))
    WindowSharing._windows = plain
    return [heard, bits == train()["hybrid"]]


def piece_fails():
    """A piece of shared work fails: the error comes to all ranks, which go on."""
    heard = None
    try:
        distributed.spread([0, 1, 2, 3], lambda i: 1 // (i - 1))
    except Exception as error:
        heard = type(error).__name__
    return [heard, distributed.spread(range(7), lambda i: i * i)]


def numbers(count):
    """Numbers go out once each."""
    world = distributed.current()
    mine = []
    while (number := world.next("test")) < int(count):
        mine.append(number)
    return sorted(n for part in world.allgather(mine) for n in part)


def main() -> None:
    name, *arguments = sys.argv[1:]
    set_num_threads(1)
    work = globals()[name]
    if not distributed.launched():
        print(json.dumps(work(*arguments), default=asdict))
        return
    reduce, overlap = os.environ.get("REDUCE", "tree"), os.environ.get("OVERLAP", "auto")
    with distributed.world(reduce=reduce, overlap=overlap) as world:
        if "PIDS" in os.environ:
            Path(os.environ["PIDS"], str(world.rank)).write_text(str(os.getpid()))
        found = work(*arguments)
        assert all(other == found for other in world.allgather(found)), "ranks differ"
        if world.rank == 0:
            print(json.dumps(found, default=asdict))


if __name__ == "__main__":
    main()
