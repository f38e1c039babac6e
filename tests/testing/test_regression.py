"""`hybrid_regression`: what is pinned, what counts as moved, and what is said of it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from hybridattn import align, score, testing
from hybridattn.errors import DataError
from hybridattn.testing import figures
from hybridattn.testing.regression import HybridRegression

pytestmark = pytest.mark.usefixtures("one_thread")
MIXER = {"kind": "window_linear", "window": 8, "sinks": 2}


@pytest.fixture(scope="module")
def run():
    """(teacher, data, probe, scores) of a job of seconds."""
    teacher, data = testing.tiny_model(layers=4), testing.tiny_text(6, 48)
    probe = align(teacher, MIXER, data, steps=6, batch_size=2, progress=False)
    return teacher, data, probe, score(probe, data, "kl_gate", progress=False)


def measure(run, path, update=False, tilt=0.0):
    """Every kind of figure; tilt: how much one weight of the hybrid is changed before."""
    teacher, data, probe, scores = run
    pins = HybridRegression(path, update)
    hybrid = probe.to_hybrid(pins.layers(scores, k=2))
    hybrid.arrays()["final_norm.weight"][...] *= 1 + tilt
    pins.kl(hybrid, teacher, data)
    pins.perplexity(hybrid, data)
    pins.text(hybrid, "the", max_new_tokens=8)
    pins.losses(probe.train_result)
    pins.number("bytes", hybrid.nbytes)
    return pins


def test_the_same_run_has_not_moved(run, tmp_path):
    file = tmp_path / "deep" / "pins.json"
    with pytest.raises(
        AssertionError, match=r"has no figures of this test yet; pytest --hybrid-update writes"
    ):
        measure(run, file).finish()
    measure(run, file, update=True).finish()
    before = file.read_bytes()
    measure(run, file).finish()
    measure(run, file, update=True).finish()
    assert file.read_bytes() == before, "an update without a change leaves the file alone"
    kept = json.loads(before)["figures"]
    assert kept["kl"]["value"] > 0 and len(kept["kl"]["sequences"]) == 6
    assert len(kept["layers"]["softmax_layers"]) == 2 and len(kept["losses"]["curve"]) == 6


def test_what_moved_is_told_in_standard_errors(run, tmp_path):
    file = tmp_path / "pins.json"
    measure(run, file, update=True).finish()
    with pytest.raises(AssertionError, match=r"2 figures have moved from") as caught:
        measure(run, file, tilt=0.02).finish()
    said = str(caught.value)
    assert "\nkl moved from " in said and "\nperplexity moved from " in said
    assert "of its standard errors; sequence by sequence by " in said and "of 6 pairs" in said
    wide = HybridRegression(file)
    wide.found = measure(run, file, tilt=0.02).found
    wide.within = dict.fromkeys(wide.found, 100.0)
    wide.finish()
    updated = measure(run, file, update=True, tilt=0.02)
    updated.finish()
    assert [line.split()[0] for line in updated.said] == ["kl", "perplexity"]
    measure(run, file, tilt=0.02).finish()


def test_figures_that_are_not_measured_any_more(run, tmp_path):
    file = tmp_path / "pins.json"
    measure(run, file, update=True).finish()
    less = HybridRegression(file)
    less.number("bytes", run[2].to_hybrid([0, 1]).nbytes)
    less.number("more", 3)
    with pytest.raises(
        AssertionError, match=r"(?s)kl is pinned and was not measured.*more is not pinned yet"
    ):
        less.finish()
    with pytest.raises(DataError, match="name is 'more' twice"):
        less.number("more", 3)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "x"}', '{"format": "hybridattn-regression-1"}'])
def test_other_files_are_refused(tmp_path, text):
    file = tmp_path / "pins.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"pins\.json"):
        HybridRegression(file).finish()


MEAN = figures.mean(1.0, 0.1, [0.9, 1.1])
LAYERS = figures.layers([0, 2], [0.9, 0.3, 0.3001, 0.1], [0.1] * 4)
TEXT = figures.text("a", "bcd", [1, 2, 3], [2.0, 1e-4, 2.0])
LOSSES = figures.losses([3.0, 2.0, 1.0])
MOVED = [
    # pinned, found, says on the same kernels, says on others
    (MEAN, figures.mean(1 + 1e-8, 0.1, [0.9, 1.1]), None, None),
    (MEAN, figures.mean(1.0005, 0.1, [0.9, 1.101]), r"\+0.05%\), 0.005 of its standard errors", None),
    (MEAN, figures.mean(1.2, 0.1, [1.0, 1.4]), "2 of its standard errors; .* by .0.2 .- 0.1", "2 of its"),
    (MEAN, figures.mean(math.nan, 0.1, []), "from 1 to nan", "from 1 to nan"),
    (MEAN, figures.number(1.0), "is pinned as 'mean' and is 'number' now", "is pinned"),
    ({"kind": "mean"}, MEAN, "is damaged in the file .KeyError", "is damaged"),
    (figures.number(0.0), figures.number(0.0), None, None),
    (figures.number(1000), figures.number(1001), r"from 1000 to 1001 \(\+0.10%\)", None),
    (LAYERS, figures.layers([0, 2], [1, 1, 1, 1], [0.1] * 4), None, None),
    (LAYERS, figures.layers([0, 1], [1, 1, 1, 1], [0.1] * 4),
     r"\[0, 2\] to \[0, 1\]: \[1\] in the place of \[2\], .* 0.0001 .0.00071 standard errors. apart", None),
    (LAYERS, figures.layers([2, 3], [1, 1, 1, 1], [0.1] * 4), "5.7 standard errors", "5.7 standard errors"),
    (TEXT, TEXT, None, None),
    (TEXT, figures.text("a", "bxy", [1, 9, 8], []), "from 'bcd' to 'bxy': token 1 .* 0.0001 nats", None),
    (TEXT, figures.text("a", "xcd", [9, 2, 3], []), "token 0 is another", "token 0 is another"),
    (TEXT, figures.text("a", "bc", [1, 2], []), "token 2 is another", "token 2 is another"),
    (TEXT, figures.text("b", "bcd", [1, 2, 3], []), "pinned for the prompt 'a'", "pinned for"),
    (LOSSES, figures.losses([3.0, 2.0, 1.0001]), "1 of 3 steps, first at step 2 from 1 to 1.0001", None),
    (LOSSES, figures.losses([3.0, 2.5, 1.1]), "2 of 3 steps, first at step 1", "2 of 3 steps"),
    (LOSSES, figures.losses([3.0]), "have 1 steps; pinned are 3", "have 1 steps"),
]  # fmt: skip


@pytest.mark.parametrize(("pinned", "found", "here", "elsewhere"), MOVED)
def test_what_counts_as_moved(pinned, found, here, elsewhere):
    for same_kernels, said in ((True, here), (False, elsewhere)):
        moved = figures.moved(pinned, found, same_kernels)
        if said is None:
            assert moved is None
        else:
            with pytest.raises(AssertionError, match=said):
                raise AssertionError(moved)


def test_within_lets_near_layers_and_small_shifts_pass():
    assert figures.moved(MEAN, figures.mean(1.15, 0.1, []), True, within=2.0) is None
    assert figures.moved(MEAN, figures.mean(1.25, 0.1, []), True, within=2.0) is not None
    swapped = figures.layers([0, 1], [1, 1, 1, 1], [0.1] * 4)
    assert figures.moved(LAYERS, swapped, True, within=1.0) is None


SUITE = """
import pytest
from hybridattn import testing

@pytest.mark.parametrize("seed", [0, 1])
def test_kl(hybrid_regression, seed):
    teacher, other = testing.tiny_model(seed=seed), testing.tiny_model(seed=seed + {shift})
    hybrid_regression.kl(other, teacher, testing.tiny_text(3))

def test_free_of_it():
    assert True
"""


def pytest_run(folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "hybridattn.testing.plugin", *options],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_plugin_in_a_suite(tmp_path):
    file = tmp_path / "test_recipe.py"
    file.write_text(SUITE.format(shift=5))
    assert "2 failed, 1 passed" in pytest_run(tmp_path)
    made = pytest_run(tmp_path, "--hybrid-update")
    assert "3 passed" in made and "hybridattn: wrote" in made and "kl is not pinned yet" in made
    assert sorted(p.name for p in (tmp_path / "pinned/test_recipe").iterdir()) == [
        "test_kl_0.json",
        "test_kl_1.json",
    ]
    assert "3 passed" in pytest_run(tmp_path)
    file.write_text(SUITE.format(shift=6))
    said = pytest_run(tmp_path)
    assert "2 failed, 1 passed" in said and "standard errors of 3 pairs" in said
