"""align, score, plan, distill, generate and info in turn on a tiny model."""

import json

import pytest
import tiny
from command import call

from hybridattn import radlads
from hybridattn.data.tokens import TokenData


def test_plan_without_scores(capsys, tmp_path):
    code, out, _ = call(capsys, "plan", "--uniform", "--num-layers", 8, "--layers", 2, "--json")
    assert code == 0 and json.loads(out)["softmax_layers"] == [3, 7]
    code, out, _ = call(capsys, "plan", "--softmax", "0,2-3", "--num-layers", 4, "--out", tmp_path / "p.json")
    assert code == 0 and "0 2 3" in out and "■·■■" in out
    assert call(capsys, "info", tmp_path / "p.json")[1].count("0 2 3") == 1


@pytest.mark.parametrize("command", ["align", "distill"])
def test_the_model_to_read_is_not_written_over(capsys, folder, command):
    source = folder / ("teacher" if command == "align" else "probe")
    more = ["--plan", folder / "none.json"] if command == "distill" else []
    code, _, err = call(capsys, command, source, "--text", folder / "text.txt", "--out", source, *more)
    assert code == 1 and "is the model to read; give another folder" in err


def test_the_verbs_in_turn(capsys, folder):
    text, probe, plan, hybrid = folder / "text.txt", folder / "probe", folder / "plan.json", folder / "hybrid"
    common = ["--seq-len", 32, "--json"]
    code, out, _ = call(capsys, "score", probe, "--method", "kl_replace", "--tokens", 128, *common,
                        "--out", folder / "scores.json", "--quiet")  # fmt: skip
    scores = json.loads(out)
    assert code == 0 and len(scores["values"]) == 3 and sorted(scores["order"]) == [0, 1, 2]
    code, out, _ = call(capsys, "plan", folder / "scores.json", "--layers", 1, "--out", plan, "--json")
    assert code == 0 and json.loads(out)["softmax_layers"] == scores["order"][:1]
    code, out, _ = call(capsys, "distill", probe, "--plan", plan, "--text", text, "--tokens", 256, *common,
                        "--batch-size", 2, "--finetune-tokens", 128, "--out", hybrid, "--quiet")  # fmt: skip
    trained = json.loads(out)
    assert code == 0 and trained["steps"] == 4 and trained["finetune"]["steps"] == 2
    code, out, _ = call(capsys, "evaluate", hybrid, "--text", text, "--teacher", folder / "teacher", *common)
    found = json.loads(out)
    assert code == 0 and found["perplexity"] > 1 and found["kl"] > 0
    code, out, _ = call(capsys, "generate", hybrid, "The mill", "--max-tokens", 5, "--json")
    assert code == 0 and json.loads(out)["prompt"] == "The mill"
    whole = call(capsys, "generate", hybrid, "The mill", "--max-tokens", 5)[1]
    assert whole == "The mill" + json.loads(out)["text"] + "\n"
    for more in ([], ["--draft", "lookup"], ["--draft", folder / "teacher"]):
        guessed = call(capsys, "generate", hybrid, "The mill", "--max-tokens", 5, "--speculative", 3, *more)
        assert guessed[:2] == (0, whole)
    code, out, _ = call(capsys, "info", hybrid)
    assert code == 0 and "window_linear layers" in out
    assert not list(folder.glob("*.checkpoint"))


def test_tables_are_for_people(capsys, folder):
    code, out, _ = call(capsys, "score", folder / "probe", "--tokens", 128, "--seq-len", 32, "--quiet")
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == ["layer", "score", "rank"] and len(lines) == 4


