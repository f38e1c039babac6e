"""Text as real tokenizers cut it: new text behind a prompt, stops, end tokens, answers, contexts; tokenizers
that put a space or `<s>` before a text or `</s>` after it. And numbers that are no token ids.
"""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from tokenizer_cases import EOT, byte_level, sentence_piece, word_piece, write

from hybridattn import diagnostics
from hybridattn.data.prompts import answer_tokens, encode_pair, open_tokens
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.data.tokens import TokenData
from hybridattn.errors import ConfigError, DataError
from hybridattn.evaluate.text import kl
from hybridattn.model.generate import generate, generate_texts, stop_tokens, stream
from hybridattn.model.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")


class Scripted:
    """A model that says given tokens, whatever the prompt."""

    def __init__(self, tokenizer, tokens, end=2):
        size = tokenizer.vocab_size
        self.tokenizer = tokenizer
        self.model_config = SimpleNamespace(max_positions=512, eos_token_ids=(end,), generation={})
        self.script = iter([*tokens, end])
        self.size = size

    def cache(self, *_):
        return SimpleNamespace(reserve=lambda lengths: None)

    def logits(self, tokens, **_):
        out = np.zeros((len(tokens), self.size), np.float32)
        out[:, next(self.script)] = 1
        return out


PIECES = Tokenizer(sentence_piece(), bos_token_id=1, eos_token_id=2)
CLOSED = Tokenizer(sentence_piece("<s> $A </s>"), bos_token_id=1, eos_token_id=2)
BYTES = Tokenizer(byte_level(special=(EOT, "<|im_end|>", "</s>")), bos_token_id=0, eos_token_id=2)
WORDS = Tokenizer(word_piece())


def says(tokenizer, text):
    """The tokens of `text` behind "the moon"."""
    return answer_tokens(tokenizer, "the moon", text)[1]


# --- new text and stops ---


@pytest.mark.parametrize(
    "tokenizer", [PIECES, CLOSED, BYTES, WORDS], ids=["spaces", "closed", "bytes", "words"]
)
@pytest.mark.parametrize("text", [" wheel", " the wheel", ", the moon", "\u00e9 \U0001f642\u6f22", "s", " "])
def test_new_text_is_what_decoding_adds_to_the_prompt(tokenizer, text):
    prompt = open_tokens(tokenizer, "the moon")
    tokens = says(tokenizer, text)
    before, after = tokenizer.decode(prompt), tokenizer.decode([*prompt, *tokens])
    want = after.removeprefix(before)
    for given in ("the moon", prompt):
        assert "".join(stream(Scripted(tokenizer, tokens), given)) == want
        assert generate_texts(Scripted(tokenizer, tokens), [given]) == [want]
    assert generate(Scripted(tokenizer, tokens), "the moon") == want
    assert generate(Scripted(tokenizer, tokens), prompt) == tokens


def test_the_first_space_is_kept_and_stops_see_it():
    tokens = says(PIECES, " a wheel")
    assert generate(Scripted(PIECES, tokens), "the moon") == " a wheel"
    assert generate(Scripted(PIECES, tokens), "the moon", stop=" a") == ""
    assert list(stream(Scripted(PIECES, tokens), "the moon", stop=" a")) == []
    assert generate(Scripted(PIECES, tokens), "the moon", stop="a wh") == " "  # across borders of tokens


def test_a_character_that_the_prompt_leaves_open():
    first, *rest = PIECES.encode("\U0001f642", add_special_tokens=False)[1:]
    prompt = [*PIECES.encode("the"), first]
    assert generate_texts(Scripted(PIECES, rest), [prompt]) == ["\U0001f642"]


@pytest.mark.parametrize(
    ("stop", "want"),
    [
        ("<|im_end|>", " the"),  # a special token
        ("<|im_end|>\n", " the"),  # and text after it
        ("the<|im_end|>", " "),  # and text before it
        (" the<|im_end|>\nwh", ""),
        ("<|im_end|>x", " the\nwheel"),  # does not come
        (["<|im_end|>x", "whe"], " the\n"),
        ("\nwh", " the"),
    ],
)
def test_stops_with_special_tokens(stop, want):
    tokens = BYTES.encode(" the<|im_end|>\nwheel")
    prompt = BYTES.encode("the moon")
    assert generate(Scripted(BYTES, tokens), "the moon", stop=stop) == want
    assert "".join(stream(Scripted(BYTES, tokens), "the moon", stop=stop)) == want
    assert generate_texts(Scripted(BYTES, tokens), [prompt], stop=stop) == [want]


def test_a_special_token_as_stop_text_is_none_of_the_new_tokens():
    tokens = BYTES.encode(" the<|im_end|>\nwheel")
    assert generate(Scripted(BYTES, tokens), [5], stop="<|im_end|>") == BYTES.encode(" the")


# --- end tokens ---


def saved(tmp_path, generation, config=None, eos=EOT):
    """A tiny model in a folder with a generation_config.json; its tokenizer's end-of-text token."""
    model = tiny.teacher(layers=1, **(config or {}))
    model.save_pretrained(tmp_path / "m")
    if generation is not None:
        text = generation if isinstance(generation, str) else json.dumps(generation)
        (tmp_path / "m" / "generation_config.json").write_text(text)
    return tmp_path / "m"


