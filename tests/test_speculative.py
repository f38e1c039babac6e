"""Speculative decoding: the text of plain decoding, whatever guesses; guesses that are right are counted."""

import numpy as np
import pytest
import tiny

from hybridattn import elastic
from hybridattn.errors import ConfigError
from hybridattn.model import speculative
from hybridattn.model.drafts import LookupDraft, ModelDraft
from hybridattn.model.generate import generate, stream
from hybridattn.model.speculative import Speculation

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPT = "The mill stood where the river bent, and the mill stood where the"
MIXED = {"kind": "gated_delta", "conv": 3}


@pytest.fixture(scope="module", params=["window_linear", "gated_delta", "gated_delta conv", "gsa", "teacher"])
def probe(request):
    """A model that holds both mixers in every layer, the first and the last of them softmax."""
    kind, _, conv = request.param.partition(" ")
    teacher = tiny.teacher(seed=3)
    if kind == "teacher":
        return teacher
    options = {"window": 8, "sinks": 2} if kind == "window_linear" else {"conv": 3} if conv else {}
    model = teacher.to_probe({"kind": kind, **options})
    model.set_softmax_layers([0, 2])
    return model


def drafts(model):
    linear = [] if len(model.layers[0]) == 1 else ["linear"]
    return ["lookup", *linear, model, tiny.teacher(seed=4)]


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_the_text_is_that_of_plain_decoding(probe, temperature):
    options = {"max_new_tokens": 40, "temperature": temperature, "seed": 5, "top_k": 30, "top_p": 0.95}
    want = probe.generate(PROMPT, **options)
    for draft in drafts(probe):
        for most in (1, 4, 15):
            assert probe.generate(PROMPT, **options, speculative=most, draft=draft) == want, (draft, most)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_of_a_batch_end_by_themselves(probe, temperature):
    """Prompts of unlike lengths, and stops that come at unlike times."""
    prompts = [PROMPT, "In", "the wheel turned", "a a a a a a a"]
    options = {"max_new_tokens": 30, "temperature": temperature, "stop": ["e", "\n"], "prefill_chunk": 16}
    want = probe.generate(prompts, **options)
    for draft in drafts(probe):
        assert probe.generate(prompts, **options, speculative=3, draft=draft) == want


def test_a_prefix_and_halves_go_with_it(probe):
    prefix = probe.cache(dtype="f16")
    probe.logits(np.array([probe.tokenizer.encode("Once the mill turned. ")], np.int32), cache=prefix)
    want = probe.generate(PROMPT, cache=prefix, max_new_tokens=30)
    for draft in drafts(probe):
        assert probe.generate(PROMPT, cache=prefix, max_new_tokens=30, speculative=5, draft=draft) == want


def test_a_stream_is_the_same_text(probe):
    assert "".join(stream(probe, PROMPT, max_new_tokens=25, speculative=4)) == probe.generate(
        PROMPT, max_new_tokens=25
    )


def test_other_softmax_layers_with_the_linear_setting_as_draft():
    model = tiny.teacher(seed=3).to_probe(MIXED)
    model.softmax_order = (1, 0, 2)
    for layers in (0, 1, [0, 2], elastic.by_length((0, 2), (50, 1))):
        options = {"softmax_layers": layers, "max_new_tokens": 20}
        want = generate(model, PROMPT, **options)
        assert generate(model, PROMPT, **options, speculative=4, draft="linear") == want
    assert model.gates.tolist() == [1, 1, 1]


def counts_of(model, prompt, draft, most, temperature=0.0, count=60):
    """(new tokens, Counts) of one prompt."""
    tokens, seen = model.tokenizer.encode(prompt), {}
    init = Speculation.__init__

    def keep(self, *args):
        seen["it"] = self
        init(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Speculation, "__init__", keep)
        text = generate(
            model, tokens, max_new_tokens=count, speculative=most, draft=draft, temperature=temperature
        )
    return text, seen["it"].counts


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_that_is_the_model_is_always_right(temperature):
    """Also sampled: draft and model choose with the same draws."""
    model = tiny.teacher(seed=3).to_probe(MIXED)
    text, counts = counts_of(model, PROMPT, model.copy(), 5, temperature)
    assert counts.accepted == counts.guessed > 0
    assert counts.passes <= 3 + len(text) / 5
    assert counts.accepted + counts.passes + 1 >= len(text)


