"""recall, bench, quantize, elastic, completion, and --dtype and --calibration of those that load a model."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import tiny
from command import call
from tokenizer_cases import byte_level

from hybridattn import LayerScores, Model, align, evaluate, score, testing
from hybridattn.cli import COMMANDS
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import ConfigError
from hybridattn.evaluate import rounds

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A teacher whose rows are whole blocks, its probe with scores, a hybrid, a text."""
    folder = tmp_path_factory.mktemp("models")
    teacher = testing.tiny_model(
        hidden_size=64, intermediate_size=64, max_position_embeddings=512, vocab_size=320
    )
    teacher.tokenizer = Tokenizer(byte_level(), eos_token_id=0)
    teacher.save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text(tiny.TEXT, encoding="utf-8")
    probe = align(teacher, {"kind": "gla"}, tiny.text_data(32, 256), 2, 2, progress=False)
    probe.save_pretrained(folder / "probe")
    probe.to_hybrid([0]).save_pretrained(folder / "hybrid")
    score(probe, tiny.text_data(32, 128), "kl_gate", progress=False).save(folder / "scores.json")
    return folder


def test_recall(made, capsys):
    options = ["--diagnostic", "needle", "--prompts", "3", "--seq-len", "300", "--seed", "2"]
    code, out, err = call(capsys, "recall", made / "teacher", *options, "--json")
    want = evaluate.recall(Model.from_pretrained(made / "teacher"), "needle", n=3, seq_len=300, seed=2)
    assert code == 0 and err == "" and json.loads(out)["needle"] == want.to_dict()
    code, out, _ = call(capsys, "recall", made / "teacher", *options)
    assert code == 0 and out.split()[0] == "diagnostic" and "0.0%" in out
    code, _, err = call(capsys, "recall", made / "teacher", "--diagnostic", "needel")
    assert code == 1 and "--diagnostic is 'needel'; allowed: " in err and "needle" in err


def test_bench(made, capsys):
    options = ["--length", "8", "--length", "40", "--rounds", "3", "--decode-tokens", "2"]
    code, out, _ = call(capsys, "bench", made / "teacher", made / "hybrid", *options, "--json")
    found = json.loads(out)
    assert code == 0 and found["rounds"] == 3 and len(found["timings"]) == 4
    for row in found["timings"]:
        for what in ("prefill", "decode"):
            middle, low, high = row[what]
            assert 0 < low <= middle <= high
    assert [(r["length"], r["model"]) for r in found["timings"]] == [
        (8, "teacher"), (8, "hybrid"), (40, "teacher"), (40, "hybrid"),
    ]  # fmt: skip
    assert found["timings"][0]["speedup"] == {"prefill": [1.0] * 3, "decode": [1.0] * 3}
    assert not any(found["timings"][0]["distinguishable"].values())
    code, out, _ = call(capsys, "bench", made / "teacher", made / "hybrid", *options)
    assert code == 0 and "times the first's speed" in out and max(map(len, out.splitlines())) <= 100
    with pytest.raises(ConfigError, match="models is"):
        evaluate.bench([Model.from_pretrained(made / "teacher")])


def test_models_take_turns_and_a_busy_machine_is_told(monkeypatch):
    order = []

    def latency(model, lengths, repeats, decode_tokens=16, **_):
        if decode_tokens == 1:  # a first pass that does not count
            return {}
        order.append(model)
        seconds = {"fast": 1.0, "slow": 2.0}[model] * (5 + len(order))  # the machine gets slower and slower
        timed = dict.fromkeys(lengths, seconds)
        return {
            "prefill": timed,
            "decode": timed,
            "cache_bytes": dict.fromkeys(lengths, 7),
            "bytes_per_token": 1,
        }

    monkeypatch.setattr(rounds, "latency", latency)
    monkeypatch.setattr(rounds.Watch, "others", lambda self: 0.4)
    found = evaluate.bench({"slow": "slow", "fast": "fast"}, [10], rounds=4, progress=False)
    assert order == ["slow", "fast", "fast", "slow"] * 2, "every other round goes backwards"
    assert found.timings[0]["prefill"][0] == pytest.approx(10 / (2 * 9.5))
    middle, least, most = found.timings[1]["speedup"]["decode"]
    assert 1.5 < least < 2.0 < most < 2.5 and 1.9 < middle < 2.1, "above 1 is faster"
    assert found.timings[1]["distinguishable"] == {"prefill": True, "decode": True}
    assert f"reads {middle:.2f} ({least:.2f} to {most:.2f})" in found.rows()[1][-1]
    assert "others took 40%" in found.warning and "others took" in found._repr_html_()
    order.clear()
    monkeypatch.setattr(rounds.Watch, "others", lambda self: None)
    quiet = evaluate.bench({"slow": "slow", "fast": "fast"}, [10], rounds=2, progress=False)
    assert quiet.busy is None and quiet.warning is None and "busy" in quiet.to_dict()
    assert quiet.rows()[1][-1] == "reads: not distinguishable, writes: not distinguishable"


