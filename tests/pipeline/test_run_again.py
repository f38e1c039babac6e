"""`run` once more: what is skipped, and what a change runs again."""

import shutil

import pytest
import tiny
from job import go, without_times

from hybridattn.files import file_digest
from hybridattn.pipeline import stages as stages_module
from hybridattn.pipeline.recipe_toml import merge
from hybridattn.pipeline.store import Store, fingerprint


def test_a_second_run_skips_everything(first, inputs):
    out, results, _ = first
    again, ran = go(inputs, out)
    assert ran == [] and without_times(again) == without_times(results)
    assert again["models"] == results["models"]  # timings too: nothing was measured again


def test_a_change_runs_what_depends_on_it_and_no_more(first, inputs):
    out, results, _ = first
    _, ran = go(inputs, out, samples={"tokens": 7})
    assert ran == [f"sample/{m}" for m in ("teacher", "all-linear", "uniform", "random-0", "chosen")]
    _, ran = go(inputs, out, samples={"tokens": 7}, evaluate={"tokens": 320})
    assert len(ran) == 6 + 3 and {name.split("/")[0] for name in ran} == {"evaluate"}
    _, ran = go(inputs, out, samples={"tokens": 7}, evaluate={"tokens": 320}, distill={"lr_rest": 2e-5})
    assert {name.split("/")[0] for name in ran} == {"distill", "evaluate", "sample"} and len(ran) == 3 + 3 + 3
    # one baseline less: nothing to do at all
    _, ran = go(
        inputs,
        out,
        samples={"tokens": 7},
        evaluate={"tokens": 320},
        distill={"lr_rest": 2e-5, "models": ["chosen", "uniform"]},
        plan={"random_seeds": 1},
    )
    assert ran == ["plan", "sample/random-0"]  # its last state is now the one before distillation
    changed, ran = go(inputs, out, align={"tokens": 640})
    assert ran[0] == "align" and {"score/kl_gate", "distill/chosen", "sample/teacher"} <= set(ran)
    assert "evaluate/before/teacher" in ran  # its record was made with other evaluation tokens
    assert "measure" in ran  # all models are timed in the same rounds
    assert changed["curves"]["align"]["tokens"][-1] == 640
    back, _ = go(inputs, out)  # the first recipe again: the same numbers
    assert without_times(back) == without_times(results)


def test_another_size_of_the_set(inputs, tmp_path):
    """Scores are not read again, and the report's table is that of the new size."""
    go(inputs, tmp_path, distill={"tokens": 0})
    results, ran = go(inputs, tmp_path, distill={"tokens": 0}, plan={"softmax_layers": 2})
    assert not [name for name in ran if name.startswith("score/")]
    fresh, _ = go(inputs, tmp_path / "fresh", distill={"tokens": 0}, plan={"softmax_layers": 2})
    assert without_times(results)[1] == without_times(fresh)[1]
    assert [len(s["layers"]) for s in results["scores"]] == [2, 2]


@pytest.mark.parametrize(
    "change",
    [{"score": {"tokens": 64}}, {"distill": {"seq_len": 64}}, {"distill": {"tokens": 512}}, {"seed": 1}],
)
def test_candidates_of_another_text_are_made_anew(inputs, tmp_path, change):
    base = {"score": {"methods": ["kl_restore_distilled"]}, "plan": {"method": "kl_restore_distilled"}}
    go(inputs, tmp_path, **base, distill={"models": ["chosen"]})
    changed = merge(merge(base, {"distill": {"models": ["chosen"]}}), change)
    results, ran = go(inputs, tmp_path, **changed)
    assert "score/kl_restore_distilled" in ran
    fresh, _ = go(inputs, tmp_path / "fresh", **changed)
    assert without_times(results)[1] == without_times(fresh)[1]


def test_other_heldout_text_is_only_evaluated_on(inputs, tmp_path):
    go(inputs, tmp_path)
    (tmp_path / "held.txt").write_text("\n\n".join([tiny.TEXT[::-1]] * 4), encoding="utf-8")
    _, ran = go(inputs, tmp_path, text={"heldout": str(tmp_path / "held.txt")})
    assert ran and {name.split("/")[0] for name in ran} == {"evaluate"}


def test_speed_is_measured_again_on_another_machine(inputs, first, tmp_path, monkeypatch):
    shutil.copytree(first[0], tmp_path / "out")
    go(inputs, tmp_path / "out")
    monkeypatch.setattr(stages_module, "machine", lambda: {"processor": "another"})
    assert go(inputs, tmp_path / "out")[1] == ["measure"]


def test_another_version_runs_everything_again(monkeypatch):
    one = fingerprint("a", 1)
    monkeypatch.setattr("hybridattn.pipeline.store.__version__", "0.0.9")
    assert fingerprint("a", 1) != one


def test_digests(tmp_path):
    one = fingerprint("a", {"x": 1, "y": [2]})
    assert one == fingerprint("a", {"y": [2], "x": 1}) != fingerprint("b", {"x": 1, "y": [2]})
    file = tmp_path / "f"
    file.write_bytes(b"a" * (5 << 20))
    one = file_digest(file)
    for at in (0, 2_500_000, (5 << 20) - 1):  # the middle counts as the ends do
        with file.open("r+b") as stream:
            stream.seek(at)
            stream.write(b"b")
        assert file_digest(file) != one
        one = file_digest(file)
    assert file_digest(tmp_path) != file_digest(file)


def test_checkpoints_of_other_inputs_are_dropped(tmp_path):
    store = Store(tmp_path)
    old = store.checkpoint("distill/uniform", "aaa")
    old.mkdir()
    part = store.checkpoint("distill/uniform", "aaa", "finetune")
    part.mkdir()
    assert store.checkpoint("distill/uniform", "aaa") == old and old.exists() and part.exists()
    store.checkpoint("distill/uniform", "bbb")
    assert not old.exists() and not part.exists()