def test_lookup_guesses_what_followed():
    draft = LookupDraft()
    text = [1, 2, 3, 4, 5, 6, 1, 2, 3]
    draft.start([text], 100)
    assert draft.propose([text], [2]) == [[4, 5]]
    assert draft.propose([text], [8]) == [[4, 5, 6, 1, 2, 3, 4, 5]]  # goes on repeating
    assert draft.propose([[*text, 9]], [4]) == [[]]
    assert draft.propose([[*text, 9, 2, 3]], [1]) == [[9]]  # the last time counts
    assert draft.propose([[*text, 9, 2, 3]], [0]) == [[]]
    draft = LookupDraft()
    draft.start([[7]], 100)
    assert draft.propose([[7, 7, 7, 7]], [3]) == [[7, 7, 7]]
    assert draft.propose([[7]], [3]) == [[]]


def test_repeated_text_takes_few_passes():
    """A model of the last token alone goes in circles."""
    model = tiny.teacher(seed=3, tied=False)
    for name, array in model.arrays().items():
        if "o_proj" in name or "down_proj" in name:
            array[...] = 0.0
    text, counts = counts_of(model, PROMPT, "lookup", 15, count=180)
    assert counts.accepted > 0.9 * counts.guessed
    assert counts.passes < len(text) / 3


def test_what_a_model_draft_has_read_is_what_the_texts_have():
    """After any guesses, right or wrong, it goes on as one who reads the text from the start."""
    model = tiny.teacher(seed=3).to_probe(MIXED).to_hybrid([1])

    def choose(logits, row, at):
        return int(logits.argmax())

    draft = ModelDraft(model, False, 4, choose)
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 256, n).tolist() for n in (5, 9)]
    draft.start(texts, 100)
    for text, n in zip(texts, (1, 2), strict=True):
        text += rng.integers(0, 256, n).tolist()
    for wrong in (0, 2, 4, 1, 3):
        guesses = draft.propose(texts, [4, 4])
        for i, text in enumerate(texts):
            cache, last, own = model.cache(), text, []
            for _ in range(4):
                logits = model.logits(np.array([last], np.int32), cache=cache, last=True)
                own.append(int(logits.argmax()))
                last = own[-1:]
            assert guesses[i] == own
            keep = (wrong + i) % 5
            text += own[:keep] + rng.integers(0, 256, 1).tolist()


def test_room_is_what_passes_of_exact_bits_have():
    assert [speculative.room(7, n) for n in (1, 2, 3, 8, 9, 100)] == [7, 7, 4, 1, 0, 0]
    model = tiny.teacher(seed=3)
    prompts = [PROMPT[i:] for i in range(9)]
    assert model.generate(prompts, max_new_tokens=8, speculative=7) == model.generate(
        prompts, max_new_tokens=8
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speculative": -1}, "speculative is -1; allowed: a whole number of at least 0"),
        ({"speculative": True}, "speculative is True"),
        ({"speculative": 16}, "speculative is 16; allowed: 0 to 15"),
        ({"speculative": 2, "draft": "best"}, "draft is 'best'; allowed: lookup, linear, or a model"),
        ({"draft": "lookup"}, "speculative is 0; allowed: 1 or more beside a draft"),
        (
            {"speculative": 2, "draft": "linear"},
            "layer 0 is .*softmax.*; allowed: a layer that holds a linear",
        ),
        (
            {"speculative": 2, "draft": tiny.teacher(vocab_size=300)},
            "draft is 'a model of 300 tokens'; allowed: one of 257",
        ),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        generate(tiny.teacher(), PROMPT, max_new_tokens=4, **options)
