"""Every family equals transformers on the models in golden/families."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden import recipe
from safetensors.numpy import load_file
from test_golden import assert_close

from hybridattn import Model, TokenData, _core, evaluate, radlads
from hybridattn.errors import ConfigError
from hybridattn.families import config_from_hf, layout_of
from hybridattn.formats.safetensors import open_weights, save_safetensors


def golden(name):
    with np.load(recipe.FAMILY_MODELS / name / "golden.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", recipe.FAMILIES)
def test_logits_and_hidden_states(name):
    model = Model.from_pretrained(recipe.FAMILY_MODELS / name)
    (tokens, segments), expected = recipe.family_batch(name), golden(name)
    assert_close(model.hidden(tokens, segments=segments), expected["hidden"], what="hidden states")
    if "logits" in expected:
        assert_close(model.logits(tokens, segments=segments), expected["logits"], what="logits")


MIXERS = {False: {"kind": "window_linear", "window": 8, "sinks": 2}, True: {"kind": "window", "window": 8}}


@pytest.mark.parametrize("name", recipe.FAMILIES)
def test_saved_and_loaded_again(name, tmp_path):
    """Under the family's own names, as a teacher and as a hybrid; kept in 16 bits, and mapped."""
    model = Model.from_pretrained(recipe.FAMILY_MODELS / name)
    tokens = recipe.tokens(recipe.FAMILIES[name], (1, 30), seed=5)
    model.save_pretrained(tmp_path / "teacher")
    saved = json.loads((tmp_path / "teacher/config.json").read_text())
    assert saved["model_type"] == recipe.FAMILIES[name]["model_type"]
    with open_weights(tmp_path / "teacher") as ours, open_weights(recipe.FAMILY_MODELS / name) as theirs:
        assert set(theirs.names()) - set(ours.names()) <= {"pooler.dense.weight", "pooler.dense.bias"}
        for tensor in ours.names():
            # a weight that files have less 1 is rounded once, when 1 is added
            rounded = name in ("qwen3_5", "gemma3") and "norm" in tensor and "linear_attn" not in tensor
            np.testing.assert_allclose(
                ours.view(tensor), theirs.view(tensor), rtol=0, atol=1.5e-7 if rounded else 0, err_msg=tensor
            )
    assert np.array_equal(Model.from_pretrained(tmp_path / "teacher").hidden(tokens), model.hidden(tokens))
    hybrid = model.to_probe(MIXERS[model.model_config.bidirectional]).to_hybrid([1])
    hybrid.save_pretrained(tmp_path / "hybrid")
    again = Model.from_pretrained(tmp_path / "hybrid")
    assert again.model_config == model.model_config
    assert np.array_equal(again.hidden(tokens), hybrid.hidden(tokens))
    model.save_pretrained(tmp_path / "half", dtype="bfloat16")
    mapped, read = (Model.from_pretrained(tmp_path / "half", dtype=dtype) for dtype in ("auto", "float32"))
    assert set(mapped.stored()) == set(mapped.matrices())
    assert_close(mapped.hidden(tokens), read.hidden(tokens), what="hidden states")


def test_joined_tensors_are_cut_where_transformers_cuts_them():
    """The rows of GPT-NeoX's joined matrix by head, and GPT-2's by kind and transposed, by the definition."""
    neox, gpt2 = (recipe.FAMILY_MODELS / name for name in ("gpt_neox", "gpt2"))
    with open_weights(neox) as file:
        joined = file.view("gpt_neox.layers.1.attention.query_key_value.weight")
    for head in range(4):
        for i, kind in enumerate("qkv"):
            own = Model.from_pretrained(neox).arrays()[f"layers.1.softmax.{kind}_proj.weight"]
            assert np.array_equal(
                own[8 * head : 8 * head + 8], joined[24 * head + 8 * i : 24 * head + 8 * i + 8]
            )
    with open_weights(gpt2) as file:
        joined = file.view("transformer.h.0.attn.c_attn.weight")
    for i, kind in enumerate("qkv"):
        own = Model.from_pretrained(gpt2).arrays()[f"layers.0.softmax.{kind}_proj.weight"]
        assert np.array_equal(own, joined[:, 32 * i : 32 * i + 32].T)


