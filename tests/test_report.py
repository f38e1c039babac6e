"""The report: one set of numbers in three files, a page that stands alone, words that admit a bad result."""

import copy
import json
import re
from html.parser import HTMLParser

import pytest
import report_example

from hybridattn import report
from hybridattn.charts import figure
from hybridattn.report import blocks, document, markdown, numbers, plots, verdict
from hybridattn.report.summary import summary

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects cells, text and attributes; notes tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.errors, self.ids, self.attributes, self.tags = [], [], [], [], []
        self.cells, self.text, self.in_cell = [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
            self.in_cell = True

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(tag)
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        self.text.append(data)
        if self.in_cell:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    results = report_example.results()
    paths = report.write(results, folder)
    texts = {kind: path.read_text(encoding="utf-8") for kind, path in paths.items()}
    return results, folder, texts, Page(texts["html"])


def flat(text):
    return " ".join(text.replace("\u00a0", " ").split())


def test_html_is_well_formed_and_ids_are_unique(written):
    page = written[3]
    assert page.errors == [] and page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_html_stands_alone(written):
    html, page = written[2]["html"], written[3]
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for tag, name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith(("#", "data:")), (tag, value)
    assert not re.search(r"@import|url\((?!#)|https?://(?!www\.w3\.org)", html)
    # every reference inside a chart has its target in the page
    targets = set(re.findall(r"url\(#([^)]+)\)", html)) | {
        value[1:] for _, name, value in page.attributes if name == "href"
    }
    assert targets <= set(page.ids)


def test_the_three_files_hold_the_same_numbers(written):
    results, _, texts, page = written
    tables = [b for b in document.build(results) if isinstance(b, blocks.Table)]
    cells = {flat(cell) for cell in page.cells}
    facts = json.loads(texts["json"])
    for table in tables:
        for cell in (cell for row in table.rows for cell in row):
            assert flat(cell).replace("`", "") in cells
            assert cell in texts["md"]
    for entry in facts["models"]:
        for when in ("before", "after"):
            for cell in (entry[when] or {}).values():
                if entry["id"] in ("uniform", "chosen", "all-linear"):
                    assert numbers.kl(cell["kl"], cell["kl_stderr"]) in texts["md"]
                    assert numbers.perplexity(cell["perplexity"]) in texts["md"]
    assert facts["models"] == results["models"] and facts["scores"] == results["scores"]
    for paragraph in facts["summary"]:
        assert paragraph in texts["md"]
        assert flat(re.sub(r"[*`]", "", paragraph)) in flat("".join(page.text))


def test_all_parts_are_there(written):
    results, folder, texts, page = written
    words = "".join(page.text)
    headings = ["What was gained and lost", "Which layers stay softmax", "Memory and speed", "Training"]
    headings += ["What they write", "How it was made"]
    for part in [*headings, "additivity gap", "softmax layers", "2,048 tokens at a time"]:
        assert part in texts["md"] and part in words
    for name in ("layer_scores", "quality", "cost", "loss"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"figures/{name}.png" in texts["md"]
    assert texts["html"].count("<svg") == 8  # each chart for wide and for narrow screens
    assert results["prompt"] in texts["md"] and results["prompt"] in words


def test_model_output_cannot_break_the_page(written):
    texts = written[2]
    assert "<b>relative" not in texts["html"] and "&lt;b&gt;relative" in texts["html"]
    assert "\\| and the \\*largest\\*" in texts["md"]


def test_charts_follow_the_theme(written):
    svg = written[2]["html"].partition("<svg")[2]
    assert "var(--chosen)" in svg and "var(--ink)" in svg
    assert not [colour for colour in figure.PALETTE.values() if colour in svg]


def test_without_matplotlib(monkeypatch, tmp_path):
    monkeypatch.setattr(plots, "available", lambda: False)
    paths = report.write(report_example.results(), tmp_path)
    text = paths["md"].read_text(encoding="utf-8")
    assert 'pip install "hybridattn[report]"' in text and "figures/" not in text
    assert "| **chosen** | **8** |" in text
    assert "<svg" not in paths["html"].read_text(encoding="utf-8")


def test_the_usual_case_is_told():
    text = summary(report_example.results())[1]
    assert "So yes: the best of the other two is 2." in text and "Not in this run" not in text


def test_a_choice_that_is_worse_is_admitted():
    rows = verdict.comparisons(report_example.results(chosen_kl=0.2))
    assert {r["verdict"] for r in rows if r["when"] == "after" and r["baseline"] == "uniform"} == {"farther"}
    text = summary(report_example.results(chosen_kl=0.2))[1]
    assert "**Not in this run:** the uniform choice is closer to the teacher, beyond what chance" in text
    assert "Distillation did not help" in text


def test_a_difference_within_chance_is_undecided():
    results = report_example.results()
    uniform, chosen = verdict.model(results, "uniform"), verdict.model(results, "chosen")
    chosen["after"] = copy.deepcopy(uniform["after"])
    for cell in chosen["after"].values():
        cell["per_sequence"] = [v + (0.05 if i % 2 else -0.0501) for i, v in enumerate(cell["per_sequence"])]
        cell["kl"] = sum(cell["per_sequence"]) / len(cell["per_sequence"])
    text = summary(results)[1]
    assert "too small to tell from chance" in text


def test_a_run_without_distillation_and_timing_has_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)
    results = report_example.results()
    results["curves"] = {"align": None, "distill": {}}
    results["additivity"] = None
    for entry in results["models"]:
        entry.update(after=None, prefill={}, decode={}, cache=None, sample={})
    text = report.write(results, tmp_path)["md"].read_text(encoding="utf-8")
    assert "no model was distilled" in text and "Before distillation the hybrid" in text
    assert "Memory and speed" not in text and "What they write" not in text


def test_without_distilled_baselines_the_choice_is_judged_before_distillation():
    results = report_example.results()
    for entry in results["models"]:
        if entry["id"] != "chosen":
            entry["after"] = None
    text = summary(results)[1]
    assert "Before distillation the hybrid with these layers is" in text and "So yes" in text


def test_one_sequence_has_no_standard_error(tmp_path, monkeypatch):
    results = report_example.results()
    for entry in results["models"]:
        for when in ("before", "after"):
            for cell in (entry[when] or {}).values():
                cell["per_sequence"], cell["kl_stderr"] = [cell["kl"]], None
    for score in results["scores"]:
        score["stderr"] = [None] * len(score["values"])
    assert plots.quality(results, figure.NARROW) and plots.layer_scores(results, figure.NARROW)
    monkeypatch.setattr(plots, "available", lambda: False)
    text = report.write(results, tmp_path)["md"].read_text(encoding="utf-8")
    assert "too few sequences for a standard error" in text


@pytest.mark.parametrize(
    "made, wanted",
    [
        (numbers.kl(0.05512, 0.0021), "0.0551 ± 0.0021"),
        (numbers.kl(-0.25), "−0.250"),
        (numbers.kl(None), "–"),
        (numbers.kl(1.3421, 0.1), "1.34 ± 0.10"),
        (numbers.perplexity(26.84), "26.8"),
        (numbers.perplexity(12345.6), "12,346"),
        (numbers.size(46080), "45 KiB"),
        (numbers.size(27_340_000), "26.1 MiB"),
        (numbers.size(0), "0 B"),
        (numbers.seconds(0.01412), "14.1 ms"),
        (numbers.seconds(3.171), "3.17 s"),
        (numbers.seconds(119.6), "2 min 00 s"),
        (numbers.seconds(7325), "2 h 02 min"),
        (numbers.times(0.8249), "0.82×"),
        (numbers.percent(0.694), "69%"),
        (numbers.layers([2, 5, 9]), "2, 5 and 9"),
    ],
)
def test_numbers(made, wanted):
    assert made == wanted


def test_json_has_no_nan(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)
    results = report_example.results()
    results["scores"][0]["values"][0] = float("nan")
    with pytest.raises(ValueError):
        report.write(results, tmp_path)
    assert not (tmp_path / "report.md").exists()  # nothing half written


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>",
        "\\<img src=x onerror=alert(1)>",
        "`<img src=x onerror=alert(1)>``",
        "``<img src=x onerror=alert(1)>`",
        "a\n\n<img src=x onerror=alert(1)>",
        "a|b\r\n<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "![a](https://example.com/a.png)",
    ],
)
def test_names_are_text(name, tmp_path):
    """A name from outside begins no tag, link or image, in Markdown and in HTML."""
    results = report_example.results()
    results["title"] = f"{name} with 8 of 30 layers softmax"
    results["teacher"] |= {"name": name, "source": name}
    for score in [*results["scores"], results["chosen"]]:
        score["text"] = name
    results["made"]["machine"]["cpu"] = name
    paths = report.write(results, tmp_path)
    page = Page(paths["html"].read_text(encoding="utf-8"))
    assert not page.errors and "img" not in page.tags
    assert not any(attribute.startswith("on") for _, attribute, _ in page.attributes)
    written = re.sub(r"(?ms)^```.*?^```$", "", paths["md"].read_text(encoding="utf-8"))
    figures = re.findall(r"^!\[[^\]]*\]\(figures/\w+\.png\)$", written, re.M)
    bare = re.sub(r"(?<![\\`])`[^`\n]+`(?!`)", "", re.sub(r"\\\\", "", written))
    assert not re.search(r"(?<!\\)<(?!/?(details|summary)>)", bare)
    assert len(re.findall(r"(?<!\\)\[", bare)) == len(figures)


