"""The trail of a cache: several tokens at once are bit for bit one after the other, and what has been taken
back has never been fed.
"""

import numpy as np
import pytest
import tiny
from test_mixers import specs

pytestmark = pytest.mark.usefixtures("one_thread")

RNG = np.random.default_rng(5)


def model_of(spec, dtype="float32"):
    """Softmax in the middle, so that both kinds of state are there."""
    model = tiny.teacher(seed=2, intermediate_size=64).to_probe(spec).to_hybrid([1])
    return model if dtype == "float32" else model.astype(dtype)


def tokens_of(count, batch=1):
    return RNG.integers(0, 256, (batch, count), dtype=np.int32)


def one_by_one(model, cache, tokens):
    """Logits [B, T, V]."""
    return np.stack(
        [model.logits(tokens[:, i : i + 1], cache=cache, last=True) for i in range(tokens.shape[1])], 1
    )


@pytest.mark.parametrize("spec", specs(), ids=str)
@pytest.mark.parametrize("dtype", ["float32", "q8_0"])
def test_several_tokens_give_the_bits_of_one_after_the_other(spec, dtype):
    model = model_of(spec, dtype)
    prompt, tokens = tokens_of(19), tokens_of(11)
    plain, trailed = model.cache(), model.cache()
    for cache in (plain, trailed):
        model.logits(prompt, cache=cache)
    trailed.trail(11)
    want = one_by_one(model, plain, tokens)
    assert model.logits(tokens, cache=trailed).tobytes() == want.tobytes()
    after = tokens_of(1)
    assert model.logits(after, cache=trailed).tobytes() == model.logits(after, cache=plain).tobytes()


@pytest.mark.parametrize("spec", specs(), ids=str)
@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_what_is_taken_back_has_never_been_fed(spec, dtype):
    model = model_of(spec)
    prompt, tokens = tokens_of(9, 2), tokens_of(12, 2)
    cache = model.cache(2, dtype)
    model.logits(prompt, cache=cache)
    cache.trail(6)
    want = []
    for n in range(12):  # one by one, without a trail
        if n == 0:
            plain = model.cache(2, dtype)
            model.logits(prompt, cache=plain)
        want.append(model.logits(tokens[:, n : n + 1], cache=plain, last=True))
    at, wrong = 0, tokens_of(12, 2)
    for n, back in ((4, 2), (1, 0), (6, 5), (3, 1), (2, 2), (1, 0)):
        fed = tokens[:, at : at + n].copy()
        fed[:, n - back :] = wrong[:, :back]
        got = model.logits(fed, cache=cache)
        for i in range(n - back):
            assert got[:, i].tobytes() == want[at + i].tobytes(), (at, i)
        cache.rewind([back, back])
        at += n - back
        assert cache.lengths.tolist() == [9 + at] * 2


@pytest.mark.parametrize("spec", specs(), ids=str)
def test_rows_go_back_by_themselves_over_several_passes(spec):
    model = model_of(spec)
    cache = model.cache(2)
    prompt, tokens = tokens_of(9, 2), tokens_of(5, 2)
    model.logits(prompt, cache=cache)
    cache.trail(5)
    one_by_one(model, cache, tokens)
    cache.rewind([4, 1])
    for row, kept in ((0, 1), (1, 4)):
        single = model.cache()
        model.logits(prompt[row : row + 1], cache=single)
        one_by_one(model, single, tokens[row : row + 1, :kept])
        fork = cache.state()
        for key, value in single.state().items():
            if key != "lengths":
                layer, kind, _, part = key.split(".")
                assert np.allclose(fork[f"{layer}.{kind}.{row}.{part}"], value, rtol=1e-4, atol=1e-4), key
    assert cache.lengths.tolist() == [10, 13]


def test_more_than_is_kept_is_refused_and_nothing_changes():
    model = model_of({"kind": "gated_delta"})
    cache = model.cache()
    with pytest.raises(ValueError, match=r"tokens\[0\] is 1, allowed are 0 to 0"):
        cache.rewind([1])
    model.logits(tokens_of(5), cache=cache)
    cache.trail(3)
    with pytest.raises(ValueError, match="allowed are 0 to 0"):
        cache.rewind([1])
    model.logits(tokens_of(2), cache=cache)
    with pytest.raises(ValueError, match="allowed are 0 to 2"):
        cache.rewind([3])
    model.logits(tokens_of(4), cache=cache)  # longer than the trail: nothing can be taken back
    with pytest.raises(ValueError, match="allowed are 0 to 0"):
        cache.rewind([1])
    assert cache.lengths.tolist() == [11]
    for wrong in (-1, 5000):
        with pytest.raises(ValueError, match=f"tokens is {wrong}, allowed are 0 to 1024"):
            cache.trail(wrong)
    with pytest.raises(TypeError):
        cache.trail(1.5)


def test_a_trail_costs_its_states_and_is_given_back():
    model = model_of({"kind": "gated_delta"})
    cache = model.cache()
    bare = cache.nbytes
    floats = sum(value.size for key, value in cache.state().items() if key.endswith("data"))
    cache.trail(4)
    assert cache.nbytes == bare + 4 * 4 * floats
    assert cache.fork().nbytes == bare
    model.logits(tokens_of(3), cache=cache)
    want = cache.state()
    cache.trail(0)
    assert cache.nbytes >= bare and all(np.array_equal(cache.state()[key], want[key]) for key in want)
    cache.trail(2)
    cache.load_state(want)
    assert all(np.array_equal(cache.state()[key], want[key]) for key in want)
    cache.reset()
    assert not any(value.any() for key, value in cache.state().items())
