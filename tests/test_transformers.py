"""The same parity live, where torch and transformers are installed: random configs, LlamaForCausalLM."""

from __future__ import annotations

import numpy as np
import pytest
from golden import recipe

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from test_golden import assert_close, load, train  # noqa: E402

from hybridattn.model.model import Model  # noqa: E402

pytestmark = pytest.mark.torch

CASES = {
    "multi_head": dict(num_attention_heads=4, num_key_value_heads=4),
    "one_key_head": dict(num_attention_heads=6, num_key_value_heads=1, head_dim=10),
    "untied_biased": dict(
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        attention_bias=True,
        mlp_bias=True,
    ),
    "llama3_rope": dict(
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 24,
        },
    ),
    "linear_rope": dict(
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
    ),
}


def make(folder, dtype="float32", **options):
    """Saves a random model with save_pretrained and loads it back in float32."""
    config = transformers.LlamaConfig(
        **{
            **dict(
                vocab_size=210,
                hidden_size=60 if "head_dim" in options else 64,
                num_hidden_layers=2,
                intermediate_size=80,
                max_position_embeddings=256,
                tie_word_embeddings=True,
            ),
            **options,
        }
    )
    model = transformers.LlamaForCausalLM(config)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, value in recipe.random_weights(shapes, seed=77).items():
            model.get_parameter(name).copy_(torch.from_numpy(value))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def reference_logits(hf, tokens):
    with torch.no_grad():
        return hf(torch.from_numpy(tokens).long()).logits.numpy()


STORED = [(name, "float32") for name in CASES] + [("untied_biased", "bfloat16"), ("untied_biased", "float16")]


@pytest.mark.parametrize(("name", "dtype"), STORED)
def test_logits(tmp_path, name, dtype):
    hf = make(tmp_path, dtype, **CASES[name])
    tokens = recipe.tokens({"vocab_size": 210}, (2, 70), seed=4)
    assert_close(Model.from_pretrained(tmp_path).logits(tokens), reference_logits(hf, tokens), what="logits")


def test_saved_model_opens_in_transformers(tmp_path):
    """What `save_pretrained` writes for a model without linear mixers is a plain Llama folder."""
    model = load("biases")
    model.save_pretrained(tmp_path)
    hf = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokens = recipe.tokens(recipe.CONFIGS["biases"][0], (1, 30), seed=6)
    assert_close(model.logits(tokens), reference_logits(hf, tokens), what="logits")


def test_padding(tmp_path):
    """Left padding with an attention mask: rows that hold tokens equal transformers'."""
    hf = make(tmp_path, **CASES["multi_head"])
    tokens = recipe.tokens({"vocab_size": 210}, (3, 20), seed=8)
    mask = (np.arange(20) >= np.array([[0], [5], [13]])).astype(np.uint8)
    with torch.no_grad():
        wide = torch.from_numpy(mask).long()
        positions = (wide.cumsum(1) - 1).clamp(min=0)
        expected = hf(
            torch.from_numpy(tokens).long(), attention_mask=wide, position_ids=positions
        ).logits.numpy()
    actual = Model.from_pretrained(tmp_path).logits(tokens, mask)
    assert_close(actual[mask == 1], expected[mask == 1], what="logits")
    assert not actual[mask == 0].any()


def test_ten_training_losses():
    hf = transformers.LlamaForCausalLM.from_pretrained(recipe.MODELS / "base", dtype=torch.float32)
    options = {k: v for k, v in recipe.ADAMW.items() if k != "clip"}
    optimizer, losses = torch.optim.AdamW(hf.parameters(), **options), []
    for batch in torch.from_numpy(recipe.training_tokens(recipe.CONFIGS["base"][0])).long():
        optimizer.zero_grad()
        loss = hf(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(hf.parameters(), recipe.ADAMW["clip"])
        optimizer.step()
        losses.append(float(loss.detach()))
    assert_close(train(load(), None, "finetune")[1][:, 0], losses, what="losses")


def test_greedy_generation(tmp_path):
    hf = make(tmp_path, **CASES["untied_biased"])
    prompt = recipe.tokens({"vocab_size": 210}, (1, 12), seed=9)
    with torch.no_grad():
        expected = hf.generate(
            torch.from_numpy(prompt).long(),
            max_new_tokens=20,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[0].tolist()
    model, tokens = Model.from_pretrained(tmp_path), prompt
    for _ in range(20):
        following = model.logits(np.ascontiguousarray(tokens), last=True).argmax(-1).astype(np.int32)
        tokens = np.concatenate([tokens, following[:, None]], 1)
    assert tokens[0].tolist() == expected