@pytest.mark.parametrize(
    ("name", "rename"),
    [
        ("gpt2", lambda name: name.removeprefix("transformer.")),
        ("bert", lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma")),
        ("bert", lambda name: name.replace("LayerNorm.bias", "LayerNorm.beta")),
        ("minilm", lambda name: f"bert.{name}"),
    ],
)
def test_other_spellings_of_names(name, rename, tmp_path):
    """Old checkpoints leave the prefix out, or call LayerNorm's weights gamma and beta."""
    folder = recipe.FAMILY_MODELS / name
    with open_weights(folder) as file:
        tensors = {rename(tensor): np.array(file.view(tensor)) for tensor in file.names()}
    assert set(tensors) != set(load_file_names(folder))
    save_safetensors(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    tokens = recipe.family_batch(name)[0]
    again = Model.from_pretrained(tmp_path).hidden(tokens)
    assert np.array_equal(again, Model.from_pretrained(folder).hidden(tokens))


def load_file_names(folder):
    with open_weights(folder) as file:
        return file.names()


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("mixer", [None, "window_linear", "gated_delta", "linear"])
def test_decoding_equals_the_full_pass(name, mixer):
    """Prefill, single tokens and a second chunk through a cache; hybrids take qk-norm and RoPE along."""
    model = Model.from_pretrained(recipe.FAMILY_MODELS / name)
    if mixer:
        model = model.to_probe({"kind": mixer}, seed=1).to_hybrid([1])
    tokens = recipe.tokens(recipe.FAMILIES[name], (2, 33), seed=9)
    full, cache = model.logits(tokens), model.cache(2)
    pieces = [model.logits(tokens[:, a:b], cache=cache) for a, b in ((0, 20), (20, 21), (21, 22), (22, 33))]
    assert_close(np.concatenate(pieces, 1), full, what="logits")


@pytest.mark.parametrize("name", ["gpt2", "roberta"])
def test_no_position_beyond_the_last(name):
    model = Model.from_pretrained(recipe.FAMILY_MODELS / name)
    limit = model.model_config.positions
    assert limit == (64 if name == "gpt2" else 62)
    tokens = recipe.tokens(recipe.FAMILIES[name], (1, limit + 1), seed=2)
    assert np.isfinite(model.hidden(tokens[:, :limit])).all()
    with pytest.raises(ValueError, match=f"has {limit + 1} tokens, but the model has positions for {limit}"):
        model.hidden(tokens)


@pytest.mark.parametrize("name", sorted(recipe.FAMILIES))
def test_a_base_model_needs_no_architectures(name, tmp_path):
    """As transformers' base classes write it: no head, no prefix. Another file keeps its head."""
    folder = recipe.FAMILY_MODELS / name
    model = Model.from_pretrained(folder)
    hf = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**hf, "architectures": None}))
    layout, tensors = layout_of(model.model_config), load_file(folder / "model.safetensors")
    if model.model_config.lm_head:
        save_safetensors(tmp_path / "model.safetensors", tensors)
        assert Model.from_pretrained(tmp_path).model_config.lm_head
    head = tuple(layout.head.values())
    base = {key.removeprefix(layout.prefix): value for key, value in tensors.items() if key not in head}
    save_safetensors(tmp_path / "model.safetensors", base)
    found, (ids, _) = Model.from_pretrained(tmp_path), recipe.family_batch(name)
    assert not found.model_config.lm_head
    if not model.model_config.head_transform:  # which stands behind the hidden states of a base model
        np.testing.assert_array_equal(found.hidden(ids), model.hidden(ids))
    found.save_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(Model.from_pretrained(tmp_path / "again").hidden(ids), found.hidden(ids))


