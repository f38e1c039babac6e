"""The command line: help, exit codes, one-line errors, and the five verbs on a tiny model."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import tiny

from hybridattn import checkpoint, choices, glue, radlads, squad
from hybridattn.cli import COMMANDS, load
from hybridattn.cli import main as cli
from hybridattn.data.tokens import TokenData
from hybridattn.errors import DataError
from hybridattn.locks import beside, locked


def call(capsys, *argv):
    """(exit code, stdout, stderr) of a command line, in this process."""
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example(capsys, name):
    code, out, err = call(capsys, name, "--help")
    assert code == 0 and err == ""
    before, _, example = out.rstrip().rpartition("\nexample:\n")
    assert before.startswith(f"usage: hybridattn {name}")
    assert all(line.startswith(f"  hybridattn {name}") for line in example.splitlines())
    for line in example.splitlines():  # it is a command line that the parser takes
        load(name).parser().parse_intermixed_args(shlex.split(line)[2:])


def test_help_lists_the_commands(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0 and all(f"\n  {name} " in out for name in COMMANDS)
    assert call(capsys, "help", "plan")[1].startswith("usage: hybridattn plan")


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; from hybridattn.cli.main import main; main(['run', '--help']); "
        "print([m for m in ('matplotlib', 'tokenizers', 'safetensors', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    "argv, code, message",
    [
        ([], 2, "usage: hybridattn"),
        (["distil"], 2, 'unknown command "distil"; did you mean "distill"?'),
        (["align"], 2, "error: the following arguments are required"),
        (["align", "m", "--text", "t", "--out", "o", "--tokens", "few"], 2, "not a whole number above 0"),
        (["plan", "--ratio", "2"], 2, "'2' is not a number from 0 to 1"),
        (["plan"], 2, "give a file of scores, or one of --uniform, --random, --softmax"),
        (["plan", "--uniform", "--layers", "2"], 2, "--num-layers is needed"),
        *(
            (["plan", "--softmax", bad, "--num-layers", "3"], 2, "is not a list of layers like 3,5,8-10")
            for bad in ("a-b", "", "2-1", "1,,2")
        ),
        (["plan", "--softmax", "1", "--layers", "3", "--num-layers", "4"], 2, "leave out --layers"),
        (["plan", "--random", "-1", "--layers", "3", "--num-layers", "4"], 2, "not a whole number from 0 on"),
        (["score", "m", "--seed", "-1"], 2, "'-1' is not a whole number from 0 on"),
        (
            ["score", "m", "--threads", "99999999999999999999"],
            2,
            "99999999999999999999 is more than 2147483647",
        ),
        (
            ["plan", "--softmax", "0-300000000", "--num-layers", "3"],
            2,
            "is not a list of layers like 3,5,8-10",
        ),
        (["run"], 2, "give a recipe file, or --demo"),
        (["run", "--demo"], 2, "--out is needed"),
        (["run", "--demo", "--out", "x", "--set", "align.token=4"], 1, 'did you mean "tokens"?'),
        (["run", "no.toml", "--out", "x"], 1, "recipe 'no.toml' does not exist"),
        (["evaluate", "no/such/model", "--text", "t"], 1, "error: model is 'no/such/model'"),
        (["evaluate", "m"], 2, "one of the arguments --text --glue --squad is required"),
        *(
            (["evaluate", "m", f"--{kind}", ""], 2, f"--{kind} is ''; allowed: ")
            for kind in ("text", "glue", "squad")
        ),
        *(
            (["evaluate", "m", *kind, "--seed", "-1"], 2, "'-1' is not a whole number from 0 on")
            for kind in (["--glue", "RTE", "--data", "d"], ["--squad", "no.json"])
        ),
        (["generate", "m", "a", "--seed", "-1"], 2, "'-1' is not a whole number from 0 on"),
        (["evaluate", "m", "--glue", "COLT"], 2, "--glue is 'COLT'; allowed: CoLA, SST-2"),
        (["evaluate", "m", "--glue", "RTE"], 2, "--data is needed for RTE"),
        (["evaluate", "m", "--glue", "boolq", "--data", "d"], 2, "--data does not go with boolq"),
        (
            ["evaluate", "m", "--glue", "RTE", "--data", "d", "--split", "dev"],
            2,
            "--split is 'dev'; allowed:",
        ),
        (["evaluate", "m", "--glue", "RTE", "--data", "d", "--stride", "3"], 2, "--stride does not go with"),
        (["evaluate", "m", "--squad", "f", "--data", "d"], 2, "--data does not go with --squad"),
        (["evaluate", "m", "--text", "t", "--shots", "2"], 2, "--shots does not go with --text"),
        (["evaluate", "m", "--glue", "RTE", "--data", "d"], 1, "RTE/dev.tsv: no such file"),
        (["evaluate", "m", "--squad", "no.json"], 1, "no.json: No such file"),
        (["fetch", "glue", "--out", "x", "--tasks", "COLT"], 1, "task is 'COLT'; allowed: CoLA"),
        (["info", "no.json"], 1, "error: "),
        (["generate", "m", "  "], 1, "the prompt is empty"),
        (["plan", "no.json", "--layers", "1"], 1, "no.json"),
    ],
)
def test_errors(capsys, monkeypatch, tmp_path, argv, code, message):
    monkeypatch.chdir(tmp_path)
    found, out, err = call(capsys, *argv)
    assert (found, out) == (code, "")
    assert message in err
    if argv:
        assert err.startswith("error: ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_and_bugs(capsys, monkeypatch):
    monkeypatch.setattr(cli, "load", lambda name: (_ for _ in ()).throw(KeyboardInterrupt))
    assert call(capsys, "info")[0] == 130
    monkeypatch.setattr(cli, "load", lambda name: (_ for _ in ()).throw(KeyError("bug")))
    with pytest.raises(KeyError):  # a bug keeps its traceback
        cli.main(["info"])


def test_out_of_memory_says_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr(cli, "load", lambda name: (_ for _ in ()).throw(MemoryError("arena of 9 GiB")))
    code, _, err = call(capsys, "info")
    assert code == 1 and "arena of 9 GiB; use a smaller batch size" in err


def test_show_recipe_is_a_recipe(capsys, tmp_path):
    code, out, _ = call(capsys, "run", "--demo", "--set", "seed=5", "--show-recipe")
    (tmp_path / "r.toml").write_text(out)
    assert code == 0 and out.startswith("seed = 5  # ")
    assert call(capsys, "run", tmp_path / "r.toml", "--show-recipe")[1] == out


def test_plan_without_scores(capsys, tmp_path):
    code, out, _ = call(capsys, "plan", "--uniform", "--num-layers", 8, "--layers", 2, "--json")
    assert code == 0 and json.loads(out)["softmax_layers"] == [3, 7]
    code, out, _ = call(capsys, "plan", "--softmax", "0,2-3", "--num-layers", 4, "--out", tmp_path / "p.json")
    assert code == 0 and "0 2 3" in out and "■·■■" in out
    assert call(capsys, "info", tmp_path / "p.json")[1].count("0 2 3") == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory, one_thread):
    """A teacher, a text, and what align made of them."""
    folder = tmp_path_factory.mktemp("cli")
    tiny.teacher(layers=3).save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text(tiny.TEXT * 2, encoding="utf-8")
    paths = [str(folder / "teacher"), "--text", str(folder / "text.txt"), "--out", str(folder / "probe")]
    size = ["--tokens", "512", "--seq-len", "32", "--batch-size", "4", "--option", "window=8"]
    assert cli.main(["align", *paths, *size, "--quiet"]) == 0
    return folder


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


def test_glue_and_squad(capsys, folder, tmp_path):
    """Scores, a comparison with a teacher, predictions; a model compared with itself differs in nothing."""
    pytest.importorskip("sklearn")
    head, rows = "index\tsentence1\tsentence2\tlabel", ["It rains.\tIt is wet.", "A cat.\tNo cat."] * 3
    lines = [f"{i}\t{row}\t{('not_' * (i % 2))}entailment" for i, row in enumerate(rows)]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("\n".join([head, *lines]) + "\n")
    (tmp_path / "test.tsv").write_text("index\tsentence1\tsentence2\n9\tA.\tB.\n")
    models = [folder / "teacher", "--teacher", folder / "teacher"]
    code, out, _ = call(capsys, "evaluate", *models, "--glue", "rte", "--data", tmp_path, "--limit", 5,
                        "--predictions", tmp_path / "out", "--json")  # fmt: skip
    found = json.loads(out)
    assert code == 0 and found["examples"] == 5 and found["accuracy"] in {i / 5 for i in range(6)}
    assert found["accuracy_difference"] == 0.0 and found["accuracy_difference_interval"] == [0.0, 0.0]
    written = json.loads((tmp_path / "out" / "RTE.json").read_text())
    assert len(written["predictions"][0]["choice_scores"]) == 2 and written["settings"]["set"] == "RTE"
    assert (tmp_path / "out" / "RTE.tsv").read_text().startswith("index\tprediction\n0\t")
    size = ["--glue", "RTE", "--data", tmp_path]
    code, out, _ = call(capsys, "evaluate", folder / "teacher", *size, "--shots", 2, "--normalize", "bytes")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["examples", "accuracy"]
    code, out, _ = call(
        capsys, "evaluate", folder / "teacher", *size, "--split", "test", "--predictions", tmp_path
    )
    assert code == 0 and "accuracy" not in out and (tmp_path / "RTE.tsv").read_text().count("\n") == 2
    qas = [
        {"id": str(i), "question": "Who?", "answers": [{"text": "Bob", "answer_start": 0}]} for i in range(4)
    ]
    paragraph = {"context": "Bob sat.", "qas": qas}
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    size = ["--squad", tmp_path / "dev.json", "--limit", 3, "--predictions", tmp_path / "out"]
    code, out, _ = call(capsys, "evaluate", *models, *size, "--shots", 1, "--json")
    found = json.loads(out)
    assert code == 0 and found["f1_difference"] == 0.0 and found["total"] == 3
    assert set(json.loads((tmp_path / "out" / "dev.predictions.json").read_text())) == {"0", "1", "2"}
    code, _, err = call(capsys, "evaluate", folder / "teacher", *size, "--shots", 2)
    assert code == 2 and "--limit leaves 1 other questions" in err and err.count("\n") == 1


@pytest.fixture
def sets(tmp_path):
    """What `evaluate` needs for six examples of RTE, and for four of SQuAD."""
    lines = [f"{i}\tIt rains {i}.\tIt is wet.\t{('not_' * (i % 2))}entailment" for i in range(6)]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text(
            "\n".join(["index\tsentence1\tsentence2\tlabel", *lines]) + "\n"
        )
    gold = {"text": "Bob", "answer_start": 0}
    qas = [{"id": str(i), "question": "Who?", "answers": [gold]} for i in range(4)]
    paragraphs = [{"context": "Bob sat.", "qas": qas}]
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return {"glue": ["--glue", "RTE", "--data", tmp_path], "squad": ["--squad", tmp_path / "dev.json"]}


def test_shots_do_not_show_the_answers_that_are_asked(capsys, folder, sets, monkeypatch):
    pytest.importorskip("sklearn")
    pools = []
    real = choices.draw
    monkeypatch.setattr(choices, "draw", lambda n, pool, seed: pools.append(pool) or real(n, pool, seed))
    size = [folder / "teacher", *sets["glue"], "--split", "train"]
    assert call(capsys, "evaluate", *size, "--limit", 4, "--shots", 2)[0] == 0
    assert [e.id for e in pools[0].examples] == ["4", "5"]
    for limit, left in ((["--limit", 5], 1), ([], 0)):
        code, _, err = call(capsys, "evaluate", *size, *limit, "--shots", 2)
        assert code == 2 and f"--limit leaves {left} other questions" in err and err.count("\n") == 1


@pytest.mark.parametrize("kind", ["glue", "squad"])
def test_predictions_are_kept_when_scoring_fails(capsys, folder, sets, kind, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")

    def fail(*args, **options):
        raise DataError("no scores today")

    monkeypatch.setattr({"glue": glue, "squad": squad}[kind], "evaluate", fail)
    out = tmp_path / "out"
    code, _, err = call(
        capsys, "evaluate", folder / "teacher", *sets[kind], "--limit", 2, "--predictions", out
    )
    assert (code, err) == (1, "error: no scores today\n")
    sheet = json.loads((out / {"glue": "RTE.json", "squad": "dev.json"}[kind]).read_text())
    assert len(sheet["predictions"]) == 2 and sheet["scores"] == {}


def test_what_metrics_need_is_looked_for_before_the_model(capsys, sets, monkeypatch):
    for name in ("sklearn", "sklearn.metrics"):
        monkeypatch.setitem(sys.modules, name, None)
    code, _, err = call(capsys, "evaluate", "no/such/model", *sets["glue"])
    assert code == 1 and "pip install hybridattn[eval]" in err and err.count("\n") == 1
    (sets["glue"][-1] / "test.tsv").write_text("index\tsentence1\tsentence2\n9\tA.\tB.\n")
    code, _, err = call(capsys, "evaluate", "no/such/model", *sets["glue"], "--split", "test")
    assert "model is 'no/such/model'" in err  # without labels there is nothing to score


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


def distillation(folder, out, *more):
    plan = folder / "one.json"
    cli.main(["plan", "--softmax", "1", "--num-layers", "3", "--out", str(plan)])
    paths = [folder / "probe", "--plan", plan, "--text", folder / "text.txt", "--out", out, "--quiet"]
    size = ["--seq-len", 32, "--batch-size", 2, "--tokens", 256, "--finetune-tokens", 256]
    return ["distill", *paths, *size, *more]


def test_an_interrupted_fine_tuning_goes_on(capsys, folder, tmp_path, monkeypatch):
    """Step 3 is taken up where it was, step 2 is not trained again, and the end is the same."""
    from hybridattn.radlads import loop as training

    assert call(capsys, *distillation(folder, tmp_path / "straight"))[0] == 0
    real, ran = training._Trainer._slice, []

    def stop(self, distiller, start, end):
        if self.training.label == "finetune" and start >= 2:
            raise KeyboardInterrupt
        real(self, distiller, start, min(end, start + 1))

    def watch(self, distiller, start, end):
        ran.append((self.training.label, start))
        real(self, distiller, start, end)

    monkeypatch.setattr(training._Trainer, "_slice", stop)
    assert call(capsys, *distillation(folder, tmp_path / "again"))[0] == 130
    monkeypatch.setattr(training._Trainer, "_slice", watch)
    assert call(capsys, *distillation(folder, tmp_path / "again"))[0] == 0
    assert ran[0] == ("finetune", 2) and {label for label, _ in ran} == {"finetune"}
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "again")]
    assert files[0] == files[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "straight"]


def test_an_output_folder_is_for_one_run(capsys, folder, tmp_path):
    lock = beside(tmp_path / "out", "lock")
    with locked(lock):
        code, _, err = call(capsys, *distillation(folder, tmp_path / "out"))
    assert code == 1 and f"another run (process {os.getpid()}) writes here" in err
    lock.write_text("999999999\n")  # left by a process that is no more
    assert call(capsys, *distillation(folder, tmp_path / "out"))[0] == 0
    assert not lock.exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_keeps_what_was_done(folder, tmp_path, name):
    out = tmp_path / "out"
    long = [str(a) for a in distillation(folder, out, "--tokens", 20_000_000)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored, and the command respects that
    try:
        run = subprocess.Popen([sys.executable, "-m", "hybridattn", *long], env=environment,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    finally:
        signal.signal(number, before)
    with run:
        try:
            saved = beside(out, "checkpoint") / "checkpoint.safetensors"
            deadline = time.monotonic() + 60
            while not saved.exists() and time.monotonic() < deadline:  # its 300,000 steps take far longer
                time.sleep(0.05)
            run.send_signal(number)
            error = run.communicate(timeout=60)[1]
        finally:
            run.kill()
    assert run.returncode == 130 and "stopped; what was finished is kept" in error
    assert checkpoint.load(saved).position["step"] >= 100
    assert not beside(out, "lock").exists()


def test_signals_are_given_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    call(capsys, "info", "no.json")
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_recipe_that_is_read_is_not_written_over(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = f'# mine\n[teacher]\nmodel = "{folder / "teacher"}"\n'
    (tmp_path / "recipe.toml").write_text(recipe)
    code, _, err = call(capsys, "run", "recipe.toml", "--out", ".")
    assert code == 1 and "would write over the recipe 'recipe.toml'" in err
    assert (tmp_path / "recipe.toml").read_text() == recipe


def test_the_demo_evaluates_on_less_text(capsys):
    assert "tokens = 4096" in call(capsys, "run", "--demo", "--show-recipe")[1]
    shown = call(capsys, "run", "--set", "seed=0", "--show-recipe")[1]
    assert "tokens = 16384" in shown and "lr = 0.0  # the one of window_linear: 0.01" in shown
    shown = call(capsys, "run", "--mixer", "gated_delta", "--show-recipe")[1]
    assert "# the one of gated_delta: 0.006" in shown
    assert call(capsys, "run", "x.toml", "--demo", "--out", "y")[0] == 2
