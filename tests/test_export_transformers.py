"""What transformers makes of exported models: logits, padded batches, decoding with a cache, generate."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from export_models import GATED, QWEN2, QWEN3, hybrid

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
MISTRAL = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
PLAIN = {**GATED, "bias": 0, "qk_norm": 0}
MAMBA = {"kind": "mamba2"}
WINDOW = {"kind": "window", "window": 16, "sinks": 0}
CASES = {
    "llama": ("qwen3_5", GATED, (1, 3), {}),
    "llama untied": ("qwen3_5", GATED, (0,), {"tied": False}),
    "llama wide heads": ("qwen3_5", GATED, (2, 3), {"head_dim": 64}),
    "lean": ("qwen3_5", {**GATED, "grouped": 1, "output_gate": "low_rank"}, (1, 3), {}),
    "convolution": ("qwen3_5", {**GATED, "conv": 3}, (1, 3), {}),
    "long convolution": ("qwen3_5", {**GATED, "conv": 6}, (1, 3), {"tied": False}),
    "all softmax": ("qwen3_5", GATED, (0, 1, 2, 3), {}),
    "mistral": ("qwen3_5", GATED, (3,), {**MISTRAL, "sliding_window": None}),
    "linear rope": ("qwen3_5", GATED, (1, 3), {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "yarn": ("qwen3_5", GATED, (1, 3), {"rope_scaling": YARN}),
    "llama3 rope": ("qwen3_5", GATED, (1, 3), {"rope_scaling": LLAMA3}),
    "biases": ("qwen3_5", PLAIN, (1, 3), {"attention_bias": True}),
    "qwen2": ("qwen3_5", PLAIN, (1, 2), QWEN2),
    "qwen3": ("qwen3_5", PLAIN, (1, 3), QWEN3),
    "qwen3 biases": ("qwen3_5", PLAIN, (1, 3), {**QWEN3, "attention_bias": True}),
    "window": ("sliding_window", WINDOW, (1, 3), {}),
    "window qwen2": ("sliding_window", WINDOW, (1, 3), {**QWEN2, "tied": False}),
    "window qwen3": ("sliding_window", WINDOW, (0,), QWEN3),
    "window everywhere": ("sliding_window", WINDOW, (), {"rope_scaling": LLAMA3}),
    "bamba": ("bamba", MAMBA, (1, 3), {}),
    "bamba untied": ("bamba", {**MAMBA, "conv": 4}, (2,), {"tied": False, "mlp_bias": True}),
    "bamba biases": ("bamba", {**MAMBA, "conv": 6, "bias": 0}, (0, 3), {"attention_bias": True}),
    "bamba qwen2": ("bamba", {**MAMBA, "conv": 2, "bias": 0}, (1,), QWEN2),
    "bamba wide heads": ("bamba", MAMBA, (0, 1), {"head_dim": 16, "rope_scaling": LLAMA3}),
    "window mistral": ("sliding_window", WINDOW, (1, 3), {**MISTRAL, "sliding_window": 16}),
}


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    """(ours, theirs, folder)"""
    layout, mixer, keep, teacher = CASES[request.param]
    ours = hybrid(mixer, keep, layers=4, **teacher)
    randomize_rest(ours)
    folder = tmp_path_factory.mktemp("export") / "out"
    ours.export(folder, layout)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert not theirs.config.architectures[0].startswith("Hybrid")
    return ours, theirs.eval(), folder


def randomize_rest(model):
    """Convolutions and biases that start as nothing."""
    rng = np.random.default_rng(3)
    for name, array in model.arrays().items():
        if "_conv." in name or name.endswith(".bias"):
            array[...] = 0.5 * rng.standard_normal(array.shape)


TOKENS = np.random.default_rng(1).integers(0, 256, (2, 100)).astype(np.int32)


def close(theirs, ours):
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4 * np.abs(ours).max())


def run(model, tokens, **more):
    with torch.no_grad():
        return model(torch.tensor(np.asarray(tokens)).long(), **more)


def test_logits(pair):
    ours, theirs, _ = pair
    close(run(theirs, TOKENS).logits.numpy(), ours.logits(TOKENS))


def test_left_padding_is_nothing(pair):
    ours, theirs, _ = pair
    mask = np.ones(TOKENS.shape, bool)
    mask[0, :37] = False
    found = run(theirs, TOKENS, attention_mask=torch.tensor(mask).long()).logits.numpy()
    close(found[0, 37:], ours.logits(TOKENS[:1, 37:])[0])
    close(found[1], ours.logits(TOKENS[1:])[0])


def test_decoding_with_a_cache(pair):
    ours, theirs, _ = pair
    first = run(theirs, TOKENS[:, :60], use_cache=True)
    found = [first.logits]
    for i in range(60, 100):
        token, at = TOKENS[:, i : i + 1], torch.tensor([[i]])  # Bamba without positions starts again at 0
        more = {"past_key_values": first.past_key_values, "use_cache": True, "position_ids": at}
        found.append(run(theirs, token, **more).logits)
    close(torch.cat(found, 1).numpy(), ours.logits(TOKENS))


def test_generate(pair):
    """Greedy tokens are the likeliest of ours; a prompt in a padded batch continues as it does alone."""
    ours, theirs, _ = pair
    prompt, longer = TOKENS[0, :12], TOKENS[1, :20]
    options = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": tiny.EOS, "eos_token_id": None}
    alone = theirs.generate(torch.tensor(prompt[None]).long(), **options)[0].numpy()
    logits = ours.logits(alone[None].astype(np.int32))[0]
    chosen = logits[np.arange(11, len(alone) - 1), alone[12:]]
    assert (logits[11:-1].max(-1) - chosen).max() <= 1e-4 * np.abs(logits).max()
    batch = np.stack([np.concatenate([np.full(8, tiny.EOS), prompt]), longer])
    mask = np.ones(batch.shape, int)
    mask[0, :8] = 0
    together = theirs.generate(torch.tensor(batch).long(), attention_mask=torch.tensor(mask), **options)
    np.testing.assert_array_equal(together[0, 20:].numpy(), alone[12:])


def test_the_tokenizer_is_the_models_own(pair):
    ours, _, folder = pair
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in ("Hello, w\u00f6rld!", "  two  spaces\n", "\u4f60\u597d"):
        assert theirs(text)["input_ids"] == ours.tokenizer.encode(text)
    assert theirs.eos_token_id == tiny.EOS


def test_saved_by_transformers_it_stays_what_it_is(pair, tmp_path):
    _, theirs, _ = pair
    theirs.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert torch.equal(run(again, TOKENS).logits, run(theirs, TOKENS).logits)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("teacher", [{}, QWEN3], ids=["llama", "qwen3"])
def test_16_bits_lose_what_rounding_the_weights_loses(dtype, teacher, tmp_path):
    """Run in float32, the file is as far from the model as the model's own matrices rounded to that type."""
    ours = hybrid(PLAIN, (1, 3), layers=4, tied=False, **teacher)
    ours.export(tmp_path / "out", "qwen3_5", dtype=dtype)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    whole = ours.logits(TOKENS)
    rounded = np.abs(ours.astype(dtype).logits(TOKENS) - whole).mean()
    assert np.abs(run(theirs, TOKENS).logits.numpy() - whole).mean() < 2 * rounded


