"""A tiny teacher, a text and a finished run, for the tests of `run`."""

import pytest
import tiny
from job import go


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, one_thread):
    folder = tmp_path_factory.mktemp("inputs")
    tiny.teacher(layers=3).save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text("\n\n".join([tiny.TEXT] * 10), encoding="utf-8")
    return {"teacher": {"model": str(folder / "teacher")}, "text": {"train": str(folder / "text.txt")}}


@pytest.fixture(autouse=True)
def no_charts(monkeypatch):
    monkeypatch.setattr("hybridattn.report.plots.available", lambda: False)  # they have tests of their own


@pytest.fixture(scope="module")
def first(inputs, tmp_path_factory):
    """A finished run: (folder, results, stages that ran)."""
    out = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridattn.report.plots.available", lambda: False)
        return (out, *go(inputs, out))