@pytest.mark.parametrize(
    ("generation", "config", "want"),
    [
        ({"eos_token_id": [7, 256]}, {}, {7, 256}),
        ({"eos_token_id": 7}, {}, {7, 256}),
        ({"eos_token_id": [7]}, {"eos_token_id": [8, 9]}, {7, 8, 9}),
        ({"eos_token_id": None, "temperature": 0.6}, {}, {256}),
        ({"eos_token_id": [7]}, {"eos_token_id": None}, {7}),
        ({}, {"eos_token_id": None}, {256}),  # the tokenizer's, where no file says
        (None, {}, {256}),
        ({"eos_token_id": [7, 99999]}, {}, {7, 256, 99999}),  # one that never comes up
    ],
)
def test_end_tokens_of_both_files_stop(tmp_path, generation, config, want):
    model = Model.from_pretrained(saved(tmp_path, generation, config))
    assert stop_tokens(model) == want
    probe = model.to_probe(tiny.MIXERS[0])
    for made in (model.copy(), probe, probe.to_hybrid([0]), model.astype("bfloat16")):
        assert stop_tokens(made) == want
    probe.to_hybrid([]).save_pretrained(tmp_path / "h")
    assert stop_tokens(Model.from_pretrained(tmp_path / "h")) == want
    if generation:
        assert json.loads((tmp_path / "h" / "generation_config.json").read_text()) == generation


def test_generation_ends_there(tmp_path):
    folder = saved(tmp_path, None)
    free = Model.from_pretrained(folder).generate([1, 2, 3], max_new_tokens=12)
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [free[4]], "temperature": 2.0})
    )
    model = Model.from_pretrained(folder)
    assert model.generate([1, 2, 3], max_new_tokens=12) == free[: free.index(free[4])]


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"eos_token_id": "x"}', '{"eos_token_id": [1, true]}', '{"eos_token_id": [[1]]}']
)
def test_a_wrong_generation_config_is_named(tmp_path, text):
    with pytest.raises(ConfigError, match=r"generation_config.json: "):
        Model.from_pretrained(saved(tmp_path, text))


def test_saving_over_another_model_leaves_nothing_of_it(tmp_path):
    folder = saved(tmp_path, {"eos_token_id": 7})
    stale = (
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "vocab.txt",
        "tokenizer.model",
    )
    stale += ("special_tokens_map.json", "chat_template.jinja")
    for name in (*stale, "notes.txt", "data.safetensors"):
        (folder / name).write_text("{}")
    model = tiny.teacher(layers=1)
    model.tokenizer = None
    model.save_pretrained(folder)
    names = {file.name for file in folder.iterdir()} - {"README.md"}
    assert names == {"config.json", "model.safetensors", "notes.txt", "data.safetensors"}
    new = tmp_path / "new"  # no model's folder: what lies there stays
    write(new, byte_level())
    model.save_pretrained(new)
    assert (new / "tokenizer.json").is_file()


def test_old_tokenizer_files_are_a_warning_at_load_and_an_error_for_text(tmp_path):
    model = tiny.teacher(layers=1)
    model.tokenizer = None
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0b")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = Model.from_pretrained(tmp_path)
    assert "only tokenizer.model" in str(caught[-1].message) and "save_pretrained" in str(caught[-1].message)
    assert len(model.generate([1], max_new_tokens=1)) == 1
    with pytest.raises(DataError, match=r"no tokenizer.json; .* AutoTokenizer"):
        model.generate("the moon")


# --- answers and contexts ---


@pytest.mark.parametrize("tokenizer", [PIECES, CLOSED], ids=["open", "closed"])
@pytest.mark.parametrize("task", diagnostics.KINDS)
def test_answers_have_nothing_that_stands_around_texts(tokenizer, task):
    made = diagnostics.make(task, tokenizer, 2, 480, 0)
    for prompt, answer in zip(made.prompts, made.answers):
        assert prompt[0] == 1 and not {1, 2} & set(answer.tolist()) and 2 not in prompt
        text = tokenizer.decode(prompt)
        assert tokenizer.decode([*prompt, *answer]).startswith(text + " ")
        assert tokenizer.encode_open(tokenizer.decode([*prompt, *answer])) == [*prompt, *answer]


@pytest.mark.parametrize("space", ["", " ", "\n", "\n\n ", "\t"])
def test_white_space_moves_to_the_continuation(space):
    for tokenizer in (PIECES, CLOSED, BYTES):
        context, continuation = encode_pair(tokenizer, "the moon" + space, "a mill")
        assert context == open_tokens(tokenizer, "the moon")
        assert context + continuation == open_tokens(tokenizer, f"the moon{space}a mill")


