"""The report of a run says what was chosen, by what, and on which windows."""

import pytest
from job import go


@pytest.mark.parametrize("method, says, never", [
    ("mse", "share of the softmax output's, read on a mix of plain text", "baseline"),
    ("uniform", "`uniform`, even distances: softmax stays in layer", "read on plain"),
    ("random", "`random`, a seeded draw: softmax stays in layer", "highest scores"),
    ("diagnostic:needle", "the answers' negative log-likelihood", "baseline"),
])  # fmt: skip
def test_the_report_says_what_chose(inputs, tmp_path, method, says, never):
    changes = {"score": {"methods": [method], "tokens": 256, "seq_len": 128}, "plan": {"method": method}}
    go(inputs, tmp_path, **changes, distill={"tokens": 0})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    layers = text[text.index("Which layers stay softmax") :].split("\n\n")[1]
    assert says in " ".join(layers.split()) and never not in layers
    assert "KL-chosen" not in text


def test_windows_are_held_against_those_trained_on(inputs, tmp_path):
    """Nothing was distilled, and step 1 read windows of 64."""
    go(inputs, tmp_path, distill={"tokens": 0}, align={"seq_len": 64}, evaluate={"lengths": [16, 32, 128]})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "32 tokens at a time (shorter than the windows of step 1)" in text
    assert "128 tokens at a time (longer than the windows of step 1)" in text
    assert "windows of step 2" not in text


def test_the_report_counts_whole_steps(inputs, tmp_path):
    results, _ = go(inputs, tmp_path, align={"tokens": 540}, distill={"tokens": 300, "models": ["chosen"]})
    read = {stage["name"]: stage["tokens"] for stage in results["made"]["stages"]}
    assert read["align"] == results["curves"]["align"]["tokens"][-1] == 512
    assert read["distill/chosen"] == results["curves"]["distill"]["chosen"]["tokens"][-1] == 256
