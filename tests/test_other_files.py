"""Files that are not what their names say, and folders with something else in a model's place."""

import gzip
import json

import pytest
import tiny

from hybridattn import Model
from hybridattn.data.text_files import load_text
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import DataError, HybridAttnError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d" * 32 + "\nsize 12345\n"


@pytest.fixture
def folder(tmp_path):
    tiny.teacher(layers=1).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
     "generation_config.json", "special_tokens_map.json", "additional_chat_templates/rag.jinja"],
)  # fmt: skip
def test_a_git_lfs_pointer_is_named_wherever_it_stands(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(POINTER)
    if name == "special_tokens_map.json":  # read where tokenizer_config.json has no added_tokens_decoder
        (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(HybridAttnError, match=f"{name.rpartition('/')[2]}.*Git LFS pointer.*git lfs pull"):
        Model.from_pretrained(folder)


@pytest.mark.parametrize("name", ["merges.txt", "vocab.txt"])
def test_so_are_those_in_the_place_of_old_tokenizer_files(tmp_path, name):
    kind = "BertTokenizer" if name == "vocab.txt" else "GPT2Tokenizer"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(DataError, match=f"{name}: a Git LFS pointer"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz"])
def test_so_are_those_in_the_place_of_texts(tmp_path, name):
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(DataError, match=r"a\..*: a Git LFS pointer"):
        load_text(tmp_path / name)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"what a version https://git-lfs is"))
    assert load_text(tmp_path / "b.txt.gz") == ["what a version https://git-lfs is"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pytorch_model.bin", "PyTorch files"),
        ("adapter_model.safetensors", "an adapter of PEFT"),
        ("consolidated.00.pth", "the layout of the model's makers"),
        ("model-00001-of-00002.safetensors", "parts of a model without model.safetensors.index.json"),
        ("model.Q4_0.gguf", "a GGUF file: give its own path"),
        ("tf_model.h5", "TensorFlow files"),
        ("flax_model.msgpack", "Flax files"),
        ("model.fp16.safetensors", "safetensors files of other names"),
    ],
)
@pytest.mark.parametrize("config", [True, False])
def test_what_stands_in_a_models_place_is_named(folder, name, says, config):
    (folder / "model.safetensors").rename(folder / name)
    if not config:
        (folder / "config.json").unlink()
    with pytest.raises(HybridAttnError, match=says):
        Model.from_pretrained(folder)


def test_a_tokenizer_whose_parts_do_not_fit_is_refused_at_load(folder):
    """The library's Rust code panics over a template of a token that its list of tokens has not."""
    content = json.loads((folder / "tokenizer.json").read_text())
    single = [{"SpecialToken": {"id": "<gone>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    known = {"<eos>": {"id": "<eos>", "ids": [256], "tokens": ["<eos>"]}}
    content["post_processor"] = {
        "type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": known,
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize("largest", [2**31 - 1, 2_000_000])
def test_old_files_with_a_gap_of_ids_are_refused(tmp_path, largest):
    """The library's writer would count through all of them."""
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": largest}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(DataError, match=f"token id {largest} of"):
        Tokenizer.from_folder(tmp_path)


def tokenizer_with(folder, **changes):
    content = json.loads((folder / "tokenizer.json").read_text()) | changes
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return Tokenizer.from_folder(folder)


@pytest.mark.parametrize("kind", ["LlamaTokenizerFast", "PreTrainedTokenizerFast", "GPT2Tokenizer"])
def test_a_length_to_pad_to_takes_no_memory(folder, kind):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    more = {"tokenizer_class": kind, "add_prefix_space": False, "bos_token": "<eos>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | more))
    padding = {
        "strategy": {"Fixed": 2**31 - 1}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "a",
    }  # fmt: skip
    assert tokenizer_with(folder, padding=padding).encode("a") == Tokenizer.from_folder(folder).encode("a")


def test_an_id_beyond_the_tokens_is_refused_at_load(folder):
    single = [{"SpecialToken": {"id": "<b>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    known = {"<b>": {"id": "<b>", "ids": [2**31 - 1], "tokens": ["<b>"]}}
    template = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": known}
    with pytest.raises(DataError, match=r"tokenizer\.json: puts token id 2147483647 around a text"):
        tokenizer_with(folder, post_processor=template)