def test_a_cache_survives_a_text_that_is_too_long():
    model = Model.from_pretrained(recipe.FAMILY_MODELS / "gpt2")
    tokens = recipe.tokens(recipe.FAMILIES["gpt2"], (1, 64), seed=2)
    cache = model.cache()
    model.logits(tokens[:, :60], cache=cache)
    with pytest.raises(ValueError, match="has 65 tokens"):
        model.logits(tokens[:, :5], cache=cache)
    assert cache.lengths.tolist() == [60]
    assert_close(model.logits(tokens[:, 60:], cache=cache), model.logits(tokens)[:, 60:], what="logits")


def test_segments():
    bert, roberta = (Model.from_pretrained(recipe.FAMILY_MODELS / name) for name in ("bert", "roberta"))
    tokens, segments = recipe.family_batch("bert")
    plain = bert.hidden(tokens)
    assert np.array_equal(plain, bert.hidden(tokens, segments=0 * segments))
    assert not np.allclose(plain[0], bert.hidden(tokens, segments=segments)[0])
    with pytest.raises(ValueError, match="segment is 2, allowed are 0 to 1"):
        bert.hidden(tokens, segments=2 * segments)
    with pytest.raises(ValueError, match="segment is 1, allowed are 0 to 0"):
        roberta.hidden(tokens, segments=segments)
    with pytest.raises(ValueError, match="segments has"):
        bert.hidden(tokens, segments=segments[:, 1:])
    mask = np.arange(40) >= np.array([[3], [0]])  # padding takes the segments along
    shifted = bert.hidden(tokens[:, 3:], segments=segments[:, 3:])
    assert_close(bert.hidden(tokens, mask, segments=segments)[0, 3:], shifted[0], what="hidden states")


def test_no_head_no_logits():
    model = Model.from_pretrained(recipe.FAMILY_MODELS / "minilm")
    tokens = recipe.family_batch("minilm")[0]
    data = tokens.ravel(), np.array([[0, 40], [40, 80]])
    for call in (
        lambda: model.logits(tokens),
        lambda: model.nll(tokens),
        lambda: _core.KLScorer(model).evaluate(*data),
        lambda: _core.Distiller(model, stage="finetune"),
    ):
        with pytest.raises(ValueError, match="LM head"):
            call()


def test_masked_models_have_no_next_token():
    """Their KL is read everywhere, or where the weights say; likelihoods of the next token are refused."""
    bert = Model.from_pretrained(recipe.FAMILY_MODELS / "bert")
    tokens = recipe.family_batch("bert")[0]
    weights = np.zeros(tokens.size, np.float32)
    weights[[7, 50]] = 1.0
    data = TokenData(tokens.ravel(), np.array([[0, 40], [40, 80]]), weights=weights)
    probe = bert.to_probe({"kind": "linear"})
    found = evaluate.kl(probe.to_hybrid([]), bert, data)
    assert found["measure"] == "kl" and found.perplexity is None and "ppl" not in found
    alone = _core.KLScorer(probe.to_hybrid([]), bert).kl(data.tokens, data.windows, None, None, weights)
    assert found["per_sequence"] == alone.tolist()
    for call in (
        lambda: bert.nll(tokens),
        lambda: evaluate.perplexity(bert, data),
        lambda: _core.KLScorer(probe).evaluate(data.tokens, data.windows),
        lambda: radlads.finetune(bert, data, 1, 1),
    ):
        with pytest.raises((ValueError, ConfigError), match="sees"):
            call()


def test_multi_label_classifiers_are_refused():
    hf = json.loads((recipe.FAMILY_MODELS / "bert" / "config.json").read_text())
    hf |= {"architectures": ["BertForSequenceClassification"], "problem_type": "multi_label_classification"}
    with pytest.raises(ConfigError, match="problem_type is 'multi_label_classification'"):
        config_from_hf(hf)


def test_encoders_have_no_cache():
    with pytest.raises(ConfigError, match="bidirectional"):
        Model.from_pretrained(recipe.FAMILY_MODELS / "bert").cache()


def test_info_on_an_encoder(capsys):
    """It has no cache to speak of."""
    from hybridattn.cli import main as cli

    assert cli.main(["info", str(recipe.FAMILY_MODELS / "minilm")]) == 0
    out = capsys.readouterr().out
    assert "longest context" in out and "cache" not in out