@pytest.mark.parametrize("text, sequences", [
    ("recall", 4),
    ("recall+{text}", 3),  # the part of this text that is set aside for scores is one window long
    ("{text}", 1),
    ("diagnostic:associative_recall", 4),
    ("diagnostic:associative_recall+{text}+recall", 3),
])  # fmt: skip
def test_scores_are_read_on_any_text(capsys, folder, text, sequences):
    text = text.format(text=folder / "text.txt")
    code, out, err = call(capsys, "score", folder / "probe", "--text", text, "--tokens", 512,
                          "--seq-len", 128, "--json", "--quiet")  # fmt: skip
    found = json.loads(out)
    assert (code, err) == (0, "") and found["sequences"] == sequences
    assert found["cost"]["forwards"] == pytest.approx(3.0)  # (L + 1) / 2 for the layers, and the teacher


def test_an_empty_name_is_no_folder(capsys, folder, tmp_path, monkeypatch):
    """A variable that is not set must not mean the current folder."""
    monkeypatch.chdir(folder)
    for command in (
        ["align", folder / "teacher", "--text", "", "--out", tmp_path / "x"],
        ["score", folder / "probe", "--text", "+text.txt"],
    ):
        code, out, err = call(capsys, *command)
        assert (code, out) == (1, "") and "--text is ''; allowed: a file or folder" in err
    code, _, err = call(capsys, "run", "--demo", "--set", "text.train=", "--out", tmp_path / "y")
    assert code == 1 and "text.train is ''; allowed: a file or folder" in err


def test_searches_and_shards(capsys, folder):
    size = [folder / "probe", "--tokens", 128, "--seq-len", 32, "--layers", 1, "--quiet", "--json"]
    code, out, _ = call(capsys, "score", *size, "--method", "kl_greedy_add", "--swaps", 1)
    assert code == 0 and sorted(json.loads(out)["order"]) == [0, 1, 2]
    code, out, _ = call(capsys, "score", *size, "--method", "kl_joint", "--steps", 3)
    assert code == 0 and json.loads(out)["cost"]["forwards"] == pytest.approx(3 * 3 + 2)
    work = ["--method", "kl_restore_distilled", "--train", folder / "text.txt", "--folder", folder / "work",
            "--steps", 1]  # fmt: skip
    code, out, err = call(capsys, "score", *size, *work, "--shard", "0/2")
    assert (code, out) == (75, "") and "shard 0/2 is done with 1 steps; 2 candidates" in err
    code, out, _ = call(capsys, "score", *size, *work, "--shard", "1/2", "--out", folder / "shared.json")
    assert code == 0 and (folder / "shared.json").exists()
    merged = call(capsys, "score", *size, *work)[1]
    assert json.loads(merged)["values"] == json.loads(out)["values"]
    assert "is not a shard like 0/2" in call(capsys, "score", *size, "--shard", "1")[2]
    assert "train is None" in call(capsys, "score", *size, "--method", "kl_restore_distilled")[2]
    assert "options of kl_replace is 'swaps'; allowed: none" in call(capsys, "score", *size, "--swaps", 1)[2]


def test_results_into_a_new_folder(capsys, folder, tmp_path):
    """A folder that is missing is made before the work, not missed after it."""
    scores, made = tmp_path / "new" / "s.json", tmp_path / "other" / "p.json"
    size = ["--tokens", 64, "--seq-len", 32, "--quiet"]
    assert call(capsys, "score", folder / "probe", *size, "--out", scores)[0] == 0
    assert call(capsys, "plan", scores, "--layers", 1, "--out", made)[0] == 0 and made.exists()


@pytest.mark.parametrize("command", ["align", "score", "distill"])
def test_windows_longer_than_the_positions(capsys, folder, tmp_path, command):
    model = folder / ("teacher" if command == "align" else "probe")
    more = ["--plan", folder / "plan.json"] if command == "distill" else []
    more += [] if command == "score" else ["--out", tmp_path / "out"]
    source = "recall" if command == "score" else folder / "text.txt"
    text = ["--text", source, "--tokens", 512, "--seq-len", 512, "--quiet"]
    if command == "distill":
        call(capsys, "plan", "--uniform", "--layers", 1, "--num-layers", 3, "--out", folder / "plan.json")
    code, _, err = call(capsys, command, model, *text, *more)
    assert code == 1 and "seq_len is 512; allowed: at most the model's 256 positions" in err


