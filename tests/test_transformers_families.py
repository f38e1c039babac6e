"""Every family live, where torch and transformers are installed, in settings the golden files lack."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from golden import recipe

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(recipe.HERE))  # make_families runs as a script beside its recipe

from make_families import make, outputs  # noqa: E402
from test_golden import assert_close  # noqa: E402

from hybridattn.model.model import Model  # noqa: E402
from hybridattn.tasks import predict  # noqa: E402

pytestmark = pytest.mark.torch

SMALL = {key: value for key, value in recipe.ENCODER.items() if key != "intermediate_size"}
MASKED, BASE = "AutoModelForMaskedLM", "AutoModel"
CASES: dict[str, tuple[dict, str]] = {
    "qwen3_biased": (
        dict(recipe.DECODER, model_type="qwen3", head_dim=10, attention_bias=True, tie_word_embeddings=False),
        "AutoModelForCausalLM",
    ),
    "gpt2_untied": (
        dict(recipe.FAMILIES["gpt2"], n_inner=44, activation_function="relu", tie_word_embeddings=False),
        "AutoModelForCausalLM",
    ),
    "gpt2_headless": (dict(recipe.FAMILIES["gpt2"]), BASE),
    "gpt_neox_in_turn": (
        dict(recipe.FAMILIES["gpt_neox"], use_parallel_residual=False, rotary_pct=1.0, attention_bias=False),
        "AutoModelForCausalLM",
    ),
    "gpt_neox_default_rotary": (
        dict(SMALL, hidden_size=64, intermediate_size=40, model_type="gpt_neox", hidden_act="gelu_new")
        | dict(bos_token_id=1, eos_token_id=2),
        "AutoModelForCausalLM",
    ),
    "bert_erf": (dict(recipe.FAMILIES["bert"], hidden_act="gelu", layer_norm_eps=1e-5), MASKED),
    "bert_silu": (dict(recipe.FAMILIES["bert"], hidden_act="silu", type_vocab_size=1), MASKED),
    "roberta_base": (dict(recipe.FAMILIES["roberta"], type_vocab_size=2), BASE),
    "roberta_padding": (dict(recipe.FAMILIES["roberta"], pad_token_id=3), MASKED),
    "distilbert_gelu": (dict(recipe.FAMILIES["distilbert"], activation="gelu"), MASKED),
    "distilbert_base": (dict(recipe.FAMILIES["distilbert"], sinusoidal_pos_embds=True), BASE),
    **{name: (recipe.FAMILIES[name], recipe.FAMILY_CLASSES.get(name)) for name in recipe.FAMILIES},
}


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers_and_opens_there(name, tmp_path):
    """What transformers writes is read here, and what is written here is read there."""
    settings, auto = CASES[name]
    theirs = make(settings, auto or "AutoModelForCausalLM", seed=31)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = Model.from_pretrained(tmp_path / "theirs")
    tokens = recipe.tokens(settings, (2, 37), seed=4)
    expected = outputs(theirs, tokens)
    for key, value in expected.items():
        assert_close(getattr(ours, key)(tokens), value, what=key)
    ours.save_pretrained(tmp_path / "ours")
    again, report = type(theirs).from_pretrained(
        tmp_path / "ours", dtype=torch.float32, output_loading_info=True
    )
    assert not report["unexpected_keys"]
    assert all("pooler" in key for key in report["missing_keys"]), report["missing_keys"]
    for key, value in outputs(again.eval(), tokens).items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=1e-5 * np.abs(expected[key]).max())


def logits_of(model, tokens: np.ndarray) -> list[np.ndarray]:
    """One sequence at a time, for which no class asks for a padding token."""
    with torch.no_grad():
        found = [model(torch.from_numpy(row[None]).long()) for row in tokens]
    spans = "start_logits" in found[0]
    return [
        (torch.stack([out.start_logits, out.end_logits], -1) if spans else out.logits)[0].numpy()
        for out in found
    ]


@pytest.mark.parametrize("auto", ["AutoModelForSequenceClassification", "AutoModelForQuestionAnswering"])
@pytest.mark.parametrize("name", recipe.FAMILIES)
def test_heads_equal_transformers_and_open_there(name, auto, tmp_path):
    if name in ("qwen3_5", "gemma3") and "Question" in auto:
        pytest.skip("transformers has no such class")
    settings = dict(recipe.FAMILIES[name], num_labels=2 if "Question" in auto else 3)
    theirs = make(settings, auto, seed=17)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = Model.from_pretrained(tmp_path / "theirs")
    tokens = recipe.tokens(settings, (2, 37), seed=4)
    expected = logits_of(theirs, tokens)
    for mine, value in zip(predict(ours, list(tokens)), expected, strict=True):
        assert_close(mine, value, what="logits")
    ours.save_pretrained(tmp_path / "ours")
    again, report = type(theirs).from_pretrained(
        tmp_path / "ours", dtype=torch.float32, output_loading_info=True
    )
    assert not report["unexpected_keys"] and not report["missing_keys"]
    for mine, value in zip(logits_of(again.eval(), tokens), expected, strict=True):
        np.testing.assert_allclose(mine, value, rtol=0, atol=1e-5 * np.abs(value).max())
