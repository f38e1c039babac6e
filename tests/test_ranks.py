"""Ranks under mpiexec: the same bits for any number of them, stops, deaths and errors."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from hybridattn.distributed import guardian

mpi4py = pytest.importorskip("mpi4py", reason="mpi4py is not installed: nothing runs on ranks")
HERE = Path(__file__).parent
SECONDS = 120  # of a job; those below take one or two


def launcher() -> str | None:
    """mpiexec that HYBRIDATTN_MPIEXEC names, of the environment that mpi4py comes from, or of the system."""
    if "HYBRIDATTN_MPIEXEC" in os.environ:
        return os.environ["HYBRIDATTN_MPIEXEC"]
    beside = Path(mpi4py.__file__).parents[4] / "bin" / "mpiexec"
    return str(beside) if beside.is_file() else shutil.which("mpiexec")


MPIEXEC = launcher()
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="mpiexec is not installed: nothing runs on ranks")


def environment(**more: str) -> dict[str, str]:
    """One thread a rank, and the MPI library that lies beside mpiexec."""
    found = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), **more}
    for name in ("libmpi.so.12", "libmpi.so.40"):
        library = Path(str(MPIEXEC)).parent.parent / "lib" / name
        if library.is_file():
            found.setdefault("MPI4PY_LIBMPI", str(library))
    return found


def command(ranks: int, *program: str) -> list[str]:
    extra = ["--oversubscribe", "--allow-run-as-root"] if "openmpi" in os.path.realpath(str(MPIEXEC)) else []
    return [str(MPIEXEC), *extra, "-n", str(ranks), sys.executable, *program]


def run(ranks: int, *job: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The job on ranks; 0: in a plain process."""
    program = [str(HERE / "rank_jobs.py"), *job]
    started = command(ranks, *program) if ranks else [sys.executable, *program]
    return subprocess.run(
        started, env=environment(**more), capture_output=True, text=True, timeout=SECONDS, check=False
    )


