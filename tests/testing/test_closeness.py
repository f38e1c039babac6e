"""Tiny models of every family, and the assertions that compare models and scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hybridattn import testing
from hybridattn.errors import ConfigError
from hybridattn.select import LayerScores
from hybridattn.testing.models import _FAMILIES

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("family", _FAMILIES)
def test_every_family(family, tmp_path):
    """Random but fixed, saved and read again; its hybrid; changes of its config."""
    model = testing.tiny_model(family, layers=2, seed=4)
    assert model.model_config.family == family
    testing.assert_models_close(testing.tiny_model(family, layers=2, seed=4), model, "bits")
    with pytest.raises(AssertionError, match=r"differ by .* is the first that differs"):
        testing.assert_models_close(testing.tiny_model(family, layers=2, seed=5), model)
    model.save_pretrained(tmp_path)
    testing.assert_models_close(type(model).from_pretrained(tmp_path), model, "bits")
    mixer = {"kind": "window", "window": 8}
    # every second layer of a Qwen3.5 is linear from the start
    kinds = (
        ["gated_delta", "window", "gated_delta", "softmax"] if family == "qwen3_5" else ["window", "softmax"]
    )
    count = len(kinds)
    hybrid = testing.tiny_model(family, layers=count, mixer=mixer, softmax_layers=[count - 1])
    assert [specs[0]["kind"] for specs in hybrid.layers] == kinds
    assert len(testing.tiny_model(family, layers=count, mixer=mixer).layers[-1]) == 2


def test_changes_and_mistakes():
    assert testing.tiny_model("qwen3", hidden_size=48).model_config.hidden_size == 48
    with pytest.raises(ConfigError, match="family is 'lama'; allowed: llama"):
        testing.tiny_model("lama")
    with pytest.raises(ConfigError, match="layers is 0"):
        testing.tiny_model(layers=0)


@pytest.mark.parametrize(
    ("dtype", "within"), [("bfloat16", "bfloat16"), ("float16", "float16"), ("q8_0", 0.3)]
)
def test_stored_weights_are_within_their_tolerance(dtype, within):
    model = testing.tiny_model(intermediate_size=64)
    testing.assert_models_close(model.astype(dtype), model, within)
    with pytest.raises(AssertionError, match=r"logits differ by .* allowed: 1e-04 .rounding"):
        testing.assert_models_close(model.astype(dtype), model)


def test_where_models_differ_is_told():
    model, other = testing.tiny_model(), testing.tiny_model()
    other.arrays()["layers.1.mlp_norm.weight"][3] += 0.5
    with pytest.raises(
        AssertionError, match=r"most in row \d, token \d+: .*layers\.1\.mlp_norm\.weight is the first"
    ):
        testing.assert_models_close(other, model)
    other.arrays()["layers.1.mlp_norm.weight"][3] = np.nan
    with pytest.raises(AssertionError, match="differ by nan"):
        testing.assert_models_close(other, model, 1e9)
    with pytest.raises(AssertionError, match="num_layers is 2; expected 3"):
        testing.assert_models_close(testing.tiny_model(layers=2), model)
    with pytest.raises(ConfigError, match="within is 'bit'; allowed: bits"):
        testing.assert_models_close(model, model, "bit")


@pytest.fixture
def scores():
    rows = np.array([[1.0, 1.2, 0.8], [0.5, 0.6, 0.4], [0.4999, 0.5, 0.4998], [0.1, 0.1, 0.1]])
    return LayerScores("kl_gate", rows)


def moved(scores, *by):
    return replace(scores, per_sequence=scores.per_sequence + np.array(by)[:, None])


def test_scores_by_value(scores):
    testing.assert_scores_close(moved(scores, 1e-5, 0, 0, -1e-5), scores)
    with pytest.raises(
        AssertionError, match=r"layer 1 is 0\.52; expected 0\.5, .* 0\.3 standard errors away .1 of 4"
    ):
        testing.assert_scores_close(moved(scores, 0, 0.02, 0, 0), scores)
    testing.assert_scores_close(moved(scores, 0, 0.02, 0, 0), scores, stderrs=1.0)
    testing.assert_scores_close(moved(scores, 0, 0.02, 0, 0), scores, values=None)
    with pytest.raises(AssertionError, match="layer 2 is nan"):
        testing.assert_scores_close(moved(scores, 0, 0, np.nan, 0), scores, stderrs=9.0)
    with pytest.raises(AssertionError, match="method is mse; expected kl_gate"):
        testing.assert_scores_close(replace(scores, method="mse"), scores)


def test_scores_by_set_and_rank(scores):
    """Layers 1 and 2 are a hair apart and may change places; layers 0 and 3 may not."""
    near = moved(scores, 0, -1e-4, 1e-4, 0)
    testing.assert_scores_close(near, scores, values=2e-4, k=[1, 2, 3])
    far = moved(scores, -0.95, 0, 0, 0.8)
    with pytest.raises(AssertionError, match=r"the 2 layers are .*; expected \[0, 1\]"):
        testing.assert_scores_close(far, scores, values=None, k=2, rank=None)
    with pytest.raises(AssertionError, match="correlation of the ranks is"):
        testing.assert_scores_close(far, scores, values=None, rank=0.9)
    testing.assert_scores_close(near, scores, values=2e-4, rank=0.7)


def test_weights():
    one, other = testing.tiny_model().arrays(), testing.tiny_model().arrays()
    testing.assert_same_weights(one, other)
    other["embed.weight"][0, 0] += 1
    with pytest.raises(AssertionError, match=r"embed\.weight differs"):
        testing.assert_same_weights(one, other)
    del other["embed.weight"]
    with pytest.raises(AssertionError, match=r"embed\.weight is in one of them alone"):
        testing.assert_same_weights(one, other)
