"""The tokenizer wrapper: round trips, saving, streaming, chat, and files that are wrong."""

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import DataError

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_level():
    """Byte-level BPE with a few merges, two of which make tokens that hold part of a character."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|im_end|>", "<|im_start|>", *alphabet, "he", "ll", "hell", "Ã©", "ðŁ", "ðŁĻ"]
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ã", "©"), ("ð", "Ł"), ("ðŁ", "Ļ")]
    core = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, normalized=False) for token in tokens[:2]])
    return core


def sentence_piece():
    """Like Llama 2's: spaces become marks, the first is dropped, unknown characters become byte tokens."""
    tokens = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "▁a"]
    core = tokenizers.Tokenizer(
        models.BPE({t: i for i, t in enumerate(tokens)}, [("▁", "a")], unk_token="<unk>", byte_fallback=True)
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return core


BYTES = Tokenizer(byte_level(), bos_token_id=1, eos_token_id=0, chat_template=CHATML)
PIECES = Tokenizer(sentence_piece())


@given(st.text())
def test_round_trip(text):
    assert BYTES.decode(BYTES.encode(text), skip_special_tokens=False) == text


def test_batch_is_single():
    texts = ["hello", "", "é 🙂 hell"]
    assert BYTES.encode_batch(texts) == [BYTES.encode(text) for text in texts]


def stream(tokenizer, ids):
    decoder = tokenizer.stream()
    return [decoder.put(i) for i in ids], decoder.finish()


@given(st.text(alphabet=st.sampled_from("hel é🙂漢\u200d👍🏽\n")), st.sampled_from([BYTES, PIECES]))
def test_streaming_text(text, tokenizer):
    """The pieces make up the text, none holds half a character, and nothing is left for the end."""
    ids = tokenizer.encode(text)
    pieces, rest = stream(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids) and rest == ""
    assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(0, BYTES.vocab_size - 1)))
def test_streaming_any_tokens(ids):
    """A model may put out any bytes: what is not UTF-8 comes out as in decode."""
    pieces, rest = stream(BYTES, ids)
    assert "".join(pieces) + rest == BYTES.decode(ids)


def test_streaming_is_prompt_and_starts_anew():
    decoder = BYTES.stream()
    assert [decoder.put(i) for i in BYTES.encode("hi")] == ["h", "i"]
    first, *others = BYTES.encode("🙂")
    assert decoder.put(first) == "" and decoder.finish() == "\ufffd"
    assert "".join(decoder.put(i) for i in (first, *others)) == "🙂"


def test_decode_skips_special_tokens_and_odd_ids():
    ids = [1, *BYTES.encode("he"), 0]
    assert BYTES.decode(ids) == "he"
    assert BYTES.decode(ids, skip_special_tokens=False) == "<|im_start|>he<|im_end|>"
    assert BYTES.decode([BYTES.vocab_size + 5]) == ""  # a model's vocabulary may be padded
    with pytest.raises(DataError, match="-1"):
        BYTES.decode([-1])


def test_special_tokens_around_a_text():
    core = byte_level()
    core.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    tokenizer = Tokenizer(core)
    assert tokenizer.encode("he") == [1, *BYTES.encode("he")]
    assert tokenizer.encode("he", add_special_tokens=False) == BYTES.encode("he")


def test_settings_of_training_scripts_are_dropped():
    core = byte_level()
    core.enable_truncation(2)
    core.enable_padding(length=8)
    assert Tokenizer(core).encode("hello") == BYTES.encode("hello")


def test_special_ids_are_checked():
    with pytest.raises(DataError, match="eos_token_id is 9999"):
        Tokenizer(byte_level(), eos_token_id=9999)


# --- folders ---


def test_save_and_load(tmp_path):
    BYTES.save(tmp_path / "new")
    again = Tokenizer.from_folder(tmp_path / "new")
    assert again.encode("hello <|im_end|>é") == BYTES.encode("hello <|im_end|>é")
    assert (again.bos_token_id, again.eos_token_id, again.chat_template) == (1, 0, CHATML)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_special_tokens_of_an_encoder_are_saved(tmp_path):
    vocab = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"])}
    core = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.save(str(tmp_path / "tokenizer.json"))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "mask", "unk")}
    kept = {**special, "do_lower_case": True, "model_max_length": 512, "clean_up_tokenization_spaces": True}
    settings = {
        "tokenizer_class": "BertTokenizer",
        "bos_token": None,
        "auto_map": {"AutoTokenizer": "own.Own"},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**kept, **settings}))
    for source, target in (("", "once"), ("once", "twice")):
        tokenizer = Tokenizer.from_folder(tmp_path / source)
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (None, None)
        tokenizer.save(tmp_path / target)
        saved = json.loads((tmp_path / target / "tokenizer_config.json").read_text())
        assert saved == {**kept, "tokenizer_class": "BertTokenizer", "bos_token": None}
    assert Tokenizer.from_folder(tmp_path / "twice").encode("CAT dog") == [5, 1]


@pytest.mark.parametrize(
    ("settings", "model", "ids"),
    [
        ({"eos_token": {"content": "<|im_end|>"}, "bos_token": None}, {}, (None, 0)),
        ({}, {"bos_token_id": 1, "eos_token_id": [0, 1]}, (1, 0)),
        ({"eos_token": "<|im_start|>"}, {"eos_token_id": 0}, (None, 1)),
        ({}, {}, (None, None)),
    ],
)
def test_where_special_tokens_are_found(tmp_path, settings, model, ids):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps(model))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == ids


def test_template_file(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    assert Tokenizer.from_folder(tmp_path).chat_template == CHATML


def test_wrong_folders(tmp_path):
    with pytest.raises(DataError, match=r"tokenizer.json: not found"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(DataError, match=r"tokenizer.json: not a tokenizer"):
        Tokenizer.from_folder(tmp_path)
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"eos_token_id": 12345}')
    assert Tokenizer.from_folder(tmp_path).eos_token_id is None  # it never comes up
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(DataError, match=r"tokenizer_config.json: holds a list"):
        Tokenizer.from_folder(tmp_path)


# --- chat ---


def test_chat():
    turn = "<|im_start|>user\nHi<|im_end|>\n"
    system = "<|im_start|>system\nBe brief.<|im_end|>\n"
    hi = [{"role": "user", "content": "Hi"}]
    assert BYTES.apply_chat_template(hi) == system + turn + "<|im_start|>assistant\n"
    assert BYTES.apply_chat_template(hi, add_generation_prompt=False) == system + turn
    own = [{"role": "system", "content": "Rhyme."}, *hi]
    assert BYTES.apply_chat_template(own, False) == "<|im_start|>system\nRhyme.<|im_end|>\n" + turn


def test_chat_refusals():
    with pytest.raises(DataError, match="chat template 'default' is not among the model's"):
        PIECES.apply_chat_template([{"role": "user", "content": "Hi"}])
    with pytest.raises(DataError, match="content"):
        BYTES.apply_chat_template([{"role": "user"}])
