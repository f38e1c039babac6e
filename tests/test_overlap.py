"""Gradients that are sent while the backward pass is at work: what is final, whose it is, when to do it."""

import threading

import numpy as np
import pytest
import tiny
from golden.recipe import FAMILY_MODELS

from hybridattn import Model
from hybridattn._core import Distiller
from hybridattn.distributed.group import World
from hybridattn.errors import ConfigError
from hybridattn.radlads.layer_sharing import span
from hybridattn.radlads.parts import Parts

EMBEDDINGS = {"embed", "positions", "segments", "embed_norm"}
pytestmark = pytest.mark.usefixtures("one_thread")


def trainer_of(teacher, **options):
    student = teacher().to_probe(tiny.MIXERS[1]).to_hybrid([1])
    return Distiller(student, teacher(), "distill", **options)


@pytest.mark.parametrize("micro_batch", [0, 1, 3])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("teacher", [tiny.teacher, lambda: tiny.teacher(tied=False)])
def test_what_a_backward_pass_calls_final_is_final(micro_batch, recompute, teacher):
    """Another thread copies each stage as soon as it is said to be final."""
    data = tiny.text_data(48)
    windows = data.batches(1, 4, 0)
    trainer = trainer_of(teacher, micro_batch=micro_batch, recompute=recompute)
    stages, blocks = trainer.stages(), trainer.blocks()
    assert (np.diff(stages) <= 0).all() and set(stages) == set(range(5))
    early, grads = (np.zeros_like(trainer.arena("weights").numpy()) for _ in range(2))
    for _ in range(2):
        copied, before = 0, trainer.finished

        def copy(before=before):
            nonlocal copied
            while copied < 5:
                while copied < trainer.finished - before:
                    for block in np.flatnonzero(stages == copied):
                        place = slice(blocks[block], blocks[block + 1])
                        early[place] = grads[place]
                    copied += 1

        other = threading.Thread(target=copy, daemon=True)
        other.start()
        trainer.gradients(data.tokens, windows[:1], 0, 4, grads)
        other.join(60.0)
        assert copied == 5 and trainer.finished - before == 5
        assert early.tobytes() == grads.tobytes() and grads.any()


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "roberta"])
def test_stages_go_from_the_last_layer_to_the_embeddings(family):
    model = Model.from_pretrained(FAMILY_MODELS / family)
    trainer = Distiller(model, Model.from_pretrained(FAMILY_MODELS / family), "distill")
    starts, arena = trainer.blocks(), trainer.arena("weights").numpy()
    layers, found = len(model.layers), {}
    for name in trainer.trainable():
        place = span(arena, model.arrays()[name])
        (stage,) = set(trainer.stages()[(starts[:-1] >= place.start) & (starts[:-1] < place.stop)].tolist())
        found[name] = stage
    for name, stage in found.items():
        parts = name.split(".")
        if parts[0] == "layers":
            assert stage == layers - int(parts[1]), name
        else:
            assert stage == (layers + 1 if parts[0] in EMBEDDINGS else 0), name
    assert set(found.values()) == set(range(layers + 2))


@pytest.mark.parametrize("ranks", [1, 2, 3, 50])
@pytest.mark.parametrize("by_stage", [False, True])
def test_every_block_is_of_one_rank(ranks, by_stage):
    trainer = trainer_of(tiny.teacher)
    parts = Parts.of(trainer, ranks, by_stage)
    owners = np.zeros(len(parts.starts) - 1, int)
    numbers = np.zeros(trainer.arena("m").numpy().size, int)
    for rank in range(ranks):
        for first, stop in parts.blocks(rank):
            owners[first:stop] += 1
        for part in parts.slices(rank):
            numbers[part] += 1
    assert (
        (owners == 1).all() and (numbers[parts.trained] == 1).all() and parts.stages == (5 if by_stage else 1)
    )
    stages = trainer.stages()
    for stage, spans in enumerate(parts.spans(stage) for stage in range(parts.stages)):
        inside = np.flatnonzero((stages == stage) | (not by_stage))
        assert (spans[0][0], spans[-1][1]) == (parts.starts[inside[0]], parts.starts[inside[-1] + 1])


class Levels:
    """MPI's constant."""

    THREAD_SERIALIZED = 2


@pytest.mark.parametrize(
    ("changes", "overlaps"),
    [
        ({}, True),
        ({"one_host": True}, False),
        ({"one_host": True, "overlap": "always"}, True),
        ({"overlap": "never"}, False),
        ({"reduce": "fast"}, False),
        ({"size": 1}, False),
        ({"level": 1}, False),
    ],
)
def test_when_it_is_done(changes, overlaps):
    world = world_of(**changes)
    assert world.overlaps is overlaps


def test_an_mpi_of_one_thread_cannot_do_it_always():
    with pytest.raises(ConfigError, match=r"overlap is 'always'.*level 1.*allowed: 'auto', 'never'"):
        _ = world_of(level=1, overlap="always").overlaps


def world_of(**changes):
    """A world of two machines that has not talked to anybody."""
    world = World.__new__(World)
    facts = {"_mpi": Levels, "size": 2, "level": 3, "one_host": False, "reduce": "tree", "overlap": "auto"}
    vars(world).update(facts | changes)
    return world
