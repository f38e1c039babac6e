"""How results look: one line in a terminal, small HTML in a notebook, a chart, a table."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import hybridattn as ha
from hybridattn import testing
from hybridattn.errors import ConfigError
from hybridattn.results import markup
from hybridattn.select import LayerScores

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def job():
    teacher, data = testing.tiny_model(layers=4), testing.tiny_text(4)
    probe = ha.align(teacher, {"kind": "gated_delta"}, data, steps=3, batch_size=2, progress=False)
    scores = ha.score(probe, data, "kl_gate", progress=False)
    hybrid = probe.to_hybrid(ha.plan.make(scores, k=2))
    return {
        "teacher": teacher, "data": data, "probe": probe, "scores": scores, "hybrid": hybrid,
        "plan": hybrid.plan, "training": probe.train_result,
        "kl": ha.evaluate.kl(hybrid, teacher, data), "perplexity": ha.evaluate.perplexity(hybrid, data),
        "cache": filled(hybrid),
        "fixed": ha.score(probe, None, "uniform"), "table": ha.evaluate.compare({"x": hybrid}, data, teacher),
    }  # fmt: skip


def filled(model):
    """A cache of sequences of unlike lengths."""
    cache = model.cache(2, "f16")
    tokens = np.ones((2, 5), np.int32)
    model.logits(tokens, mask=np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], bool), cache=cache)
    return cache


SAID = {
    "cache": "Cache(2 sequences of 3 to 5 tokens, f16, ",
    "hybrid": "layers: 2 softmax, 2 gated_delta",
    "scores": "LayerScores(kl_gate of gated_delta, 4 layers, 4 sequences of tiny, best {",
    "fixed": "LayerScores(uniform of gated_delta, 4 layers, 0 sequences",
    "plan": "Plan(2 of 4 layers softmax by kl_gate, the others gated_delta: [",
    "training": "TrainResult(3 steps, loss ",
    "data": "TokenData(tiny: 4 windows of up to 32, 128 tokens)",
    "kl": "Divergence(kl=",
    "perplexity": "Perplexity(perplexity=",
}


@pytest.mark.parametrize("name", SAID)
def test_one_line(job, name):
    said = repr(job[name])
    assert SAID[name] in said and "\n" not in said and len(said) < 200


@pytest.mark.parametrize("name", [*SAID, "teacher", "probe", "table"])
def test_html_is_small_whole_and_without_a_script(job, name):
    """It is well-formed, loads nothing, and sets no colour of text that a dark page would swallow."""
    html = job[name]._repr_html_()
    tree = ElementTree.fromstring(html)
    assert len(html) < 20_000
    assert {element.tag for element in tree.iter()} <= {
        "div", "b", "svg", "rect", "title", "path", "text", "polyline", "table", "tr", "td", "th",
    }  # fmt: skip
    for word in ("<script", "http", "color:#", "background"):
        assert word not in html
    assert "nan" not in html


def test_marks(job):
    """As many filled squares as softmax layers; a bar and a whisker for each layer."""
    assert job["plan"]._repr_html_().count(f"fill='{markup.CHOSEN}'") == 2
    html = job["scores"]._repr_html_()
    assert html.count(f"fill='{markup.CHOSEN}'") == 1 and html.count(f"fill='{markup.PLAIN}'") == 3
    assert html.count("<path") == 4 + 1
    strange = LayerScores("<b>&", np.array([[np.inf, 1.0], [0.5, -2.0]]))._repr_html_()
    assert "&lt;b&gt;&amp;" in strange and "nan" not in strange


def test_bytes_of_a_cache_by_layer_and_kind(job):
    """They add up; a layer between both mixers holds both; an empty cache is shown too."""
    cache, probe = job["cache"], job["probe"]
    kinds = [spec["kind"] for (spec,) in job["hybrid"].layers]
    assert [list(layer) for layer in cache.layer_bytes()] == [[kind] for kind in kinds]
    assert sum(sum(layer.values()) for layer in cache.layer_bytes()) == cache.nbytes
    assert repr(cache).endswith(f", {cache.nbytes} bytes)")
    html = cache._repr_html_()
    assert "3, 5" in html and all(f">{kind}<" in html for kind in kinds) and f"{cache.nbytes:,}" in html
    assert cache == cache and cache != cache.fork() and cache != 3
    probe.gates[1] = 0.5
    assert list(probe.cache().layer_bytes()[1]) == ["softmax", "gated_delta"]
    assert "softmax + gated_delta" in probe.cache()._repr_html_()
    probe.gates[:] = 1
    assert repr(probe.cache()).startswith("Cache(1 sequence of 0 tokens, f32, ")


def test_charts_and_tables(job):
    pytest.importorskip("matplotlib")
    pandas = pytest.importorskip("pandas")
    for name in ("scores", "fixed", "plan", "training", "table"):
        (axis, *_) = job[name].plot().axes
        assert axis.get_xlabel()
        assert job[name].plot()._repr_png_().startswith(b"\x89PNG"), "what a notebook shows of it"
    assert len(job["scores"].plot(k=3).axes[0].patches) == 4
    frame = job["scores"].to_frame()
    assert isinstance(frame, pandas.DataFrame) and list(frame.columns) == ["score", "stderr", "rank"]
    assert frame["score"].tolist() == job["scores"].values.tolist() and frame.index.name == "layer"
    assert job["table"].to_frame().loc["x", "kl"] == job["kl"].kl


def test_without_matplotlib(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'hybridattn\[report\]'"):
        job["plan"].plot()


def test_compare(job):
    teacher, data, hybrid = job["teacher"], job["data"], job["hybrid"]
    table = ha.evaluate.compare({"teacher": teacher, "hybrid": hybrid}, data, teacher)
    assert table.models["teacher"] == {
        "kl": pytest.approx(0, abs=1e-6), "kl_stderr": pytest.approx(0, abs=1e-6),
        "perplexity": ha.evaluate.kl(teacher, teacher, data).perplexity, "agreement": 1.0,
        "agreement_stderr": 0.0,
        "bytes": teacher.nbytes, "cache_bytes_per_token": 4 * 2 * 2 * 8 * 4,
    }  # fmt: skip
    assert table.models["hybrid"]["cache_bytes_per_token"] == 2 * 2 * 2 * 8 * 4
    lines = repr(table).splitlines()
    assert len(lines) == 3 and lines[0].split()[:3] == ["kl", "kl_stderr", "agreement"]
    alone = ha.evaluate.compare({"hybrid": hybrid}, data)
    assert list(alone.models["hybrid"]) == ["perplexity", "bytes", "cache_bytes_per_token"]
    encoder = testing.tiny_model("bert", layers=2)
    other = testing.tiny_model("bert", layers=2, seed=1)
    assert ha.evaluate.compare({"e": other}, data, encoder).models["e"]["kl"] > 0
    with pytest.raises(ConfigError, match="models is"):
        ha.evaluate.compare([hybrid], data)


def test_agreement(job):
    """By hand, and of a probe with itself as the teacher."""
    teacher, data, hybrid, probe = (job[n] for n in ("teacher", "data", "hybrid", "probe"))
    rows = data.tokens.reshape(4, 32)
    equal = teacher.logits(rows).argmax(-1) == hybrid.logits(rows).argmax(-1)
    found = ha.evaluate.agreement(hybrid, teacher, data)
    assert found.agreement == pytest.approx(equal.mean()) and 0 < found.agreement < 1
    assert found.per_sequence == equal.mean(1).tolist() and found.tokens == 128
    assert ha.evaluate.agreement(probe, None, data).agreement == 1.0
    probe.gates[:] = 0
    assert ha.evaluate.agreement(probe, None, data).agreement < 1.0
    assert not probe.gates.any()
    probe.gates[:] = 1


def test_old_keys_go_on_with_a_warning(job):
    found = job["kl"]
    with pytest.warns(DeprecationWarning, match="'mean' of Divergence is called 'kl' now"):
        assert found["mean"] == found.kl
    with pytest.warns(DeprecationWarning):
        assert job["perplexity"]["ppl"] == job["perplexity"].perplexity
    assert found["kl"] == found.kl and "mean" in found and "nothing" not in found
    assert found.get("nothing", 3) == 3 and list(found) == list(found.to_dict()) == list(found.keys())
    assert dict(found) == found.to_dict() == dict(found.items()) and len(found) == 9
    assert job["perplexity"].bits_per_byte is None and "bits_per_byte" not in job["perplexity"]
    assert "stride" in job["perplexity"]
    with pytest.raises(KeyError):
        found["nothing"]
