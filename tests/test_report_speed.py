"""Speeds in the report: one sign, with their range; what is not told from 1 is no number, a busy machine
is said.
"""

from __future__ import annotations

import html
import json
import re

import pytest
import report_example

from hybridattn import report
from hybridattn.evaluate import busy, rounds
from hybridattn.report import document, plots, speed, verdict
from hybridattn.report.summary import summary


@pytest.fixture(autouse=True)
def no_charts(monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)


def chosen_with(what, ratio, **timing):
    """Results in which the chosen hybrid has this speed at all lengths."""
    results = report_example.results()
    entry = verdict.entry(results, "chosen")
    entry["speed"][what] = dict.fromkeys(entry["speed"][what], ratio)
    results["timing"] |= timing
    return results


def written(results, folder):
    paths = report.write(results, folder)
    return {kind: html.unescape(path.read_text(encoding="utf-8")) for kind, path in paths.items()}


def test_above_one_is_faster_everywhere(tmp_path):
    results = chosen_with("decode", [1.31, 1.28, 1.35])
    texts = written(results, tmp_path)
    for kind in ("md", "html"):
        assert "1.31× (1.28 to 1.35)" in re.sub(r"</?small>", "", texts[kind])
        assert "times the teacher's speed, above 1" in texts[kind]
        assert "below 1" not in texts[kind] and "time divided by" not in texts[kind]
    assert ("1.31×", "the teacher's speed of writing at 2,048") in document._headline(results)
    assert "(1.31 times the teacher's speed, 1.28 to 1.35 over 5 rounds)" in summary(results)[0]
    slower = chosen_with("decode", [0.8, 0.78, 0.83])
    assert "(0.80 times the teacher's speed" in summary(slower)[0]


@pytest.mark.parametrize(
    ("ratio", "timing"),
    [
        ([6.9, 0.9, 9.1], {}),
        ([1.02, 1.0, 1.1], {}),
        ([0.9, 0.8, 1.2], {}),
        ([6.9, 6.5, 7.1], {"rounds": 2}),  # two rounds agree by chance
    ],
)
def test_what_is_not_told_from_one_is_no_number(ratio, timing, tmp_path):
    results = chosen_with("decode", ratio, **timing)
    texts = written(results, tmp_path)
    for kind in ("md", "html"):
        assert f"{ratio[0]:.2f}×" not in texts[kind] and speed.ALIKE in texts[kind]
    assert not [label for _, label in document._headline(results) if "speed" in label]
    assert (
        "no difference from the teacher's speed is told in writing one token after them"
        in summary(results)[0]
    )


def test_a_busy_machine_is_said_on_top_and_at_the_table(tmp_path):
    texts = written(chosen_with("decode", [1.3, 1.2, 1.4], busy=0.37), tmp_path)
    for kind in ("md", "html"):
        assert texts[kind].count("others took 37% of the processors") == 2
    for share in (0.0, 0.09, None):
        texts = written(chosen_with("decode", [1.3, 1.2, 1.4], busy=share), tmp_path)
        assert "others took" not in texts["md"]


def test_results_of_before_ranges_tell_no_speed(tmp_path):
    """As 0.1.0's first reports were: times alone."""
    results = report_example.results()
    del results["timing"]
    for entry in results["models"]:
        for name in ("prefill_range", "decode_range", "speed"):
            del entry[name]
    (tmp_path / "old.json").write_text(json.dumps({"format": report.FORMAT, **results}))
    texts = written(report.load(tmp_path / "old.json"), tmp_path)
    assert "without a range" in texts["md"] and "15.1 ms" in texts["md"] and "×" not in texts["md"]
    assert "no difference from the teacher's speed is told" in summary(results)[0]


def test_a_ratio_is_told_when_all_of_enough_rounds_agree():
    told = rounds.distinguishable
    assert told([1.2, 1.1, 1.3], 3) and told([0.8, 0.7, 0.9], 5)
    assert not told([1.2, 1.1, 1.3], 2) and not told([1.2, 1.0, 1.3], 5) and not told([1.0, 1.0, 1.0], 9)
    assert rounds.spread([3.0, 1.0, 2.0]) == [2.0, 1.0, 3.0]


def test_others_are_what_this_process_did_not_do(monkeypatch):
    counters = {"busy": 100.0, "own": 10.0, "now": 0.0}
    monkeypatch.setattr(busy, "_busy_seconds", lambda: counters["busy"])
    monkeypatch.setattr(busy, "_own_seconds", lambda: counters["own"])
    monkeypatch.setattr(busy.time, "monotonic", lambda: counters["now"])
    monkeypatch.setattr(busy.os, "cpu_count", lambda: 2)
    watch = busy.Watch()
    assert watch.others() is None, "no time has passed"
    counters |= {"busy": 116.0, "own": 20.0, "now": 10.0}  # 16 of 20 processor seconds, 10 of them our own
    assert watch.others() == 0.3 and "others took 30%" in busy.warning(0.3) and busy.warning(0.09) is None
    counters["own"] = 40.0
    assert watch.others() == 0.0
    counters["busy"] = None
    assert watch.others() is None
