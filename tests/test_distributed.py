"""Ranks without MPI: the tree, cores and launchers, the guardian, and the parts of a step."""

import json
import socket
import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
import tiny

from hybridattn import distributed, radlads
from hybridattn._core import Distiller
from hybridattn.distributed import guardian
from hybridattn.distributed.launch import Place, share_of_cores, warnings_of
from hybridattn.distributed.launcher import launched
from hybridattn.distributed.pieces import STOPPED, describe
from hybridattn.errors import CheckpointError, ConfigError, DataError, Unfinished
from hybridattn.radlads import tree
from hybridattn.radlads.teacher import batches_alike

pytestmark = pytest.mark.usefixtures("one_thread")


def test_nothing_of_mpi_is_imported_unasked():
    program = (
        "import sys, hybridattn as ha\nfrom hybridattn.cli.main import main\nmain(['--version'])\n"
        "ha.align, ha.score, ha.distributed.spread([1], str)\nassert 'mpi4py' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


# --- the tree


@pytest.mark.parametrize("leaves", [1, 2, 3, 5, 8, 12])
def test_covers_of_all_ranks_are_the_tree(leaves):
    for size in range(1, 15):
        parts = [tree.share(leaves, rank, size) for rank in range(size)]
        assert parts[0][0] == 0 and parts[-1][1] == leaves
        assert all(a[1] == b[0] for a, b in pairwise(parts))
        nodes = [node for part in parts if part[0] < part[1] for node in tree.cover((0, leaves), part)]
        known = {node: [node] for node in nodes}
        assert tree.fold((0, leaves), known.get, lambda a, b: a + b) == nodes


def test_a_sum_does_not_depend_on_ranks():
    values = (np.random.default_rng(0).standard_normal(12) * 10.0 ** np.arange(12)).astype(np.float32)

    def total(size: int) -> np.float32:
        known = {}
        for rank in range(size):
            part = tree.share(12, rank, size)
            for node in tree.cover((0, 12), part) if part[0] < part[1] else []:
                known[node] = tree.fold(node, lambda n: values[n[0]] if n[1] - n[0] == 1 else None, np.add)
        return tree.fold((0, 12), known.get, np.add)

    assert {total(size).tobytes() for size in range(1, 13)} == {total(1).tobytes()}


# --- launchers and cores


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, False),
        ({"PMI_SIZE": "2"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, True),
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, False),  # a batch script, not srun
        ({"PMI_SIZE": "many"}, False),
    ],
)
def test_launchers_are_known_by_their_variables(environment, found):
    assert launched(environment) is found


def places(*cores_threads, host="a", all_cores=4):
    return [Place(host, tuple(cores), all_cores, threads, False) for cores, threads in cores_threads]


def test_bound_ranks_are_told_the_flag():
    bound = places(([0], 2), ([1], 2))
    (first, second) = warnings_of(bound, {"OMPI_COMM_WORLD_SIZE": "2"})
    assert first.startswith("rank 0 has 2 threads and may use 1 core of a's 4")
    assert "Open MPI give --map-by slot:PE=2" in first and second.startswith("rank 1")
    (line,) = warnings_of(places(([0], 1), ([1], 1)), {"PMI_SIZE": "2"})
    assert "bound to 2 cores of 4, the others stay idle; with MPICH give -bind-to core:2" in line
    slurm = {"PMI_SIZE": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}
    (line,) = warnings_of(places(([0], 1), ([1], 1)), slurm)
    assert "with Slurm give --cpus-per-task=2" in line


def test_too_many_threads_are_said():
    everywhere = range(4)
    assert warnings_of(places((everywhere, 2), (everywhere, 2)), {}) == []
    (line,) = warnings_of(places((everywhere, 4), (everywhere, 4)), {})
    assert "2 ranks have 8 threads for 4 cores" in line and "2 ranks with --threads 2" in line
    (line,) = warnings_of(places(*[(everywhere, 1)] * 5), {})
    assert "at most 4 ranks" in line


def test_threads_are_shared_out():
    everywhere = range(4)
    shared = places((everywhere, 4), (everywhere, 4)) + places((everywhere, 4), host="b")
    assert [share_of_cores(shared, rank) for rank in range(3)] == [2, 2, 4]
    assert share_of_cores(places(*[(everywhere, 4)] * 9), 8) == 1


def test_world_needs_mpi4py(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ConfigError, match=r"pip install 'hybridattn\[mpi\]'"), distributed.world():
        pass
    for wrong in ({"reduce": "slow"}, {"leaves": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))), distributed.world(**wrong):
            pass


