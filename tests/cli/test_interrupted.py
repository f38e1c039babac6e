"""Commands that are stopped: what was done is kept, and an output folder is for one run."""

import os
import signal
import subprocess
import sys
import time

import pytest
from command import call

from hybridattn import checkpoint
from hybridattn.cli import main as cli
from hybridattn.locks import beside, locked


def distillation(folder, out, *more):
    plan = folder / "one.json"
    cli.main(["plan", "--softmax", "1", "--num-layers", "3", "--out", str(plan)])
    paths = [folder / "probe", "--plan", plan, "--text", folder / "text.txt", "--out", out, "--quiet"]
    size = ["--seq-len", 32, "--batch-size", 2, "--tokens", 256, "--finetune-tokens", 256]
    return ["distill", *paths, *size, *more]


def test_an_interrupted_fine_tuning_goes_on(capsys, folder, tmp_path, monkeypatch):
    """Step 3 is taken up where it was, step 2 is not trained again, and the end is the same."""
    from hybridattn.radlads import loop as training

    assert call(capsys, *distillation(folder, tmp_path / "straight"))[0] == 0
    real, ran = training._Trainer._slice, []

    def stop(self, distiller, start, end):
        if self.training.label == "finetune" and start >= 2:
            raise KeyboardInterrupt
        real(self, distiller, start, min(end, start + 1))

    def watch(self, distiller, start, end):
        ran.append((self.training.label, start))
        real(self, distiller, start, end)

    monkeypatch.setattr(training._Trainer, "_slice", stop)
    assert call(capsys, *distillation(folder, tmp_path / "again"))[0] == 130
    monkeypatch.setattr(training._Trainer, "_slice", watch)
    assert call(capsys, *distillation(folder, tmp_path / "again"))[0] == 0
    assert ran[0] == ("finetune", 2) and {label for label, _ in ran} == {"finetune"}
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "again")]
    assert files[0] == files[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "straight"]


def test_an_output_folder_is_for_one_run(capsys, folder, tmp_path):
    lock = beside(tmp_path / "out", "lock")
    with locked(lock):
        code, _, err = call(capsys, *distillation(folder, tmp_path / "out"))
    assert code == 1 and f"another run (process {os.getpid()}) writes here" in err
    lock.write_text("999999999\n")  # left by a process that is no more
    assert call(capsys, *distillation(folder, tmp_path / "out"))[0] == 0
    assert not lock.exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_keeps_what_was_done(folder, tmp_path, name):
    out = tmp_path / "out"
    long = [str(a) for a in distillation(folder, out, "--tokens", 20_000_000)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored, and the command respects that
    try:
        run = subprocess.Popen([sys.executable, "-m", "hybridattn", *long], env=environment,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    finally:
        signal.signal(number, before)
    with run:
        try:
            saved = beside(out, "checkpoint") / "checkpoint.safetensors"
            deadline = time.monotonic() + 60
            while not saved.exists() and time.monotonic() < deadline:  # its 300,000 steps take far longer
                time.sleep(0.05)
            run.send_signal(number)
            error = run.communicate(timeout=60)[1]
        finally:
            run.kill()
    assert run.returncode == 130 and "stopped; what was finished is kept" in error
    assert checkpoint.load(saved).position["step"] >= 100
    assert not beside(out, "lock").exists()


def test_signals_are_given_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    call(capsys, "info", "no.json")
    assert signal.getsignal(signal.SIGTERM) == before
