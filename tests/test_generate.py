"""Generation: the cache, the batch and the chunks change nothing; seeds repeat; stops stop; bad options
are named.
"""

import unittest.mock

import numpy as np
import pytest
import tiny

from hybridattn._core import Cache
from hybridattn.errors import ConfigError, DataError
from hybridattn.model.generate import Options, generate, pick, prefill, stream

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPT = "The mill stood where the river bent, and"


@pytest.fixture(scope="module", params=["teacher", *(mixer["kind"] for mixer in tiny.MIXERS)])
def model(request):
    teacher = tiny.teacher(seed=3)
    spec = {mixer["kind"]: mixer for mixer in tiny.MIXERS}.get(request.param)
    return teacher if spec is None else teacher.to_probe(spec).to_hybrid([1])


def greedy_without_cache(model, tokens, count):
    tokens = list(tokens)
    for _ in range(count):
        tokens.append(int(model.logits(np.array([tokens], np.int32))[0, -1].argmax()))
    return tokens[-count:]


def test_greedy_equals_full_forward_passes(model):
    prompt = model.tokenizer.encode(PROMPT)
    assert generate(model, prompt, max_new_tokens=20) == greedy_without_cache(model, prompt, 20)


@pytest.mark.parametrize("chunk", [1, 7, 16, 39, 100])
def test_prefill_chunks_equal_the_whole(model, chunk):
    prompt = model.tokenizer.encode(PROMPT)
    whole = model.logits(np.array([prompt], np.int32))[:, -1]
    cache = Cache(model)
    assert np.allclose(prefill(model, [prompt], cache, chunk), whole, atol=1e-4)
    assert cache.lengths.tolist() == [len(prompt)]


@pytest.mark.parametrize("chunk", [3, 20, 512])
def test_left_padding_changes_nothing(model, chunk):
    prompts = [model.tokenizer.encode(text) for text in (PROMPT, "In", "the wheel turned")]
    cache = Cache(model, batch=3)
    together = prefill(model, prompts, cache, chunk)
    assert cache.lengths.tolist() == [len(p) for p in prompts]
    for row, prompt in zip(together, prompts):
        assert np.allclose(row, prefill(model, [prompt], Cache(model)), atol=1e-4)


def test_batch_equals_single(model):
    texts = [PROMPT, "In", "the wheel turned"]
    assert model.generate(texts, max_new_tokens=12) == [model.generate(t, max_new_tokens=12) for t in texts]


def test_rows_stop_at_their_own_time(model):
    texts = [PROMPT, "In the spring", "the wheel turned"]
    free = [generate(model, model.tokenizer.encode(t), max_new_tokens=12) for t in texts]
    stop = free[0][3]
    expected = [tokens[: tokens.index(stop)] if stop in tokens else tokens for tokens in free]
    prompts = [model.tokenizer.encode(t) for t in texts]
    assert generate(model, prompts, max_new_tokens=12, stop=[stop]) == expected


def test_stream_joined_is_generate(model):
    for options in ({}, {"temperature": 1.0, "seed": 5}, {"temperature": 2.0, "top_k": 50, "top_p": 0.9}):
        pieces = list(model.stream(PROMPT, max_new_tokens=30, **options))
        assert "".join(pieces) == model.generate(PROMPT, max_new_tokens=30, **options)
        assert len(pieces) > 1 and all(pieces)


def test_seeds(model):
    def sample(seed):
        return model.generate(PROMPT, max_new_tokens=24, temperature=1.0, seed=seed)

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


class Scripted:
    """A model that says a given text whatever the prompt: for tests of stopping."""

    def __init__(self, text):
        self.tokenizer = tiny.tokenizer()
        self.model_config = tiny.teacher(layers=1).model_config
        self.script = iter([*self.tokenizer.encode(text), tiny.EOS])
        self.calls = 0


@pytest.fixture
def scripted():
    """generate() with the model's forward pass replaced by a script."""

    def make(text):
        model = Scripted(text)

        def logits(*_, **__):
            model.calls += 1
            out = np.zeros((1, tiny.EOS + 1), np.float32)
            out[0, next(model.script)] = 1
            return out

        model.logits = logits
        model.cache = unittest.mock.MagicMock()
        return model

    return make


def test_ends_at_eos(scripted):
    assert generate(scripted("über Wasser"), "a") == "über Wasser"


def test_stop_text_is_cut_off_and_ends_the_work(scripted):
    model = scripted("one two three")
    assert generate(model, "a", stop="two") == "one "
    assert model.calls == len("one two")


def test_earliest_of_several_stops(scripted):
    assert generate(scripted("one two three"), "a", stop=["three", "wo t"]) == "one t"


def test_stream_holds_back_what_a_stop_could_take(scripted):
    pieces = list(stream(scripted("a\nb\n\nUser: c"), "x", stop=["\n\nUser"]))
    assert "".join(pieces) == "a\nb"
    assert all("\n\n" not in piece for piece in pieces)
    assert "".join(stream(scripted("a\n\nUse"), "x", stop=["\n\nUser"])) == "a\n\nUse"


def test_stream_never_cuts_a_character(scripted):
    assert list(stream(scripted("né€"), "x")) == ["n", "é", "€"]


def test_max_new_tokens_within_a_character(scripted):
    assert generate(scripted("né"), "x", max_new_tokens=2) == "n\ufffd"


def test_stop_token(scripted):
    model = scripted("abc")
    assert generate(model, [1, 2], stop=model.tokenizer.encode("c")[0]) == model.tokenizer.encode("ab")


LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32))


def draws(temperature=1.0, top_k=0, top_p=1.0):
    rng = np.random.default_rng(0)
    tokens = [pick(LOGITS, temperature, top_k, top_p, rng) for _ in range(4000)]
    return np.bincount(tokens, minlength=4) / 4000