def test_errors_in_one_line():
    assert describe(KeyboardInterrupt()) == STOPPED
    assert describe(DataError("a\n b")) == "a b"
    assert describe(FileNotFoundError(2, "No such file", "x.txt")) == "x.txt: No such file"
    assert "KeyError" in describe(KeyError("x"))


# --- the guardian


class Job:
    """A guardian in a thread, and connections to it."""

    def __init__(self, size, capfd):
        self.capfd = capfd
        self.server = socket.create_server(("127.0.0.1", 0))
        self.guardian = guardian.Guardian(size, self.server, "token")
        self.thread = threading.Thread(target=self.guardian.run)
        self.thread.start()
        self.ranks = [self.connect(rank) for rank in range(size)]

    def connect(self, rank, token="token"):
        connection = socket.create_connection(self.server.getsockname())
        self.say(connection, kind="hello", rank=rank, name=f"rank {rank} (here)", token=token)
        return connection

    @staticmethod
    def say(connection, **message):
        connection.sendall(json.dumps(message).encode() + b"\n")

    @staticmethod
    def hear(connection):
        connection.settimeout(10)
        return json.loads(connection.makefile().readline())

    def end(self):
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.server.close()
        return self.capfd.readouterr().err


def test_the_guardian_names_the_dead(capfd):
    job = Job(3, capfd)
    job.say(job.ranks[0], kind="next", counter="a")
    assert job.hear(job.ranks[0])["number"] == 0
    job.ranks[1].close()
    assert job.hear(job.ranks[0]) == job.hear(job.ranks[2]) == {"kind": "end", "code": 1}
    assert "error: rank 1 (here) died" in job.end()


def test_the_guardian_tells_one_failure_from_that_of_all(capfd, monkeypatch):
    monkeypatch.setattr(guardian, "GRACE_SECONDS", 0.2)
    job = Job(2, capfd)
    for rank in job.ranks:
        job.say(rank, kind="failed", text="the same")
    assert [job.hear(rank)["kind"] for rank in job.ranks] == ["raise", "raise"]
    for rank in job.ranks:
        rank.close()
    assert job.end() == ""
    job = Job(2, capfd)
    job.say(job.ranks[1], kind="failed", text="no such file")
    assert job.hear(job.ranks[0])["code"] == 1
    assert job.end().strip() == "error: rank 1: no such file"
    job = Job(2, capfd)
    job.say(job.ranks[1], kind="failed", text=STOPPED)
    assert job.hear(job.ranks[0])["code"] == 130
    assert "stopped" in job.end()


def test_the_guardian_ends_with_the_job_and_hears_no_strangers(capfd):
    job = Job(2, capfd)
    stranger = job.connect(0, token="guess")
    job.say(stranger, kind="failed", text="x")
    stranger.sendall(b"nonsense\n[]\n")
    stranger.close()
    for rank in job.ranks:
        job.say(rank, kind="done")
    assert [job.hear(rank)["kind"] for rank in job.ranks] == ["closed", "closed"]
    assert job.end() == ""


# --- the parts of a step


@pytest.fixture
def step():
    data = tiny.text_data(48)
    return data, data.batches(3, 4, 0), np.full((3, 2), 1e-3, np.float32)


def test_parts_of_a_step_make_the_step(step):
    data, windows, lr = step
    teacher = tiny.teacher()
    whole, shared = (teacher.to_probe(tiny.MIXERS[1]).to_hybrid([1]) for _ in range(2))
    plain = Distiller(whole, teacher, "distill")
    losses = plain.run(data.tokens, windows, lr, 0, 3)
    parts = Distiller(shared, teacher, "distill")
    count = len(parts.blocks()) - 1
    for i in range(3):
        grads = np.zeros_like(parts.arena("weights").numpy())
        loss = parts.gradients(data.tokens, windows[i : i + 1], 0, 4, grads)
        squares = np.concatenate([parts.squares(grads, 0, 5), parts.squares(grads, 5, count)])
        norm = float(np.sqrt(np.cumsum(squares)[-1]))
        for first, stop in ((0, 5), (5, count)):
            parts.update(grads, first, stop, norm, tuple(lr[i].tolist()))
        parts.step += 1
        assert loss == losses[i, 0] and not grads.any()
    tiny.assert_same_weights(tiny.weights(whole), tiny.weights(shared))


