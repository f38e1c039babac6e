"""A `remote_code` folder in transformers against the core: every kind, in every way a model is run."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tiny
from remote_hybrids import CASES, STEPS, TOKENS, hybrid_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hybridattn import _core  # noqa: E402
from hybridattn.export import export, source  # noqa: E402
from hybridattn.model import Model  # noqa: E402

pytestmark = pytest.mark.torch

every = pytest.mark.parametrize("name", CASES)
# what does not depend on options: the kinds, and bodies with a window of their own or without a tied head
kinds = pytest.mark.parametrize(
    "name", [*source.kinds()[1:], "gated_delta_conv", "biases", "mistral", "llama3"]
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """name -> the hybrid, its folder opened in transformers, the folder."""

    @functools.cache
    def made(name):
        hybrid, folder = hybrid_of(name), tmp_path_factory.mktemp(name) / "out"
        export(hybrid, folder, layout="remote_code")
        return hybrid, opened(folder), folder

    return made


def opened(folder, dtype=torch.float32):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, dtype=dtype
    ).eval()


def tensor(array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).long()


def run(theirs, tokens, **options):
    with torch.no_grad():
        return theirs(tensor(tokens), **options)


def assert_close(actual, expected, bound=1e-4, what=""):
    error = np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()
    assert error <= bound, f"{what}: {error:.2e}"


def cache_of(output):
    """transformers calls it past_key_values, later versions cache."""
    return output["cache"] if "cache" in output else output["past_key_values"]


@every
def test_prefill(pair, name):
    ours, theirs, _ = pair(name)
    assert_close(run(theirs, TOKENS).logits, ours.logits(TOKENS))


@kinds
def test_left_padding_changes_nothing(pair, name):
    """A row gives in a padded batch what it gives alone, through prefill and decoding."""
    _, theirs, _ = pair(name)
    for padding in (23, STEPS - 1):
        mask = np.ones((2, STEPS), int)
        mask[0, :padding] = 0
        padded = run(theirs, TOKENS, attention_mask=tensor(mask), use_cache=True)
        alone = run(theirs, TOKENS[:1, padding:], use_cache=True)
        assert_close(padded.logits[0, padding:], alone.logits[0].numpy(), what=f"padding {padding}")
        following = np.array([[5], [6]])
        more = np.concatenate([mask, np.ones((2, 1), int)], 1)
        after = run(theirs, following, attention_mask=tensor(more), past_key_values=cache_of(padded))
        after_alone = run(theirs, following[:1], past_key_values=cache_of(alone))
        assert_close(after.logits[0], after_alone.logits[0].numpy(), what=f"padding {padding}, decoding")


@every
def test_padding_anywhere_in_any_piece(pair, name):
    """Tokens with gaps between them, in pieces: each row gives what its tokens give alone."""
    ours, theirs, _ = pair(name)
    mask = np.random.default_rng(2).integers(0, 3, TOKENS.shape) > 0
    cache, parts = None, []
    for start, stop in [(0, 30), (30, 60), (60, 61), (61, STEPS)]:
        seen = tensor(mask[:, :stop])
        output = run(
            theirs, TOKENS[:, start:stop], attention_mask=seen, past_key_values=cache, use_cache=True
        )
        cache = cache_of(output)
        parts.append(output.logits.numpy())
    whole = np.concatenate(parts, 1)
    for row in range(2):
        alone = ours.logits(np.ascontiguousarray(TOKENS[row : row + 1, mask[row]]))[0]
        assert_close(whole[row, mask[row]], alone)


@every
def test_decoding_equals_prefill(pair, name):
    ours, theirs, _ = pair(name)
    cache, parts = None, []
    for start, stop in [(0, 20), (20, 47), *((i, i + 1) for i in range(47, STEPS))]:
        output = run(theirs, TOKENS[:, start:stop], past_key_values=cache, use_cache=True)
        cache = cache_of(output)
        parts.append(output.logits.numpy())
    assert_close(np.concatenate(parts, 1), ours.logits(TOKENS))


@kinds
def test_the_cache_has_the_size_of_ours(pair, name):
    """Softmax layers grow, all others do not; the sum is what the core keeps, in float32."""
    ours, theirs, _ = pair(name)
    sizes = []
    for steps in (40, STEPS):
        cache = cache_of(run(theirs, TOKENS[:, :steps], use_cache=True))
        assert cache.get_seq_length() == steps
        sizes.append([sum(x.numel() for x in layer.values()) for layer in cache.layers])
        if not ours.model_config.sliding_window:
            assert sizes[-1][1] == 2 * 2 * steps * ours.model_config.num_kv_heads * ours.model_config.head_dim
    assert sizes[0][0] == sizes[1][0] and sizes[0][2] == sizes[1][2]


@kinds
def test_greedy_text(pair, name):
    """Prompts of two lengths in one batch, by `generate`, against ours one at a time."""
    ours, theirs, folder = pair(name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    prompts = ["The mill stood", "by the river, and the wheel"]
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    out = theirs.generate(**batch, max_new_tokens=12, do_sample=False)
    found = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert found == [ours.generate(prompt, max_new_tokens=12) for prompt in prompts]


@kinds
def test_beams_follow_their_sequences(pair, name):
    """Beam search reorders the cache: without one the same text comes out."""
    _, theirs, _ = pair(name)
    options = dict(max_new_tokens=8, num_beams=3, do_sample=False, pad_token_id=0)
    texts = [
        theirs.generate(tensor(TOKENS[:1, :30]), use_cache=use, **options).tolist() for use in (True, False)
    ]
    assert texts[0] == texts[1]


few = pytest.mark.parametrize("name", ["window_linear_short", "gated_delta_conv", "gsa_slots"])


@few
def test_a_dialogue_goes_on_from_its_cache(pair, name):
    """The cache of one call of `generate` serves the next, which gets the whole text again."""
    _, theirs, _ = pair(name)
    options = dict(max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
    first = theirs.generate(tensor(TOKENS[:, :30]), return_dict_in_generate=True, **options)
    text = torch.cat([first.sequences, tensor(TOKENS[:, 30:40])], 1)
    held = {"cache" if "cache" in first else "past_key_values": cache_of(first)}
    assert torch.equal(theirs.generate(text, **held, **options), theirs.generate(text, **options))


@few
def test_embeddings_in_the_place_of_tokens(pair, name):
    _, theirs, _ = pair(name)
    options = dict(max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
    tokens = tensor(TOKENS[:, :30])
    given = dict(inputs_embeds=theirs.get_input_embeddings()(tokens), attention_mask=torch.ones_like(tokens))
    assert torch.equal(theirs.generate(**given, **options), theirs.generate(tokens, **options)[:, 30:])


@few
def test_what_a_state_cannot_do_is_refused(pair, name):
    _, theirs, _ = pair(name)
    with pytest.raises(ValueError, match="assisted generation is not supported"):
        theirs.generate(tensor(TOKENS[:1]), assistant_model=theirs, max_new_tokens=2)
    with pytest.raises(ValueError, match=r"attention_mask has the shape \[2, 1, 75, 75\]"):
        run(theirs, TOKENS, attention_mask=torch.ones(2, 1, STEPS, STEPS))
    with pytest.raises(ValueError, match="cache is a DynamicCache"):
        run(theirs, TOKENS, past_key_values=transformers.DynamicCache())
    with pytest.raises(NotImplementedError, match="cannot be cropped"):
        cache_of(run(theirs, TOKENS, use_cache=True)).crop(3)


@few
def test_weights_of_its_own(pair, name):
    """A model made from the configuration alone starts with weights that train."""
    _, _, folder = pair(name)
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    fresh = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    loss = fresh(tensor(TOKENS), labels=tensor(TOKENS)).loss
    loss.backward()
    assert loss.item() == pytest.approx(np.log(tiny.EOS + 1), rel=0.1)
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in fresh.parameters())


@every
def test_gradients(pair, name):
    """Of the mean next-token loss with respect to every parameter, against the core's."""
    ours, theirs, _ = pair(name)
    distiller = _core.Distiller(ours.copy(), None, "finetune", clip=1e9)
    windows = np.arange(2)[:, None] * STEPS + [[0, STEPS]]
    [[loss]] = distiller.run(TOKENS.ravel(), windows[None], np.zeros((1, 2), np.float32), 0, 1)
    theirs.zero_grad()
    output = theirs.train()(tensor(TOKENS), labels=tensor(TOKENS))
    output.loss.backward()
    theirs.eval()
    assert output.loss.item() == pytest.approx(loss, rel=1e-5)
    expected = {
        name: moment.numpy() / 0.1 for name, moment in distiller.moments()["m"].items()
    }  # (1 - beta1) g
    actual = {name: p.grad for name, p in by_our_names(ours, theirs).items() if p.requires_grad}
    assert actual.keys() == expected.keys()
    largest = max(np.abs(g).max() for g in expected.values())
    for name, gradient in expected.items():
        assert np.abs(actual[name].numpy() - gradient).max() <= 1e-4 * largest, name
        assert (
            np.abs(actual[name].numpy() - gradient).max() <= 1e-3 * np.abs(gradient).max() + 1e-6 * largest
        ), name