@pytest.mark.parametrize(("dtype", "more"), [("q8_0", []), ("q4_0", ["--calibration", "text.txt"])])
def test_blocks_are_saved_as_gguf(made, capsys, tmp_path, dtype, more):
    pytest.importorskip("gguf")
    more = [made / part if part.endswith(".txt") else part for part in more]
    code, out, err = call(
        capsys, "quantize", made / "teacher", "--dtype", dtype, *more, "--out", tmp_path / "small", "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["bytes"] < 0.5 * found["bytes_before"] and found["saved"].endswith(".gguf")
    small = Model.from_pretrained(found["saved"], dtype="auto")
    assert {kind for kind, _ in small.stored().values()} <= {dtype, "q8_0"}
    data = tiny.text_data(32, 128)
    kl = evaluate.kl(small, Model.from_pretrained(made / "teacher"), data).kl
    assert 0 < kl < (0.05 if dtype == "q8_0" else 3.0)


def test_half_and_what_does_not_fit(made, capsys, tmp_path):
    code, _, err = call(
        capsys, "quantize", made / "hybrid", "--dtype", "bfloat16", "--out", tmp_path / "half"
    )
    assert code == 0, err
    half, whole = Model.from_pretrained(tmp_path / "half"), Model.from_pretrained(made / "hybrid")
    testing.assert_models_close(half, whole, "bfloat16")
    code, _, err = call(capsys, "quantize", made / "hybrid", "--dtype", "q8_0", "--out", tmp_path / "no")
    assert code == 1 and "gla" in err and not (tmp_path / "no").exists()
    code, _, err = call(capsys, "quantize", made / "teacher", "--dtype", "int8", "--out", tmp_path / "no")
    assert code == 1 and "--dtype is 'int8'; allowed: bfloat16" in err
    code, _, err = call(
        capsys, "quantize", made / "teacher", "--dtype", "q8_0", "--out", made / "teacher", "--force"
    )
    assert code == 1 and "is the model to read" in err


def test_elastic(made, capsys, tmp_path):
    options = ["--scores", made / "scores.json", "--out", tmp_path / "elastic"]
    code, out, err = call(capsys, "elastic", made / "probe", *options, "--json")
    assert code == 0, err
    order = LayerScores.load(made / "scores.json").order.tolist()
    assert json.loads(out)["softmax_order"] == order
    assert Model.from_pretrained(tmp_path / "elastic").softmax_order == tuple(order)
    hybrid = Model.from_pretrained(tmp_path / "elastic", softmax_layers=1)
    assert [i for i, specs in enumerate(hybrid.layers) if specs[0]["kind"] == "softmax"] == order[:1]


def test_dtype_and_calibration(made, capsys):
    text = ["--text", made / "text.txt", "--tokens", "256", "--json"]
    plain, half, rounded = (
        json.loads(call(capsys, "evaluate", made / "teacher", *text, *more)[1])["nll"]
        for more in (
            [],
            ["--dtype", "bfloat16"],
            ["--dtype", "q4_0", "--calibration", made / "text.txt"],
        )
    )
    assert abs(half - plain) < 0.1 and plain != half and rounded not in (plain, half)
    code, _, err = call(capsys, "evaluate", made / "teacher", *text, "--calibration", made / "text.txt")
    assert code == 1 and "dtype with calibration is 'float32'" in err
    written = [
        call(capsys, "generate", made / "teacher", "the", "--max-tokens", "4", "--dtype", dtype)
        for dtype in ("float32", "auto", "q8_0")
    ]
    assert all(code == 0 and out.startswith("the") for code, out, _ in written)
    code, _, err = call(capsys, "generate", made / "teacher", "the", "--dtype", "int8")
    assert code == 1 and "dtype is 'int8'" in err


def test_top1_agreement_stands_beside_nats(made, capsys):
    text = ["--text", made / "text.txt", "--tokens", "256", "--teacher", made / "teacher"]
    found = json.loads(call(capsys, "evaluate", made / "hybrid", *text, "--json")[1])
    assert found["kl"] > 0 and 0 < found["agreement"] < 1
    assert "same likeliest token as the teacher" in call(capsys, "evaluate", made / "hybrid", *text)[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell, capsys, tmp_path):
    pytest.importorskip("shtab")
    code, out, err = call(capsys, "completion", shell)
    assert code == 0, err
    assert all(name in out for name in COMMANDS) and (shell == "tcsh" or "--softmax-layers" in out)
    if shell == "bash" and shutil.which("bash"):
        (tmp_path / "made").write_text(out)
        asked = (
            f"source {tmp_path / 'made'}; COMP_WORDS=(hybridattn quantize --d); COMP_CWORD=2; "
            '_shtab_hybridattn; echo "${COMPREPLY[@]}"'
        )
        assert subprocess.run(["bash", "-c", asked], capture_output=True, text=True).stdout.split() == [
            "--dtype"
        ]


def test_completion_without_shtab(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    code, _, err = call(capsys, "completion", "bash")
    assert code == 1 and "pip install shtab" in err


def test_python_m_hybridattn():
    import sys

    done = subprocess.run([sys.executable, "-m", "hybridattn", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("hybridattn ")