def test_plans_within_a_budget(capsys, folder):
    scores, probe, fast = folder / "few.json", folder / "probe", folder / "fast.json"
    assert call(capsys, "score", probe, "--tokens", 64, "--seq-len", 32, "--out", scores, "--quiet")[0] == 0
    size = ["plan", scores, "--context", 100, "--json"]
    measure = ["--model", probe]
    code, out, _ = call(capsys, *size, "--ms-per-token", 1e6, *measure, "--out", fast)
    made = json.loads(out)
    assert code == 0 and made["softmax_layers"] == [0, 1, 2]
    assert made["how"]["budget"] == {"ms_per_token": 1e6}
    costs = made["how"]["costs"]
    assert costs["mixer"]["kind"] == "window_linear" and costs["threads"] >= 1
    half = (costs["all_softmax"]["cache_bytes"] + costs["all_linear"]["cache_bytes"]) / 2
    code, out, _ = call(capsys, *size, "--cache-bytes", half, "--costs", fast)  # nothing is timed again
    assert code == 0 and len(json.loads(out)["softmax_layers"]) == 1
    assert json.loads(out)["how"]["costs"] == costs
    for more, message in (
        (["--cache-bytes", 1, "--costs", fast], "allowed: "),
        (["--cache-bytes", 1], "a budget needs --model"),
        (["--cache-bytes", 1, "--layers", 1], "give --layers, --ratio, or a budget"),
        (
            ["--cache-bytes", 1, "--costs", fast, "--context", 7],
            "context is 100, not 7; measure",
        ),
    ):
        code, _, err = call(capsys, *size, *more)
        assert code != 0 and message in err


def test_a_mixer_option_must_be_a_number(capsys, folder):
    code, _, err = call(
        capsys,
        "align",
        folder / "teacher",
        "--text",
        folder / "text.txt",
        "--option",
        "window=big",
        "--out",
        folder / "no",
        "--tokens",
        512,
        "--seq-len",
        32,
    )
    assert code == 1 and "write it as NAME=NUMBER" in err and not (folder / "no").exists()


def test_steps_read_text_that_has_nothing_in_common(capsys, folder, tmp_path, monkeypatch):
    """align, score and distill on one file: three regions of it."""
    text, streams = tmp_path / "text.txt", {}
    text.write_text("".join(f"Sentence {i} tells of {i * i}. " for i in range(3000)), encoding="utf-8")
    for name in ("align", "distill"):
        real = getattr(radlads, name)

        def watch(*args, name=name, real=real, **options):
            streams[name] = next(a for a in args if isinstance(a, TokenData)).tokens.tobytes()
            return real(*args, **options)

        monkeypatch.setattr(radlads, name, watch)
    size = ["--tokens", 256, "--seq-len", 32, "--quiet"]
    paths = [folder / "teacher", "--text", text, "--out", tmp_path / "probe"]
    assert call(capsys, "align", *paths, *size, "--batch-size", 2)[0] == 0
    code, out, _ = call(capsys, "score", tmp_path / "probe", "--text", text, *size, "--json")
    assert code == 0 and json.loads(out)["text"] == "text.txt"
    call(capsys, "plan", "--softmax", "1", "--num-layers", 3, "--out", tmp_path / "plan.json")
    paths = [tmp_path / "probe", "--plan", tmp_path / "plan.json", "--out", tmp_path / "hybrid"]
    assert call(capsys, "distill", *paths, "--text", text, *size, "--batch-size", 2)[0] == 0
    from hybridattn.data.split import Texts

    regions = Texts(text).regions
    whole = tiny.tokenizer().encode("".join(regions["training"]))
    assert len(whole) > 512
    assert [len(streams[name]) for name in ("align", "distill")] == [256 * 4] * 2
    assert streams["align"] + streams["distill"] == TokenData.from_text(
        regions["training"], tiny.tokenizer(), 32, 512
    ).tokens.tobytes()  # fmt: skip
    assert not set(regions["scoring"]) & set(regions["training"])