def test_pick_follows_the_distribution():
    assert np.allclose(draws(), [0.1, 0.4, 0.2, 0.3], atol=0.03)


def test_pick_top_k():
    assert np.allclose(draws(top_k=2), [0, 4 / 7, 0, 3 / 7], atol=0.03)
    assert draws(top_k=1).tolist() == [0, 1, 0, 0]
    assert np.allclose(draws(top_k=9), [0.1, 0.4, 0.2, 0.3], atol=0.03)


def test_pick_top_p_keeps_the_fewest_that_reach_it():
    assert np.allclose(draws(top_p=0.65), [0, 4 / 7, 0, 3 / 7], atol=0.03)
    assert np.allclose(draws(top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9], atol=0.03)
    assert draws(top_p=1e-6).tolist() == [0, 1, 0, 0]


def test_pick_temperature():
    assert draws(temperature=0.0).tolist() == [0, 1, 0, 0]
    cold = np.array([0.1, 0.4, 0.2, 0.3]) ** 2
    assert np.allclose(draws(temperature=0.5), cold / cold.sum(), atol=0.03)


@pytest.mark.parametrize(("options", "message"), [
    ({"max_new_tokens": 0}, "max_new_tokens is 0; allowed: a whole number of at least 1"),
    ({"max_new_tokens": 2.0}, "max_new_tokens is 2.0"),
    ({"temperature": -1.0}, "temperature is -1.0"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"top_k": -1}, "top_k is -1"),
    ({"top_p": 0.0}, "top_p is 0.0"),
    ({"top_p": 1.1}, "top_p is 1.1"),
    ({"seed": -3}, "seed is -3"),
    ({"stop": ""}, "stop is ''"),
    ({"stop": [1.5]}, "stop is 1.5"),
    ({"prefill_chunk": 0}, "prefill_chunk is 0"),
])  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        Options(**options)


def test_bad_prompts():
    model = tiny.teacher(layers=1)
    with pytest.raises(DataError, match="prompt is empty"):
        model.generate("")
    with pytest.raises(ConfigError, match="max_new_tokens is 250 after 10 tokens; allowed: 246"):
        model.generate("0123456789", max_new_tokens=250)
    with pytest.raises(ConfigError, match="temperature"):
        model.stream("a", temperature=-1)  # at the call, before the first piece
    with pytest.raises(ValueError, match="300"):
        model.generate([300])
    model.tokenizer = None
    assert len(model.generate([1, 2], max_new_tokens=3)) <= 3
    for call in (lambda: model.generate("a"), lambda: model.stream([1])):
        with pytest.raises(DataError, match="tokenizer is None"):
            call()
    with pytest.raises(ConfigError, match="stop is 'x'"):
        model.generate([1], stop="x")


@pytest.mark.parametrize("temperature", [1e-3, 1e-307, 5e-324])
def test_the_coldest_draw_is_the_likeliest(temperature):
    logits = np.array([1.0, 50.0, 3.0, -40.0], np.float32)
    with np.errstate(all="raise", under="ignore", over="ignore"):
        assert pick(logits, temperature, 0, 1.0, np.random.default_rng(0)) == 1


def test_each_row_of_a_cache_has_its_own_length(model):
    limit = model.model_config.max_positions
    cache = model.cache(2)
    mask = np.zeros((2, limit - 10), bool)
    mask[0], mask[1, -10:] = True, True
    model.logits(np.full((2, limit - 10), 7, np.int32), mask=mask, cache=cache, last=True)
    assert cache.lengths.tolist() == [limit - 10, 10]
    made = model.generate([[5], [5] * 60], cache=cache, max_new_tokens=5)
    assert max(map(len, made)) <= 5
    with pytest.raises(ConfigError, match=f"max_new_tokens is 10 after {limit - 9} tokens; allowed: 9"):
        model.generate([[5], [5] * 60], cache=cache, max_new_tokens=10)


def test_a_stop_token_of_numpy(model):
    first = model.generate([3, 5, 7], max_new_tokens=3)[0]
    assert model.generate([3, 5, 7], max_new_tokens=3, stop=np.int64(first)) == []


def test_a_prompt_that_is_no_text(model):
    with pytest.raises(DataError, match="allowed: UTF-8 text"):
        model.generate("caf\udce9")


@pytest.mark.parametrize("lengths", [(1, 40), (40, 1, 2), (3, 90, 40), (1, 90, 17, 5), (60, 1, 33)])
@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_a_short_prompt_makes_no_pass_wider(model, lengths, chunk, monkeypatch):
    text = model.tokenizer.encode(tiny.TEXT[:90])
    prompts, widths = [text[:n] for n in lengths], []
    real = type(model).logits
    cache = Cache(model, batch=len(lengths))
    start = [[7, 8, 9]] * len(lengths)
    prefill(model, start, cache)  # the cache holds something before
    monkeypatch.setattr(
        type(model), "logits", lambda m, t, **more: widths.append(t.shape[1]) or real(m, t, **more)
    )
    together = prefill(model, prompts, cache, chunk)
    assert max(widths) <= chunk
    assert cache.lengths.tolist() == [n + 3 for n in lengths]
    monkeypatch.undo()
    for row, prompt in zip(together, prompts):
        alone = Cache(model)
        prefill(model, [[7, 8, 9]], alone)
        assert np.allclose(row, prefill(model, [prompt], alone), atol=1e-4)
    after = model.logits(np.full((len(lengths), 1), 5, np.int32), cache=cache, last=True)
    whole = [model.logits(np.array([[7, 8, 9, *p, 5]], np.int32), last=True)[0] for p in prompts]
    np.testing.assert_allclose(after, whole, atol=1e-4)