def result(ranks: int, *job: str, **more: str):
    done = run(ranks, *job, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def trained():
    return result(1, "train")


@pytest.mark.parametrize("overlap", ["never", "always"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_training_has_the_same_bits_on_any_number_of_ranks(trained, ranks, overlap):
    assert result(ranks, "train", OVERLAP=overlap) == trained


def test_step_1_has_the_bits_of_a_plain_process(trained):
    plain = result(0, "train")
    assert (plain["probe"], plain["step1"]) == (trained["probe"], trained["step1"])
    assert plain["losses"][0][0] == pytest.approx(trained["losses"][0][0], rel=1e-6)


def test_rounded_moments_have_the_same_bits_on_any_number_of_ranks(trained, tmp_path):
    halves = result(2, "train", str(tmp_path / "2"), "6", MOMENTS="bfloat16")
    assert halves == result(3, "train", str(tmp_path / "3"), "6", MOMENTS="bfloat16", OVERLAP="always")
    assert halves["hybrid"] != trained["hybrid"]
    assert halves["losses"][0] == pytest.approx(trained["losses"][0], rel=1e-3)
    files = [tmp_path / ranks / "checkpoint.safetensors" for ranks in "23"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_fast_is_near(trained):
    fast = result(2, "train", REDUCE="fast")
    assert fast["probe"] == trained["probe"]
    assert fast["losses"][0] == pytest.approx(trained["losses"][0], rel=1e-3)


def test_moments_are_shared_out():
    (whole,) = result(1, "moments")
    halves = result(2, "moments")
    assert sum(halves) == pytest.approx(whole) and max(halves) < 0.6 * whole


@pytest.mark.parametrize("ranks", [2, 3])
def test_scores_and_evaluation_have_the_bits_of_a_plain_process(ranks):
    assert result(ranks, "look") == result(0, "look")


def test_the_teachers_states_are_filled_together(tmp_path):
    assert result(2, "cache", str(tmp_path / "a.npy")) == result(0, "cache", str(tmp_path / "b.npy"))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert result(3, "cache", str(tmp_path / "b.npy")) == result(0, "cache", str(tmp_path / "a.npy"))


def interrupted(tmp_path: Path, ranks: int, number: int, victim: int, *job: str, **more: str):
    """A job whose rank gets a signal once there is a checkpoint: (status, stderr, seconds to the end)."""
    pids, checkpoint = tmp_path / "pids", tmp_path / "checkpoint"
    file, before = checkpoint / "checkpoint.safetensors", 0
    if file.exists():
        before = file.stat().st_mtime_ns

    def saved() -> bool:
        return file.exists() and file.stat().st_mtime_ns > before and len(list(pids.iterdir())) == ranks

    shutil.rmtree(pids, ignore_errors=True)
    pids.mkdir()
    with subprocess.Popen(
        command(ranks, str(HERE / "rank_jobs.py"), job[0], str(checkpoint), *job[1:]),
        env=environment(PIDS=str(pids), **more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        until = time.monotonic() + SECONDS
        while not saved() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(int((pids / str(victim)).read_text()), number)
        sent = time.monotonic()
        _, errors = process.communicate(timeout=SECONDS)
        return process.returncode, errors, time.monotonic() - sent


@pytest.mark.parametrize(("job", "overlap"), [("train", "never"), ("train", "always"), ("align", "auto")])
def test_a_stop_on_any_rank_stops_all_and_another_number_goes_on(tmp_path, job, overlap):
    code, errors, _ = interrupted(tmp_path, 2, signal.SIGTERM, 1, job, "3000", OVERLAP=overlap)
    assert code != 0 and "died" not in errors and "stopped after" in errors, errors
    stopped = (tmp_path / "checkpoint" / "checkpoint.safetensors").stat().st_mtime_ns
    code, errors, _ = interrupted(tmp_path, 3, signal.SIGTERM, 0, job, "3000", OVERLAP=overlap)
    assert code != 0 and "died" not in errors and "stopped after" in errors, errors
    assert (tmp_path / "checkpoint" / "checkpoint.safetensors").stat().st_mtime_ns > stopped


@pytest.mark.parametrize(
    ("job", "victim", "overlap"),
    [("train", 0, "never"), ("train", 1, "always"), ("align", 2, "auto")],
)
def test_a_dead_rank_is_named_and_nothing_saved_is_lost(tmp_path, job, victim, overlap):
    steps = "150"
    whole = result(1, job, str(tmp_path / "other"), steps)
    code, errors, seconds = interrupted(tmp_path, 3, signal.SIGKILL, victim, job, steps, OVERLAP=overlap)
    assert code != 0 and seconds < 30.0
    assert f"error: rank {victim} (process" in errors and guardian.KEPT in errors, errors
    assert result(2, job, str(tmp_path / "checkpoint"), steps) == whole


def test_other_weights_are_named():
    done = run(3, "other_weights")
    assert done.returncode != 0
    assert "align: teacher of rank 1 is" in done.stderr and "as on rank 0" in done.stderr, done.stderr


def test_an_error_on_one_rank_names_it():
    done = run(2, "one_fails")
    assert done.returncode != 0 and "error: rank 1: no such text" in done.stderr, done.stderr


def test_windows_that_fail_fail_everywhere_and_ranks_go_on():
    assert result(2, "windows_fail", OVERLAP="always") == [["distill: no such window"] * 3, True]


def test_a_piece_that_fails_fails_everywhere_and_ranks_go_on():
    assert result(1, "piece_fails")[1] == [i * i for i in range(7)]
    done = run(2, "piece_fails")
    assert done.returncode != 0 and "ranks differ" in done.stderr  # the error has its own class on one rank


@pytest.mark.parametrize("ranks", [1, 3])
def test_every_number_is_dealt_once(ranks):
    assert result(ranks, "numbers", "20") == list(range(20))


RECIPE = """
[teacher]
model = "{folder}/teacher"
[text]
train = "{folder}/text.txt"
[mixer]
kind = "gated_delta"
[align]
tokens = 512
seq_len = 64
[score]
methods = ["kl_restore"]
tokens = 256
seq_len = 64
[plan]
softmax_layers = 1
random_seeds = 0
[distill]
tokens = 512
seq_len = 64
batch_size = 2
models = ["chosen"]
[evaluate]
tokens = 512
lengths = [64]
[measure]
lengths = [64]
decode_tokens = 2
repeats = 1
[samples]
prompt = "The mill"
tokens = 4
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    tiny.teacher().save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text(tiny.TEXT * 4, encoding="utf-8")
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder), encoding="utf-8")
    return folder


def cli(ranks: int, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(ranks, "-m", "hybridattn", *arguments), env=environment(**more), capture_output=True,
        text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


def test_a_recipe_gives_the_same_models_and_speaks_with_one_voice(recipe):
    for ranks in (1, 2):
        done = cli(ranks, "run", str(recipe / "recipe.toml"), "--out", str(recipe / str(ranks)))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("report.html") == 1 and done.stderr.count("Ctrl-C stops it") == 1
    for name in ("probe", "models/chosen"):
        one, two = ((recipe / str(n) / name / "model.safetensors").read_bytes() for n in (1, 2))
        assert one == two, name
    again = cli(2, "run", str(recipe / "recipe.toml"), "--out", str(recipe / "1"))
    assert again.returncode == 0 and "everything is done already" in again.stderr


def test_a_wrong_command_line_is_said_once(recipe):
    done = cli(2, "run", str(recipe / "none.toml"), "--out", str(recipe / "x"))
    assert done.returncode != 0 and done.stderr.count("does not exist") == 1, done.stderr
    done = cli(2, "run", "--oops")
    assert done.returncode != 0 and done.stderr.count("--oops") == 1, done.stderr


def test_a_file_that_one_rank_cannot_see_is_named(recipe, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, pathlib, sys\n"
        "from hybridattn.pipeline import work\n"
        "from hybridattn.errors import DataError\n"
        "from hybridattn.cli.main import main\n"
        "if int(os.environ.get('PMI_RANK', os.environ.get('OMPI_COMM_WORLD_RANK', 0))) == 1:\n"
        "    old = pathlib.Path.is_file\n"
        "    pathlib.Path.is_file = lambda self: self.name != 'text.txt' and old(self)\n"
        f"sys.exit(main(['run', {str(recipe / 'recipe.toml')!r}, '--out', {str(tmp_path / 'out')!r}]))\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        command(2, str(program)), env=environment(), capture_output=True, text=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "rank 1: " in done.stderr and "text.txt" in done.stderr, done.stderr