def test_empty_contexts():
    assert encode_pair(PIECES, "", "the") == ([1], PIECES.encode("the")[1:])
    assert encode_pair(CLOSED, " \n", "the") == ([1], PIECES.encode(" \nthe")[1:])
    assert encode_pair(BYTES, "", "the") == ([0], BYTES.encode("the"))
    assert encode_pair(BYTES, "", f"{EOT}the") == ([0], BYTES.encode("the"))  # not twice
    with pytest.raises(DataError, match=r"bos_token_id is None"):
        encode_pair(WORDS, "", "the")


def test_a_text_that_is_closed_or_begins_with_bos():
    assert CLOSED.encode("the moon")[-1] == 2 and CLOSED.encode_open("the moon") == PIECES.encode("the moon")
    assert CLOSED.encode_open("") == [] and CLOSED.encode_open("a</s>")[-1] == 2  # the text's own stays
    assert PIECES.encode("<s>a").count(1) == 1 and PIECES.encode("<s>", False) == [1]
    assert CLOSED.encode_open("<s>a") == PIECES.encode("<s>a")
    data = TokenData.from_text(["the moon", "a mill"], CLOSED, 64, keep_tail=True)
    assert data.tokens.tolist().count(2) == 1  # between the two


# --- numbers and texts that are none ---


@pytest.mark.parametrize(
    "tokens",
    [
        [2**32 + 5, 3],
        [np.nan, 1.0],
        [1.0, 2.0],
        [True, False],
        [-1, 3],
        ["1", "2"],
        [2**31, 1],
        [None, 1],
        [2**70, 1],
    ],
)
def test_tokens_that_are_no_ids(tokens):
    with pytest.raises(DataError, match=r"tokens (holds|has dtype)"):
        TokenData(np.array(tokens), [[0, 2]])
    with pytest.raises(DataError, match=r"segments (holds|has dtype)"):
        TokenData([1, 2], [[0, 2]], segments=np.array(tokens))


@pytest.mark.parametrize("windows", [[[0.0, 2.0]], [[np.nan, 2]], [["0", "2"]], [[None, 2]]])
def test_windows_that_are_no_places(windows):
    with pytest.raises(DataError, match=r"windows has dtype"):
        TokenData([1, 2], np.array(windows))


@pytest.mark.parametrize("weights", [[np.nan, 1], [np.inf, 1], ["a", 1], [None, 1]])
def test_weights_that_are_no_numbers(weights):
    with pytest.raises(DataError, match=r"weights (is|holds)"):
        TokenData([1, 2], [[0, 2]], weights=weights)


def test_whole_numbers_of_other_types_are_taken():
    for kind in (np.uint8, np.int64, np.uint64, np.int16):
        data = TokenData(np.array([1, 2], kind), np.array([[0, 2]], kind))
        assert data.tokens.dtype == np.int32 and data.tokens.tolist() == [1, 2]


@pytest.mark.parametrize("bad", [None, 5, b"the", ["the"], "\ud800", "a\udfffb"])
def test_texts_that_are_none(bad):
    with pytest.raises(DataError, match=r"text 1"):
        TokenData.from_text(["the moon", bad], BYTES, 8)
    with pytest.raises(DataError, match=r"text 1 is"):
        BYTES.encode_batch(["the", bad])
    with pytest.raises(DataError, match=r"text 0 is"):
        BYTES.encode(bad)


@pytest.mark.parametrize("prompt", ["\ud800", [1.5], [[[1]]], [True], [None], {"a": 1}, 5, None, [], ""])
def test_prompts_that_are_none(prompt):
    model = tiny.teacher(layers=1)
    with pytest.raises(DataError):
        model.generate(prompt, max_new_tokens=1)


# --- frequencies that depend on the length ---

DYNAMIC = {"max_position_embeddings": 16, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}


@pytest.mark.parametrize(
    "call",
    [
        lambda m, t: m.logits(t),
        lambda m, t: m.hidden(t),
        lambda m, t: m.nll(t),
        lambda m, t: m.logits(t[:, 9:], cache=filled(m, t[:, :9])),
        lambda m, t: m.generate(t[0].tolist(), max_new_tokens=1, beyond_positions=True),
        lambda m, t: kl(m, m, TokenData(t[0], [[0, 17]])),
    ],
    ids=["logits", "hidden", "nll", "cache", "generate", "kl"],
)
def test_dynamic_rope_beyond_its_length_is_refused(call):
    tokens = np.arange(17, dtype=np.int32)[None]
    with pytest.raises(
        ConfigError, match=r"length is 1[78]; allowed: at most 16 positions, for rope_type dynamic"
    ):
        call(tiny.teacher(layers=1, **DYNAMIC), tokens)
    call(tiny.teacher(layers=1, max_position_embeddings=16), tokens)  # other types go on


def test_dynamic_rope_counts_tokens_and_not_padding():
    model = tiny.teacher(layers=1, **DYNAMIC)
    tokens, mask = np.ones((2, 20), np.int32), np.zeros((2, 20), np.bool_)
    mask[:, -16:] = True
    assert model.logits(tokens, mask=mask).shape[1] == 20
    mask[1, -17] = True
    with pytest.raises(ConfigError, match=r"length is 17"):
        model.logits(tokens, mask=mask)


def filled(model, tokens):
    cache = model.cache(1)
    model.logits(tokens, cache=cache)
    return cache
