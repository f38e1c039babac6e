"""README and docs: their shape, their links, their code blocks on a tiny model, their figure."""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import textwrap
from functools import cache
from pathlib import Path

import pytest
import tiny

import hybridattn
from hybridattn.cli import main as cli

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
FENCE = re.compile(r"^(`{3,})(\S*)[^\n]*\n(.*?)^\1`*[ \t]*$", re.MULTILINE | re.DOTALL)
RUN = {  # page: what its code prints on the tiny model, among other things
    "README.md": ("nats from the teacher",),
    "docs/tutorial.md": ("softmax: ", "all linear", "after step 2", "bytes of cache a token"),
    "docs/how-to/own-text.md": ("windows, ", "% of the tokens count"),
    "docs/how-to/notebooks.md": ("LayerScores(kl_gate", "3 of 8 layers softmax", "all linear"),
    "docs/how-to/resume.md": (),
    "docs/how-to/threads.md": ("1",),
}


def pages() -> list[Path]:
    names = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "findings/README.md")
    return [ROOT / name for name in names] + sorted((ROOT / "docs").rglob("*.md"))


def prose(text: str) -> str:
    """`text` without fenced blocks and code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


@cache
def anchors(page: Path) -> set[str]:
    """What GitHub and the site make of a page's headings."""
    found: set[str] = set()
    for title in re.findall(
        r"^#{1,6}[ \t]+(.*?)[ \t]*#*$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE
    ):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        slug = base = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while slug in found:
            number += 1
            slug = f"{base}-{number}"
        found.add(slug)
    return found