def test_markdown_knows_every_block():
    with pytest.raises(TypeError):
        markdown.render([object()], None)


def shifted(results, baseline, length, by, noise=0.0):
    """Give a baseline, at a length after distillation, the chosen set's KL plus `by`, with noise in pairs."""
    cell = verdict.model(results, "chosen")["after"][str(length)]
    values = [v + by + (noise if i % 2 else -noise) for i, v in enumerate(cell["per_sequence"])]
    other = verdict.model(results, baseline)["after"][str(length)]
    other.update(per_sequence=values, kl=sum(values) / len(values))


def test_yes_only_against_every_baseline():
    """The nearest baseline is beaten beyond chance, the farther one, which is noisy, is not."""
    results = report_example.results()
    for i in range(3):
        verdict.model(results, f"random-{i}")["after"] = None if i else {"512": {}, "2048": {}}
    cell = copy.deepcopy(verdict.model(results, "uniform")["after"])
    verdict.model(results, "random-0")["after"] = cell
    shifted(results, "uniform", 512, 0.02)
    shifted(results, "random-0", 512, 0.03, noise=0.2)
    text = summary(results)[1]
    assert "So yes" not in text and "the difference to the random choice is too small to tell" in text
    shifted(results, "random-0", 512, 0.03)
    assert "So yes" in summary(results)[1]