def test_a_model_of_linear_layers_alone_is_refused_because_transformers_does_not_run_it(tmp_path):
    """The reason that the layout gives. When transformers can, the layout may let it through."""
    ours = hybrid(GATED, (1,), layers=2)
    ours.export(tmp_path / "out", "qwen3_5")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    config = theirs.config
    config.layer_types = ["linear_attention"] * 2
    with pytest.raises(ValueError, match="get_seq_length"):
        run(type(theirs)(config), TOKENS, use_cache=True)


def test_the_pipeline_of_the_file_counts(tmp_path):
    """transformers 5 puts GPT2Tokenizer's splitting in the place of the file's, so exports name no class."""
    from tokenizers import Tokenizer as Core
    from tokenizers import decoders, models, pre_tokenizers, trainers

    from hybridattn import Tokenizer

    core = Core(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(["in 1984 and 1985 there were 1984 stones"] * 4, trainer)
    model = hybrid(GATED, (1,), vocab_size=core.get_vocab_size())
    model.tokenizer = Tokenizer(core, settings={"tokenizer_class": "GPT2Tokenizer"})
    model.export(tmp_path / "out", "qwen3_5")
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in ("in 1984 there were 19841985 stones", " 12 and 3"):
        assert auto(text, add_special_tokens=False)["input_ids"] == list(model.tokenizer.encode(text))
