"""`run` after a stop or a loss goes on where it was, to the same end."""

import json
import shutil
import time

import pytest
from job import go, without_times

from hybridattn.pipeline import stages, work
from hybridattn.pipeline.store import PROGRESS


def test_time_of_a_stage_that_was_interrupted_counts(inputs, tmp_path, monkeypatch):
    original, calls = work.align, []

    def slowly(job):
        calls.append(1)
        time.sleep(0.5)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(job)

    monkeypatch.setattr(work, "align", slowly)
    with pytest.raises(KeyboardInterrupt):
        go(inputs, tmp_path)
    go(inputs, tmp_path)
    assert json.loads((tmp_path / "stages" / "align.json").read_text())["seconds"] > 1.0
    assert not (tmp_path / PROGRESS).exists()


def test_a_lost_file_is_made_again(inputs, first, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(first[0], out)
    go(inputs, out)
    shutil.rmtree(out / "models" / "uniform")
    _, ran = go(inputs, out)
    assert ran == ["distill/uniform"]
    (out / "models" / "chosen" / "model.safetensors").unlink()
    (out / "probe" / "model.safetensors").unlink()
    _, ran = go(inputs, out)
    assert ran == ["align", "distill/chosen"]
    (out / "stages" / "plan.json").write_text("{ half a rec")
    assert go(inputs, out)[1] == ["plan"]


@pytest.mark.parametrize("at", ["align", "score", "plan", "evaluate", "distill", "measure", "sample"])
def test_a_stop_between_stages(inputs, first, tmp_path, monkeypatch, at):
    calls = []
    place = stages if at == "measure" else work
    real = getattr(place, at)

    def stop(*args):
        calls.append(at)
        if len(calls) == (1 if at in ("align", "plan", "measure") else 2):
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(place, at, stop)
        with pytest.raises(KeyboardInterrupt):
            go(inputs, tmp_path)
    before = {path.stem for path in (tmp_path / "stages").glob("*.json")}
    results, ran = go(inputs, tmp_path)
    assert not before & {name.replace("/", "-") for name in ran}  # what was done is not done again
    assert without_times(results) == without_times(first[1])


@pytest.fixture(scope="module")
def tuned(inputs, first, tmp_path_factory):
    """The results of a run with step 3."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    shutil.copytree(first[0], out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridattn.report.plots.available", lambda: False)
        return go(inputs, out, distill={"finetune_tokens": 256})[0]


@pytest.mark.parametrize("step", ["align", "distill", "finetune"])
def test_a_stop_within_training(inputs, tuned, tmp_path, monkeypatch, step):
    """Ctrl-C in the middle of a step: the checkpoint is taken up, and the end is the same."""
    from hybridattn.radlads import loop as training

    real, calls = training._Trainer._slice, []

    def stop(self, distiller, start, end):
        if self.training.label == step:
            calls.append(start)
            if start >= 2:
                raise KeyboardInterrupt
        real(self, distiller, start, min(end, start + 2))

    with monkeypatch.context() as patch:
        patch.setattr(training._Trainer, "_slice", stop)
        with pytest.raises(KeyboardInterrupt):
            go(inputs, tmp_path, distill={"finetune_tokens": 256})
    assert list((tmp_path / PROGRESS).iterdir())
    starts = []

    def watch(self, distiller, start, end):
        starts.append((self.training.label, start))
        real(self, distiller, start, end)

    monkeypatch.setattr(training._Trainer, "_slice", watch)
    results, ran = go(inputs, tmp_path, distill={"finetune_tokens": 256})
    assert ran[0] == ("align" if step == "align" else "distill/chosen")
    assert starts[0] == (step, calls[-1]) and calls[-1] > 0
    assert without_times(results) == without_times(tuned)