def test_what_is_said_of_another_length_follows_its_verdicts():
    results = report_example.results()
    for i in (1, 2):
        verdict.model(results, f"random-{i}")["after"] = None
    shifted(results, "uniform", 2048, 0.01, noise=0.3)
    assert "this much text cannot tell the chosen layers from the uniform" in summary(results)[1]
    shifted(results, "uniform", 2048, 0.1)
    shifted(results, "random-0", 2048, 0.1)
    assert "At 2,048 tokens, too, the chosen layers are closer" in summary(results)[1]
    shifted(results, "uniform", 2048, -0.1)
    assert "At 2,048 tokens the uniform choice is closer to the teacher" in summary(results)[1]


def test_the_random_row_averages_the_same_sets():
    results = report_example.results()
    for i in (1, 2):
        verdict.model(results, f"random-{i}")["after"] = None
    only = verdict.model(results, "random-0")
    for when in ("before", "after"):
        assert verdict.random_mean(results, when, 512)["kl"] == only[when]["512"]["kl"]
    assert verdict.random_mean(report_example.results(), "before", 512)["sets"] == 3
    tables = [b for b in document.build(results) if isinstance(b, blocks.Table)]
    assert any(row[0] == "random, the 1 of 3 sets distilled" for table in tables for row in table.rows)


def test_a_slope_is_not_called_a_divergence(written):
    text = written[2]["md"]
    assert "nats per token and unit of gate" in text and "`kl_gate`, a KL divergence" not in text


def test_stability_is_shown():
    results = report_example.results()
    results["scores"][0]["stability"] = 0.8712
    tables = [b for b in document.build(results) if isinstance(b, blocks.Table) and "stability" in b.header]
    assert tables[0].rows[0][2] == "0.87" and tables[0].rows[1][2] == "–"
