"""What tasks and timings return: typed objects, read by name and by key, shown, drawn and compared."""

from __future__ import annotations

import copy
import pickle
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping

import numpy as np
import pytest

import hybridattn as ha
from hybridattn import testing
from hybridattn.evaluate import Classified, GlueScores, LayerCosts, SquadScores

pytestmark = pytest.mark.usefixtures("one_thread")


def squad_scores(**more):
    questions = [ha.squad.Question(str(i), "", "c", "q", ("moon",) if i else ()) for i in range(6)]
    predictions = {"0": "", "1": "moon", "2": "the moon", "3": "sun"}
    return ha.squad.evaluate(questions, predictions, against={"0": "", "1": "x"}, **{"resamples": 20, **more})


def glue_scores(**more):
    pytest.importorskip("sklearn")
    gold, mine, theirs = [1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1]
    return ha.glue.evaluate(ha.glue.TASKS["MRPC"], mine, gold, against=theirs, **{"resamples": 4, **more})


def latency():
    return ha.latency(testing.tiny_model(layers=1), (8, 16), decode_tokens=2, repeats=1)


MAKE = {
    "glue": glue_scores,
    "squad": squad_scores,
    "latency": latency,
    "costs": lambda: LayerCosts(
        {"ms_per_token": 2.0, "cache_bytes": 100}, {"ms_per_token": 1.0, "cache_bytes": 10}, 64, 4,
        {"kind": "gla"}, "a <processor>", 2,
    ),
    "classified": lambda: Classified([1, 0], np.array([[-2.0, -1.0], [-1.0, -2.0]]), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKE)
def test_small_typed_objects(name):
    """A line, small HTML that is well-formed, the same by key, equal to its twins and to nothing else."""
    found = MAKE[name]()
    said = repr(found)
    assert said.startswith(type(found).__name__ + "(") and "\n" not in said and len(said) < 700
    html = found._repr_html_()
    ElementTree.fromstring(html)
    assert len(html) < 5000 and ">nan" not in html
    assert isinstance(found, Mapping) and dict(found) == found.to_dict() == dict(**found)
    assert all(getattr(found, key) is found[key] for key in found)
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert twin == found and type(twin) is type(found)
    assert found != 3 and found != squad_scores(resamples=0) and found != {}
    with pytest.raises(AttributeError):
        found.new = 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(found)


def test_a_dict_of_the_same_is_equal_and_more_can_be_added():
    """As earlier versions, which gave dicts, had it."""
    found = squad_scores(resamples=0)
    assert found == found.to_dict() and found != {**found, "exact": 0.0}
    assert found | {"model": "x"} == {**found, "model": "x"}
    assert list(found)[:4] == ["exact", "f1", "exact_difference", "f1_difference"]
    assert found.exact_interval is None and "exact_interval" not in found
    assert found.get("exact_interval") is None and found.get("missing") == found.missing == 2


def test_metrics_beside_their_intervals():
    found = squad_scores()
    assert found.metrics == ["exact", "f1"]
    low, high = found.exact_interval
    assert low < found.exact < high and f"exact_interval=[{low:.5g}, {high:.5g}]" in repr(found)
    assert found.answerable_total == 5 and found.unanswerable_exact == 100.0
    assert glue_scores().metrics == ["f1", "accuracy", "score"]
    assert isinstance(glue_scores(resamples=0), GlueScores) and isinstance(found, SquadScores)


def test_frames():
    pandas = pytest.importorskip("pandas")
    found = squad_scores()
    frame = found.to_frame()
    assert isinstance(frame, pandas.DataFrame) and frame.index.tolist() == ["exact", "f1"]
    assert frame.loc["f1", "value"] == found.f1
    assert frame.loc["f1", ["difference_low", "difference_high"]].tolist() == found.f1_difference_interval
    timed = latency()
    assert timed.to_frame()["decode"].to_dict() == timed.decode
    assert MAKE["costs"]().to_frame().loc["all_linear", "cache_bytes"] == 10
    model, data = testing.tiny_model(layers=1), testing.tiny_text(3)
    plain = ha.evaluate.perplexity(model, data)
    assert plain.to_frame()["perplexity"].tolist() == [plain.perplexity]
    kl = ha.evaluate.kl(testing.tiny_model(layers=1, seed=1), model, data)
    assert kl.to_frame()["kl"].tolist() == kl.per_sequence
    assert kl.to_frame()["agreement"].tolist() == kl.agreement_per_sequence
    assert ha.evaluate.recall(model, "needle", n=2, seq_len=200).to_frame()["correct"].dtype == bool


def test_charts():
    pytest.importorskip("matplotlib")
    axis = squad_scores().plot().axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["exact", "f1"]
    assert len(squad_scores(resamples=0).plot().axes) == 1  # no intervals: points
    assert len(latency().plot().axes) == 2
    data = testing.tiny_text(3)
    kl = ha.evaluate.kl(testing.tiny_model(layers=1, seed=1), testing.tiny_model(layers=1), data)
    assert [axis.lines[0].get_ydata().tolist() for axis in kl.plot().axes] == [
        kl.per_sequence, kl.agreement_per_sequence,
    ]  # fmt: skip
    assert kl.plot()._repr_png_().startswith(b"\x89PNG")


def test_a_threshold_is_a_pair_with_names():
    question = ha.squad.Question("1", "", "the moon", "q", ("moon",))
    answer = ha.squad.SpanAnswer("1", [ha.squad.Span("moon", 4, 8, 2.0)], 1.0)
    found = ha.squad.tune_threshold([question], [answer])
    threshold, score = found
    assert found == (threshold, score) and (found.threshold, found.score) == (-1.0, 100.0)
