"""`hybridattn evaluate --text`: which tokens count, and in which units."""

import json
import math
import re

import pytest
import tiny
from command import call


def test_perplexity_counts_the_last_partial_window(capsys, folder):
    text = folder / "tail.txt"
    text.write_text(tiny.TEXT[:100], encoding="utf-8")  # one token a byte: 3 windows of 32, and 4 tokens
    models = [folder / "teacher", "--teacher", folder / "probe"]
    found = json.loads(call(capsys, "evaluate", *models, "--text", text, "--seq-len", 32, "--json")[1])
    assert found["tokens"] == 3 * 31 + 3 and abs(found["kl"]) < 1e-6


@pytest.mark.parametrize("more", [[], ["--stride", 16]])
def test_bits_per_byte_and_perplexity_per_word_of_a_whole_text(capsys, folder, more):
    text = folder / "words.txt"
    text.write_text(tiny.TEXT[:100], encoding="utf-8")
    size = ["evaluate", folder / "teacher", "--text", text, "--seq-len", 32, *more]
    found = json.loads(call(capsys, *size, "--json")[1])
    assert found["bits_per_byte"] == pytest.approx(found["nll"] / math.log(2.0))  # one token a byte
    words = re.split(r"\s+", tiny.TEXT[:100])  # as lm-eval counts: an empty one after white space at the end
    assert words[-1] == ""
    per_word = found["nll"] * 100 / len(words)
    assert found["word_perplexity"] == pytest.approx(math.exp(per_word))
    lines = call(capsys, *size)[1].splitlines()
    assert lines[2].split() == ["bits", "per", "byte", f"{found['bits_per_byte']:.4f}"]
    assert lines[3].split() == ["perplexity", "per", "word", f"{found['word_perplexity']:.4f}"]
    part = json.loads(call(capsys, *size, "--tokens", 64, "--json")[1])
    assert "bits_per_byte" not in part and "word_perplexity" not in part
    models = [folder / "teacher", "--teacher", folder / "probe"]  # of 256 positions, fewer than the default
    assert json.loads(call(capsys, "evaluate", *models, "--text", text, "--json")[1])["seq_len"] == 256


def test_what_the_linear_branch_is_worth(capsys, folder, tmp_path):
    text = folder / "branches.txt"
    text.write_text(tiny.TEXT[:200], encoding="utf-8")
    tiny.teacher().to_probe(tiny.MIXERS[0]).to_hybrid([1]).save_pretrained(tmp_path / "hybrid")
    size = ["evaluate", tmp_path / "hybrid", "--text", text, "--seq-len", 32, "--branches"]
    found = json.loads(call(capsys, *size, "--teacher", folder / "teacher", "--json")[1])
    assert found["branches"]["both"] == found["kl"]
    assert list(found["branches"]["by_layer"]) == ["0", "2"]
    assert "KL without the linear branch" in call(capsys, *size, "--teacher", folder / "teacher")[1]
    status, _, said = call(capsys, *size)
    assert status == 2 and "--branches needs --teacher" in said