def test_windows_add_up_to_the_step(step):
    data, windows, _ = step
    model = tiny.teacher()
    trainer = Distiller(model, None, "finetune")
    whole, left, right = (np.zeros_like(trainer.arena("weights").numpy()) for _ in range(3))
    loss = trainer.gradients(data.tokens, windows[:1], 0, 4, whole)
    part = trainer.gradients(data.tokens, windows[:1], 0, 3, left)
    part += trainer.gradients(data.tokens, windows[:1], 3, 4, right)
    trainer.fold(left, right)
    assert part == pytest.approx(loss) and not right.any()
    np.testing.assert_allclose(left, whole, atol=1e-5)


def test_layers_of_step_1_one_after_the_other(step):
    data, windows, lr = step
    whole, shared = (tiny.teacher(layers=4).to_probe(tiny.MIXERS[1]) for _ in range(2))
    losses = Distiller(whole).run(data.tokens, windows, lr, 0, 3)
    first, second = Distiller(shared), Distiller(shared)
    for i in range(3):
        one = (data.tokens, windows[i : i + 1], lr[i : i + 1])
        stream = np.empty((int(np.diff(windows[i]).sum()), 32), np.float32)
        low = first.align_part(*one, 0, 3, None, stream)
        high = second.align_part(*one, 3, 4, stream, None)
        assert (low + high).tobytes() == losses[i].tobytes()
    tiny.assert_same_weights(tiny.weights(whole), tiny.weights(shared))


def test_parts_of_a_step_refuse_nonsense(step):
    data, windows, lr = step
    probe = tiny.teacher().to_probe(tiny.MIXERS[1])
    align, tune = Distiller(probe), Distiller(tiny.teacher(), None, "finetune")
    grads = np.zeros_like(tune.arena("weights").numpy())
    stream = np.empty((int(np.diff(windows[0]).sum()), 32), np.float32)
    one = (data.tokens, windows[:1])
    for wrong in (
        lambda: tune.arena("x"),
        lambda: tune.gradients(*one, 2, 2, grads),
        lambda: tune.gradients(*one, 0, 5, grads),
        lambda: tune.gradients(data.tokens, windows, 0, 1, grads),
        lambda: tune.gradients(*one, 0, 1, grads[1:]),
        lambda: align.gradients(*one, 0, 1, np.zeros_like(align.arena("weights").numpy())),
        lambda: tune.squares(grads, 0, 10**6),
        lambda: tune.update(grads, 2, 1, 1.0, (0.1, 0.1)),
        lambda: tune.update(grads, 0, 1, float("nan"), (0.1, 0.1)),
        lambda: tune.align_part(*one, lr[:1], 0, 1, None, None),
        lambda: align.align_part(*one, lr[:1], 1, 2, None, None),
        lambda: align.align_part(*one, lr[:1], 0, 4, None, None),
        lambda: align.align_part(*one, lr[:1], 1, 2, stream[1:], None),
    ):
        with pytest.raises(ValueError):
            wrong()


def test_shards_of_step_1_meet_in_a_folder(tmp_path):
    teacher, data = tiny.teacher(layers=4), tiny.text_data(48)

    def align(**more):
        return radlads.align(teacher, tiny.MIXERS[1], data, steps=3, batch_size=2, progress=False, **more)

    whole = align()
    with pytest.raises(Unfinished, match="2 layers are still with the other shards"):
        align(shard=(1, 2), folder=tmp_path)
    shared = align(shard=(0, 2), folder=tmp_path)
    again = align(folder=tmp_path)
    for probe in (shared, again):
        tiny.assert_same_weights(tiny.weights(probe), tiny.weights(whole))
        assert probe.train_result.losses.tobytes() == whole.train_result.losses.tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"layer-{i:03d}.safetensors" for i in range(4)
    ]
    with pytest.raises(CheckpointError, match="seed"):
        align(folder=tmp_path, seed=1)
    for wrong in ({"shard": (2, 2), "folder": tmp_path}, {"shard": (0, 2)}):
        with pytest.raises(ConfigError):
            align(**wrong)


def test_groups_of_windows_are_those_of_the_core():
    tokens = np.tile(tiny.text_data(48).tokens, 8)
    ends = np.cumsum(np.random.default_rng(0).integers(2, 200, len(tokens) // 200))
    windows = np.ascontiguousarray(np.stack([ends[:-1], ends[1:]], axis=1))
    model = tiny.teacher()
    whole, parts = (np.zeros((len(tokens), 32), np.float32) for _ in range(2))
    model.forward_windows(tokens, windows, whole)
    groups = batches_alike(windows)
    assert len(groups) > 2
    for group in groups:
        model.forward_windows(tokens, np.ascontiguousarray(group), parts)
    assert parts.tobytes() == whole.tobytes()
