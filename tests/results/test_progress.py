"""One switch for all bars; a bar that has nothing to say for a second is not drawn."""

from __future__ import annotations

import io

import pytest

import hybridattn as ha
from hybridattn import testing
from hybridattn.cli import evaluate
from hybridattn.cli.main import main
from hybridattn.results import progress

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def as_it_was():
    before = progress.is_quiet()
    progress.quiet(False)
    yield
    progress.quiet(before)


def drawn(**options):
    out = io.StringIO()
    settings = {"progress": True, "delay": 0, "mininterval": 0, **options}
    list(progress.bar(range(3), "work", file=out, **settings))
    return out.getvalue()


def test_bars():
    assert "work" in drawn()
    assert drawn(progress=False) == "" and drawn(delay=5) == ""
    progress.quiet()
    assert drawn() == ""
    progress.quiet(False)
    assert "work" in drawn()


def test_every_long_call_has_one(monkeypatch):
    """Alignment, scores of any kind, distillation, evaluation, recall: by layer or by window."""
    seen = []
    monkeypatch.setattr("tqdm.std.tqdm.__init__", note(seen))
    teacher, data = testing.tiny_model(), testing.tiny_text(4)
    probe = ha.align(teacher, {"kind": "gla"}, data, 2, 2)
    for method in ("kl_gate", "kl_replace", "kl_restore", "kl_joint", "mse", "kl_greedy_add"):
        ha.score(probe, data, method)
        assert any(what.startswith(f"score {method}") for what in seen), method
    hybrid = probe.to_hybrid([0])
    ha.distill(hybrid, teacher, data, 2, 2)
    ha.evaluate.compare({"a": hybrid}, data, teacher)
    ha.evaluate.kl(hybrid, teacher, data, progress=True)
    ha.evaluate.perplexity(hybrid, data, progress=True)
    ha.evaluate.recall(hybrid, "needle", n=2, seq_len=200, progress=True)
    assert {"align", "distill", "compare", "kl", "perplexity", "recall needle"} <= set(seen)


def test_writing_has_a_bar_that_ends_full(monkeypatch, tmp_path):
    """Of weights and of checkpoints, where somebody watches."""
    made = []

    class Bar:
        def __init__(self, total):
            self.total, self.done = total, 0

        def __enter__(self):
            made.append(self)
            return self

        def __exit__(self, *_):
            pass

        def update(self, count):
            self.done += count

    monkeypatch.setattr("hybridattn.formats.safetensors.bar", lambda parts, what, total, **_: Bar(total))
    testing.tiny_model(layers=1).save_pretrained(tmp_path)
    assert len(made) == 1 and made[0].done == made[0].total > 0


def note(seen):
    from tqdm.std import tqdm

    original = tqdm.__init__

    def init(self, *args, **options):
        if not options.get("disable"):
            seen.append(options.get("desc"))
        original(self, *args, **options)

    return init


def test_the_command_line_has_the_switch(monkeypatch):
    """For one command: whoever calls `main` from Python has bars again afterwards."""
    seen = []
    monkeypatch.setattr(evaluate, "run", lambda args: seen.append(progress.is_quiet()))
    progress.quiet(False)
    for extra in (["--quiet"], []):
        assert main(["evaluate", "model", "--text", "text.txt", *extra]) == 0
        assert not progress.is_quiet()
    assert seen == [True, False]
