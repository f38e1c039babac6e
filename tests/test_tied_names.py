"""Tied models whose file has the shared tensor under another of its names: the same logits."""

import numpy as np
import pytest
from golden import recipe
from safetensors.numpy import load_file

from hybridattn import Model
from hybridattn.errors import WeightError
from hybridattn.formats.safetensors import save_safetensors

TOKENS = np.arange(4, 20, dtype=np.int32)[None]
RENAMED = {
    "bert": {"bert.embeddings.word_embeddings.weight": "cls.predictions.decoder.weight",
             "cls.predictions.bias": "cls.predictions.decoder.bias"},
    "roberta": {"roberta.embeddings.word_embeddings.weight": "lm_head.decoder.weight",
                "lm_head.bias": "lm_head.decoder.bias"},
    "distilbert": {"distilbert.embeddings.word_embeddings.weight": "vocab_projector.weight"},
    "gpt2": {"transformer.wte.weight": "lm_head.weight"},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(RENAMED))
def test_either_name_serves(tmp_path, name):
    folder = recipe.FAMILY_MODELS / name
    config = (folder / "config.json").read_text()
    tensors = load_file(folder / "model.safetensors")
    want = Model.from_pretrained(folder).logits(TOKENS)
    (tmp_path / "config.json").write_text(config)
    for one in [*RENAMED[name], None]:  # each alone, then all
        change = RENAMED[name] if one is None else {one: RENAMED[name][one]}
        renamed = {
            change.get(key, key): value for key, value in tensors.items() if key not in change.values()
        }
        assert renamed.keys() != tensors.keys()
        save_safetensors(tmp_path / "model.safetensors", renamed)
        assert np.array_equal(Model.from_pretrained(tmp_path).logits(TOKENS), want)


def test_neither_name_is_missing(tmp_path):
    folder = recipe.FAMILY_MODELS / "gpt2"
    tensors = load_file(folder / "model.safetensors")
    left = {key: value for key, value in tensors.items() if "wte" not in key and "lm_head" not in key}
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_safetensors(tmp_path / "model.safetensors", left)
    with pytest.raises(WeightError, match=r"'transformer.wte.weight' is missing"):
        Model.from_pretrained(tmp_path)
