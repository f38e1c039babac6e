"""What folders say beside tokenizer.json: the tokens of transformers 5.24 for every case of tokenizer_cases,
as golden values and, where it is installed, live; what is saved; what is refused by name.
"""

import importlib.util
import json
import warnings
from pathlib import Path

import pytest
from tokenizer_cases import CASES, EOT, TEXTS, byte_level, folder_of, row, sentence_piece, word_piece, write

from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import DataError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "tokenizers.json").read_text(encoding="utf-8"))
IGNORED = "ignore:add_:UserWarning"  # of a setting that transformers leaves aside too


def facts(tokenizer):
    """What a tokenizer makes of the texts, and its special ids."""
    tokens = [[tokenizer.core.id_to_token(i) for i in tokenizer.encode(text)] for text in TEXTS]
    return {"tokens": tokens, "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}


@pytest.mark.filterwarnings(IGNORED)
@pytest.mark.parametrize("name", CASES)
def test_equals_transformers_as_it_was(name, tmp_path):
    tokenizer = Tokenizer.from_folder(folder_of(name, tmp_path))
    assert facts(tokenizer) == GOLDEN[name]
    tokenizer.save(tmp_path / "saved")
    assert facts(Tokenizer.from_folder(tmp_path / "saved")) == GOLDEN[name]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_equals_transformers_live_and_does_the_same_there_when_saved(name, tmp_path):
    import transformers

    if int(transformers.__version__.partition(".")[0]) < 5:
        pytest.skip("transformers 4 has other classes")
    theirs = transformers.AutoTokenizer.from_pretrained(folder_of(name, tmp_path))
    ours = Tokenizer.from_folder(tmp_path)
    ids = [theirs(text)["input_ids"] for text in TEXTS]
    assert [ours.encode(text) for text in TEXTS] == ids
    assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_token_id, ours.eos_token_id)
    ours.save(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "hybridattn"}')
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert [again(text)["input_ids"] for text in TEXTS] == ids
    assert again.special_tokens_map == theirs.special_tokens_map
    if name != "vocab.txt of distilbert":  # there transformers takes BERT's class, with token types
        assert set(again("a", "b")) == set(theirs("a", "b"))


# --- saved ---


def saved(tmp_path, core, **files):
    """(the settings that a save of such a folder writes, the folder)."""
    Tokenizer.from_folder(write(tmp_path / "old", core, **files)).save(tmp_path / "new")
    return json.loads((tmp_path / "new" / "tokenizer_config.json").read_text()), tmp_path / "new"


def test_class_and_all_settings_are_kept(tmp_path):
    given = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids"],
        "padding_side": "left",
        "bos_token": None,
        "pad_token": {"__type": "AddedToken", **row(EOT)},
        "eos_token": {"__type": "AddedToken", **row(EOT)},
    }
    settings, folder = saved(tmp_path, byte_level(), tokenizer_config__json=given)
    assert settings == given
    assert Tokenizer.from_folder(folder).bos_token_id is None


def test_special_tokens_map_goes_into_the_settings(tmp_path):
    settings, folder = saved(
        tmp_path,
        byte_level(),
        tokenizer_config__json={"tokenizer_class": "GPT2Tokenizer"},
        special_tokens_map__json={"pad_token": EOT, "unk_token": {"content": EOT}},
    )
    assert settings["pad_token"] == EOT and settings["unk_token"]["content"] == EOT
    assert sorted(file.name for file in folder.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize(
    ("core", "model_type", "name", "inputs"),
    [
        (word_piece, "bert", "BertTokenizer", None),
        (word_piece, "distilbert", "DistilBertTokenizer", None),
        (byte_level, "qwen3", "Qwen2Tokenizer", None),
        (byte_level, "llama", "PreTrainedTokenizerFast", ["input_ids", "attention_mask"]),
        (word_piece, "new", "PreTrainedTokenizerFast", ["input_ids", "token_type_ids", "attention_mask"]),
    ],
)
def test_a_folder_without_a_class_gets_one(tmp_path, core, model_type, name, inputs):
    settings, _ = saved(tmp_path, core(), config__json={"model_type": model_type})
    assert settings["tokenizer_class"] == name
    assert settings.get("model_input_names") == inputs


def test_saving_leaves_nothing_of_another_tokenizer(tmp_path):
    other = ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
    for name in (*other, "notes.txt"):
        (tmp_path / name).write_text('{"eos_token": "<s>"}')
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("old")
    Tokenizer(byte_level()).save(tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["notes.txt", "tokenizer.json", "tokenizer_config.json"]
    again = Tokenizer.from_folder(tmp_path)
    assert again.eos_token_id is None and again.chat_templates == {}


@pytest.mark.parametrize("far", [2**31 - 2, 2**31 - 1, 10**9, 2**32 - 1])
def test_ids_far_apart_are_saved_without_counting_through_them(tmp_path, far):
    core = byte_level()
    write(tmp_path, core, tokenizer_config__json={"eos_token": "<|new|>"})
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["vocab"]["a"] = far
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.encode("a") == [far]
    tokenizer.save(tmp_path / "new")
    again = Tokenizer.from_folder(tmp_path / "new")
    text = f"the a <|new|>{EOT} b"
    assert again.encode(text) == tokenizer.encode(text) and again.eos_token_id == tokenizer.eos_token_id


# --- refused, or said ---


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"added_tokens_decoder": {"900": row("<|far|>")}}, r"added token '<\|far\|>' has id 900, but"),
        ({"added_tokens_decoder": {"x": row("a")}}, "has the id 'x'; allowed: whole numbers"),
        ({"added_tokens_decoder": ["a"]}, "added_tokens_decoder is .* allowed: an object"),
        ({"added_tokens_decoder": {"0": {"content": EOT, "special": 1}}}, "allowed: true or false"),
        ({"added_tokens_decoder": {"0": {"special": True}}}, "allowed: a token's text"),
        ({"eos_token": 5}, "eos_token is 5; allowed: a token's text"),
        ({"eos_token": ""}, "eos_token is ''; allowed"),
        ({"additional_special_tokens": "<s>"}, "additional_special_tokens is '<s>'; allowed: a list"),
        ({"split_special_tokens": "no"}, "split_special_tokens is 'no'; allowed: true, false"),
        ({"chat_template": 7}, "chat_template is a int; allowed: a text, or a list"),
        ({"chat_template": [{"name": "default"}]}, "allowed: objects with name and template"),
    ],
)
def test_bad_settings_are_named(tmp_path, files, message):
    with pytest.raises(DataError, match=f"tokenizer_config.json: .*{message}"):
        Tokenizer.from_folder(write(tmp_path, byte_level(), tokenizer_config__json=files))


