"""The command line: help, exit codes and one-line errors."""

import shlex
import subprocess
import sys

import pytest
from command import call

from hybridattn.cli import COMMANDS, load
from hybridattn.cli import main as cli


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


@pytest.mark.parametrize(
    "argv, heavy",
    [
        (["--help"], ("numpy", "tokenizers", "tqdm", "hybridattn._core")),
        (["aling"], ("numpy", "tokenizers", "tqdm", "hybridattn._core")),
        (["run", "--help"], ("matplotlib", "jinja2", "sklearn", "scipy", "gguf")),
    ],
)
def test_help_is_quick_and_loads_nothing_heavy(argv, heavy):
    code = (
        f"import sys; from hybridattn.cli.main import main; main({argv}); "
        f"print([m for m in {heavy} if m in sys.modules])"
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


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    """The reference page is made from these texts, and cannot be made without one."""
    assert [action.dest for action in load(name).parser()._actions if not action.help] == []
