"""Weights in several files and their index."""

import json

import numpy as np
import pytest
from weight_files import CONFIG, empty_params, random_tensors

from hybridattn.errors import WeightError
from hybridattn.formats.loading import load_into
from hybridattn.formats.safetensors import open_weights, save_safetensors


def write_shards(folder, weight_map=None):
    tensors = random_tensors()
    names = list(tensors)
    parts = {"model-1.safetensors": names[:1], "model-2.safetensors": names[1:]}
    for file, members in parts.items():
        save_safetensors(folder / file, {name: tensors[name] for name in members})
    index = {name: file for file, members in parts.items() for name in members}
    text = json.dumps({"weight_map": index if weight_map is None else weight_map(index)})
    (folder / "model.safetensors.index.json").write_text(text)
    return tensors


def test_shards(tmp_path):
    tensors = write_shards(tmp_path)
    params = empty_params()
    with open_weights(tmp_path) as source:
        load_into(params, source, CONFIG)
        assert source.file("model.norm.weight").name == "model-2.safetensors"
    np.testing.assert_array_equal(params["embed.weight"], tensors["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda index: {**index, "model.norm.weight": "model-3.safetensors"},
            "model-3.safetensors is missing",
        ),
        (lambda index: {**index, "model.norm.weight": "../model-1.safetensors"}, "of the same folder"),
        (lambda index: {}, "weight_map"),
        (lambda index: [1], "weight_map"),
        (lambda index: {"a": 1}, "weight_map"),
    ],
)
def test_wrong_index(tmp_path, change, says):
    write_shards(tmp_path, change)
    with pytest.raises(WeightError) as caught:
        open_weights(tmp_path)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"])
def test_an_index_that_misplaces_a_tensor_serves(tmp_path, name):
    """What counts is where tensors are; some files index buffers that were never written."""
    write_shards(tmp_path, lambda index: {**index, name: "model-1.safetensors"})
    with open_weights(tmp_path) as source:
        assert set(source.names()) == set(random_tensors())


def test_a_weight_in_two_shards(tmp_path):
    write_shards(tmp_path)
    again = random_tensors()
    save_safetensors(tmp_path / "model-2.safetensors", again)
    with open_weights(tmp_path) as source:  # the same values twice
        assert set(source.names()) == set(again)
    again[next(iter(again))].reshape(-1)[0] += 1
    save_safetensors(tmp_path / "model-2.safetensors", again)
    with pytest.raises(WeightError, match=r"is also in model-1.safetensors, with other values"):
        open_weights(tmp_path)