def broken(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere inside the repository."""
    found = []
    for target in LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(page):
    assert broken(page, page.read_text(encoding="utf-8")) == []


def test_a_link_that_leads_nowhere_is_found():
    page = ROOT / "docs" / "index.md"
    text = "[a](none.md) [b](index.md#none) `[c](none.md)` [d](index.md#hybridattn) [e](https://none.example)"
    assert broken(page, text) == ["none.md", "index.md#none"]


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 90
    assert [line for line in lines if len(line) > 100] == []
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) - 2 <= 6  # rows of one table


def long_paragraphs(text: str) -> list[str]:
    """The beginnings of paragraphs and list items above five lines of 130 characters; tables, headings and
    code do not count.
    """
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", FENCE.sub("", text)):
        for item in re.split(r"\n(?=\s*(?:[-*]|\d+\.) )", paragraph.strip("\n")):
            code = item.startswith("    ")
            if item.strip() and not code and not item.lstrip().startswith(("|", "#", ":::")):
                lines = textwrap.wrap(" ".join(item.split()), 130, break_long_words=False)
                found += [lines[0]] if len(lines) > 5 else []
    return found


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_paragraphs_are_at_most_five_lines(page):
    assert long_paragraphs(page.read_text(encoding="utf-8")) == []


def test_a_long_paragraph_is_found():
    short, long = "A word. " * 80, "A word. " * 90
    assert long_paragraphs(f"{short}\n\n- {short}\n- {short}\n\n| {long} |\n\n    {long}") == []
    assert len(long_paragraphs(f"{long}\n\n- {short}\n- {long}\n")) == 2


def test_ci_runs_the_commands_of_the_readme():
    readme, ci = (
        (ROOT / "README.md").read_text(encoding="utf-8"),
        (ROOT / ".ci" / "run").read_text(encoding="utf-8"),
    )
    assert "\n    make test " in readme and re.search(r"^step test .*make test$", ci, re.MULTILINE)


def test_the_figure_is_the_one_that_its_script_draws():
    spec = importlib.util.spec_from_file_location("readme_figure", ROOT / "benchmarks" / "readme_figure.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    results = json.loads(script.RESULTS.read_text(encoding="utf-8"))
    assert script.FIGURE.read_text(encoding="utf-8") == script.draw(script.rows(results))


@pytest.fixture
def tiny_machine(tmp_path, monkeypatch):
    """A folder in which `smollm2-135m` is a tiny model of as many layers, and the texts are short."""
    smaller = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16}
    teacher = tiny.teacher(layers=30, max_position_embeddings=1024, **smaller)
    marks = "{% for m in messages %}{{ '[' + m.role + ']' + m.content + '<eos>' }}{% endfor %}"
    teacher.tokenizer.chat_template = marks + "{% if add_generation_prompt %}[assistant]{% endif %}"
    teacher.save_pretrained(tmp_path / "smollm2-135m")
    (tmp_path / "wikipedia").mkdir()
    for name in ("wikipedia", "wikipedia-heldout"):
        lines = "".join(
            json.dumps({"text": tiny.TEXT[i:] + tiny.TEXT[:i]}) + "\n" for i in range(0, 4000, 200)
        )
        (tmp_path / "wikipedia" / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "your.txt").write_text(tiny.TEXT, encoding="utf-8")
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    threads = hybridattn.get_num_threads()
    hybridattn.set_num_threads(1)
    yield tmp_path
    hybridattn.set_num_threads(threads)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [body for _, info, body in FENCE.findall(text) if info == language]


@pytest.mark.parametrize("page", RUN)
def test_code_blocks_run(page, tiny_machine):
    """One after the other in one namespace, as a reader would type them."""
    names: dict[str, object] = {"__name__": "page"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, block in enumerate(blocks(page, "python")):
            exec(compile(block, f"{page}, block {number}", "exec"), names)
    for text in RUN[page]:
        assert text in printed.getvalue()


def test_the_check_of_own_mixer_tells_right_from_wrong():
    """The page's lines on the mixer of the notebook it names, and on one whose gradient lacks a factor."""
    notebook = json.loads((ROOT / "notebooks" / "own_mixer.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for source in (cells[0], cells[1].partition("ha.register_mixer(")[0]):
        exec(source, names)
    own = {name: names[name] for name in ("forward", "vjp", "step", "parameters", "init", "state")}

    def wrong(p, saved, dy):
        dx, grads = own["vjp"](p, saved, dy)
        return dx, {name: 0.9 * grad for name, grad in grads.items()}

    for kind, functions in (("my_kind", own), ("my_wrong_kind", {**own, "vjp": wrong})):
        if kind not in hybridattn.mixers():
            hybridattn.register_mixer(kind, **functions)
    (block,) = blocks("docs/how-to/own-mixer.md", "python")
    exec(block, {})
    with pytest.raises(AssertionError, match=r"fails 1 of its checks\ngradients: "):
        exec(block.replace("my_kind", "my_wrong_kind"), {})


def test_the_commands_of_the_tutorial_run(tiny_machine):
    commands = "".join(blocks("docs/tutorial.md", "console")).replace("\\\n", " ").splitlines()
    ours = [shlex.split(line)[2:] for line in commands if line.startswith("$ hybridattn ")]
    assert [arguments[0] for arguments in ours] == [
        "align", "score", "plan", "distill", "evaluate", "generate", "run",
    ]  # fmt: skip
    for arguments in ours[:-1]:  # `run` has tests of its own
        assert cli.main(arguments) == 0, arguments
    assert (tiny_machine / "hybrid" / "config.json").is_file()


def test_commands_that_pages_show_are_understood():
    """Every `hybridattn` command of every page is parsed by its command's own parser."""
    from hybridattn.cli import load

    seen = 0
    for page in pages():
        for body in blocks(str(page.relative_to(ROOT)), "console"):
            for line in body.replace("\\\n", " ").splitlines():
                if not line.startswith("$ hybridattn ") or " ... " in line:
                    continue
                arguments = [a for a in shlex.split(line.removeprefix("$ "), comments=True) if a != "&"]
                load(arguments[1]).parser().parse_intermixed_args(arguments[2:])
                seen += 1
    assert seen > 15
