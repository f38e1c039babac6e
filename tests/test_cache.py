"""The decode cache: halves beside floats, one prefix for many continuations, room ahead, thread counts."""

import numpy as np
import pytest
import tiny

import hybridattn
from hybridattn import _core
from hybridattn.errors import ConfigError

RNG = np.random.default_rng(3)
PIECES = (70, 1, 1, 3, 130, 1, 1, 2)


@pytest.fixture(params=["softmax", "window_linear", "gated_delta", "hybrid"])
def model(request):
    """A teacher, an all-linear model of each kind, and a hybrid of both."""
    teacher = tiny.teacher()
    if request.param == "softmax":
        return teacher
    mixer = tiny.MIXERS[request.param == "gated_delta"]
    return teacher.to_probe(mixer).to_hybrid([1] if request.param == "hybrid" else [])


def tokens_of(model, count, batch=1):
    return RNG.integers(0, model.config["vocab_size"], (batch, count), dtype=np.int32)


def through(model, cache, tokens):
    """Logits [B, T, V] of tokens that go through the cache in pieces."""
    ends = np.cumsum(PIECES)
    return np.concatenate(
        [model.logits(tokens[:, end - n : end], cache=cache) for n, end in zip(PIECES, ends, strict=True)], 1
    )


def test_halves_are_close_to_floats_in_half_the_bytes(model):
    tokens = tokens_of(model, sum(PIECES), 2)
    wide, narrow = model.cache(2), model.cache(2, "f16")
    assert (wide.dtype, narrow.dtype) == ("f32", "f16")
    want, got = through(model, wide, tokens), through(model, narrow, tokens)
    np.testing.assert_allclose(got, want, atol=4e-3 * np.abs(want).max())
    assert 2 * narrow.bytes_per_token == wide.bytes_per_token
    stores = any(name.endswith("rows") for name in wide.state())
    assert stores == (narrow.nbytes < wide.nbytes) == (not np.array_equal(got, want))


def test_halves_do_not_depend_on_the_pieces(model):
    """Every query sees rounded keys, in the pass that stores them too."""
    tokens = tokens_of(model, sum(PIECES))
    whole = model.logits(tokens, cache=model.cache(dtype="f16"))
    pieces = through(model, model.cache(dtype="f16"), tokens)
    np.testing.assert_allclose(pieces, whole, atol=2e-4 * np.abs(whole).max())


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_save_restore_and_fork_give_the_same_bits(model, dtype, tmp_path):
    tokens, following = tokens_of(model, sum(PIECES), 2), tokens_of(model, 9, 2)
    cache = model.cache(2, dtype)
    through(model, cache, tokens)
    np.savez(tmp_path / "cache.npz", **cache.state())
    restored = model.cache(2, dtype)
    with np.load(tmp_path / "cache.npz") as saved:
        restored.load_state(saved)
    want = model.logits(following, cache=cache.fork())
    for other in (cache, restored):
        assert model.logits(following, cache=other).tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_threads_do_not_change_the_bits(model, dtype):
    tokens, before, found = tokens_of(model, sum(PIECES), 2), hybridattn.get_num_threads(), []
    try:
        for threads in (1, 2):
            hybridattn.set_num_threads(threads)
            found.append(through(model, model.cache(2, dtype), tokens).tobytes())
    finally:
        hybridattn.set_num_threads(before)
    assert found[0] == found[1]


def test_a_fork_copies_what_is_used(model):
    cache = model.cache()
    cache.reserve([5000])
    model.logits(tokens_of(model, 100), cache=cache)
    room = cache.nbytes
    fork = cache.fork()
    assert fork.lengths.tolist() == [100]
    assert fork.nbytes <= cache.nbytes - 4800 * cache.bytes_per_token
    model.logits(tokens_of(model, 4900), cache=cache)
    assert cache.nbytes == room


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_one_prefix_goes_before_many_prompts(model, dtype):
    prefix, first, second = (tokens_of(model, n)[0].tolist() for n in (80, 5, 12))
    cache = model.cache(dtype=dtype)
    model.logits(np.array([prefix], np.int32), cache=cache)
    options = {"max_new_tokens": 8, "cache_dtype": dtype}
    alone = [model.generate(prefix + prompt, **options) for prompt in (first, second)]
    assert [model.generate(prompt, cache=cache, **options) for prompt in (first, second)] == alone
    assert model.generate([first, second], cache=cache, **options) == alone
    assert cache.lengths.tolist() == [80]


def test_a_cache_is_checked(model):
    with pytest.raises(ConfigError, match="dtype is f8, allowed are f32, f16"):
        model.cache(dtype="f8")
    with pytest.raises(ConfigError, match="cache_dtype is 'q4'; allowed: f32, f16"):
        model.generate([1], cache_dtype="q4")
    with pytest.raises(ConfigError, match=r"cache is .*3 sequences.*; allowed: 1 or 2 sequences"):
        model.generate([[1], [2]], cache=model.cache(3))
    with pytest.raises(ValueError, match="batch is 3, allowed is 2, as it holds"):
        model.cache(2).fork(3)
    with pytest.raises(ValueError, match=r"tokens\[0\] is -1, allowed are 0 to"):
        model.cache().reserve([-1])
    with pytest.raises(ValueError, match="tokens has"):
        model.cache(2).reserve([1])
    with pytest.raises(ValueError, match="batch is 0"):
        _core.Cache(model, 0)


def test_a_state_of_halves_is_not_one_of_floats():
    model = tiny.teacher()
    cache = model.cache(dtype="f16")
    model.logits(tokens_of(model, 3), cache=cache)
    state = cache.state()
    assert state["0.softmax.0.rows"].dtype == np.float16
    floats = model.cache()
    floats.load_state(state)  # exact: every half is a float
    assert np.array_equal(floats.state()["0.softmax.0.rows"], state["0.softmax.0.rows"])
    with pytest.raises(TypeError, match=r"0\.softmax\.0\.rows has dtype"):
        cache.load_state(floats.state())


def test_positions_beyond_the_models_are_asked_for():
    model = tiny.teacher()
    limit = model.model_config.max_positions
    prompt = tokens_of(model, limit - 2)[0].tolist()
    with pytest.raises(ConfigError, match=f"as the model has {limit} positions, or beyond_positions=True"):
        model.generate(prompt, max_new_tokens=3)
    assert len(model.generate(prompt, max_new_tokens=3, beyond_positions=True, stop=())) <= 3
    cache = model.cache()
    model.logits(np.array([prompt], np.int32), cache=cache)
    with pytest.raises(ConfigError, match=f"max_new_tokens is 3 after {limit - 1} tokens; allowed: 1"):
        model.generate([1], cache=cache, max_new_tokens=3)