def by_our_names(ours, theirs) -> dict:
    from hybridattn.families import hf_name

    parameters = dict(theirs.named_parameters()) | dict(theirs.named_buffers())
    return {name: parameters[hf_name(ours.model_config, name)] for name in ours.arrays()}


@kinds
def test_gradient_checkpointing_changes_nothing(pair, name):
    _, theirs, _ = pair(name)
    found = []
    theirs.train()
    for flag in (False, True):
        (theirs.gradient_checkpointing_enable if flag else theirs.gradient_checkpointing_disable)()
        theirs.zero_grad()
        theirs(tensor(TOKENS), labels=tensor(TOKENS)).loss.backward()
        found.append({name: p.grad.clone() for name, p in theirs.named_parameters() if p.requires_grad})
    theirs.gradient_checkpointing_disable()
    theirs.eval()
    for name, gradient in found[0].items():
        assert torch.allclose(found[1][name], gradient, rtol=1e-5, atol=1e-7), name


@kinds
def test_saved_there_and_read_again(pair, name, tmp_path):
    """transformers' save_pretrained keeps weights, section and code; both libraries read it to the same
    bits.
    """
    ours, theirs, _ = pair(name)
    theirs.save_pretrained(tmp_path)
    expected = run(theirs, TOKENS).logits
    assert torch.equal(run(opened(tmp_path), TOKENS).logits, expected)
    back = Model.from_pretrained(tmp_path)
    assert back.layers == ours.layers
    tiny.assert_same_weights(tiny.weights(back), tiny.weights(ours))
    assert back.logits(TOKENS).tobytes() == ours.logits(TOKENS).tobytes()


@every
def test_read_back(pair, name):
    ours, _, folder = pair(name)
    back = Model.from_pretrained(folder)
    tiny.assert_same_weights(tiny.weights(back), tiny.weights(ours))
    assert back.logits(TOKENS).tobytes() == ours.logits(TOKENS).tobytes()


@kinds
def test_bfloat16(pair, name):
    """The whole model cast: it runs, decodes and trains, and its logits are near, as far as 8 bits go."""
    ours, _, folder = pair(name)
    theirs = opened(folder, torch.bfloat16)
    output = run(theirs, TOKENS, use_cache=True)
    assert output.logits.dtype == torch.bfloat16
    expected = ours.logits(TOKENS)
    error = np.linalg.norm(output.logits.float().numpy() - expected) / np.linalg.norm(expected)
    assert error <= 0.1
    assert run(theirs, TOKENS[:, :1], past_key_values=cache_of(output)).logits.isfinite().all()
    theirs.train()(tensor(TOKENS), labels=tensor(TOKENS)).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in theirs.parameters() if p.requires_grad)