@pytest.mark.parametrize("number", [-1, 1.5, True, "7", 2**40, None])
def test_bad_ids_of_added_tokens_json(tmp_path, number):
    with pytest.raises(DataError, match=r"added_tokens.json gives '<x>' the id"):
        Tokenizer.from_folder(write(tmp_path, byte_level(), added_tokens__json={"<x>": number}))


@pytest.mark.parametrize("name", ["do_lower_case", "strip_accents", "tokenize_chinese_chars"])
def test_bad_settings_of_a_class(tmp_path, name):
    settings = {"tokenizer_class": "BertTokenizer", name: "yes"}
    with pytest.raises(DataError, match=f"{name} is 'yes'; allowed: true, false"):
        Tokenizer.from_folder(write(tmp_path, word_piece(), tokenizer_config__json=settings))


def test_a_setting_that_cannot_be_applied_is_refused(tmp_path):
    core = word_piece()
    core.normalizer = __import__("tokenizers").normalizers.Lowercase()
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
    with pytest.raises(DataError, match="do_lower_case is False, but the normalizer"):
        Tokenizer.from_folder(write(tmp_path, core, tokenizer_config__json=settings))


@pytest.mark.parametrize(
    ("template", "settings", "said"),
    [
        ("<s> $A", {"add_bos_token": False}, "add_bos_token is False"),
        ("<s> $A </s>", {"add_eos_token": False}, "add_eos_token is False"),
        ("<s> $A", {"add_eos_token": True}, "add_eos_token is True"),
        ("<s> $A", {"add_bos_token": True, "add_eos_token": False}, None),
    ],
)
def test_settings_that_tokenizer_json_contradicts_are_said(tmp_path, template, settings, said):
    named = {"bos_token": "<s>", "eos_token": "</s>", **settings}
    folder = write(tmp_path, sentence_piece(template), tokenizer_config__json=named)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Tokenizer.from_folder(folder)
    assert [str(w.message)[: len(said or "")] for w in caught] == ([said] if said else [])


@pytest.mark.parametrize(
    ("model_type", "files", "message"),
    [
        ("llama", {"tokenizer__model": "x"}, "has no tokenizer.json, only tokenizer.model"),
        ("llama", {"vocab__json": {}, "merges__txt": ""}, "only vocab.json, merges.txt"),
        ("gpt2", {"vocab__json": {"a": 0}}, "only vocab.json"),
        ("bert", {"spiece__model": "x"}, "only spiece.model"),
        ("gpt2", {"vocab__txt": "a"}, "only vocab.txt"),
        ("bert", {"vocab__txt": "a\nb\n"}, r"vocab.txt: has no line \[UNK\]"),
        ("gpt2", {"vocab__json": {"a": "x"}, "merges__txt": ""}, "holds an id that is no whole number"),
        ("gpt2", {"vocab__json": {"a": 0}, "merges__txt": "a b c\n"}, "merges.txt, line 1: is 'a b c'"),
        ("gpt2", {"vocab__json": {"a": 0}, "merges__txt": "a b\n"}, "vocab.json: not a vocabulary"),
        ("roberta", {"vocab__json": {"a": 0}, "merges__txt": ""}, "vocab.json: has no <s>"),
    ],
)
def test_old_files_that_cannot_be_read(tmp_path, model_type, files, message):
    with pytest.raises(DataError, match=message):
        Tokenizer.from_folder(write(tmp_path, None, config__json={"model_type": model_type}, **files))


@pytest.mark.parametrize(
    "path", ["chat_template.jinja", "additional_chat_templates/tool_use.jinja", "tokenizer_config.json"]
)
def test_files_that_are_no_utf8_are_named(tmp_path, path):
    write(tmp_path, byte_level())
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(b"{% \xff %}")
    with pytest.raises(DataError, match=f"{Path(path).name}: "):
        Tokenizer.from_folder(tmp_path)
