"""Keys of a GGUF file that decide what is computed, and tokenizers that are not rebuilt."""

import warnings

import gguf_files
import numpy as np
import pytest
import test_gguf_tokenizer

from hybridattn import Model
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import ConfigError, DataError, HybridAttnError

TOKENS = np.array([[1, 5, 6, 7, 2]], np.int32)
PLAIN = {"tokenizer.ggml.model": "none"}
TYPED = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}


def logits(path, **keys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Model.from_pretrained(
            gguf_files.write(path / "m.gguf", gguf_files.random_tensors(), **{**PLAIN, **keys})
        )
    return np.asarray(model.logits(TOKENS))


@pytest.mark.parametrize(
    ("keys", "same"),
    [
        ({"llama.rope.scaling.factor": 2.0}, TYPED),  # llama.cpp: no type is the type linear
        ({"llama.rope.scale_linear": 2.0}, TYPED),  # the factor's old name
        ({"llama.rope.scaling.type": "linear", "llama.rope.scale_linear": 2.0}, TYPED),
        ({"llama.rope.scale_linear": 4.0, "llama.rope.scaling.factor": 2.0}, TYPED),
        ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 2.0}, {}),
        ({"llama.rope.scaling.type": "linear"}, {}),
        ({"llama.rope.scale_linear": 1.0}, {}),
        ({"llama.expert_used_count": 2, "llama.leading_dense_block_count": 1}, {}),  # there are no experts
        ({"llama.attention.head_count_kv": [2, 2]}, {}),
        ({"general.type": "model", "split.count": 1}, {}),
    ],
)
def test_as_llama_cpp_reads_it(tmp_path, keys, same):
    np.testing.assert_array_equal(logits(tmp_path, **keys), logits(tmp_path, **same))
    assert same == {} or not np.allclose(logits(tmp_path, **same), logits(tmp_path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.attention.causal", False),
        ("llama.attention.temperature_scale", 0.1),
        ("llama.rope.scaling.attn_factor", 2.0),
        ("llama.swin_norm", True),
        ("llama.attention.scale", 0.5),
        ("general.type", "adapter"),
        ("general.type", "mmproj"),
    ],
)
def test_what_would_be_another_model_is_refused(tmp_path, key, value):
    with pytest.raises(ConfigError, match=key):
        logits(tmp_path, **{key: value})


@pytest.mark.parametrize("key", ["something_new", "rope.dimension_sections", "attention.logit_softcapping"])
def test_keys_that_are_not_known_are_named(tmp_path, key):
    with pytest.warns(UserWarning, match=f"llama.{key}"):
        Model.from_pretrained(
            gguf_files.write(tmp_path / "m.gguf", gguf_files.random_tensors(), **{**PLAIN, f"llama.{key}": 3})
        )


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"tokenizer.ggml.model": None}, "tokenizer.ggml.model is None"),
        ({"tokenizer.ggml.model": "t5"}, "tokenizer.ggml.model is 't5'"),
        ({"tokenizer.ggml.model": "bert"}, "tokenizer.ggml.model is 'bert'"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "of-tomorrow"}, "pre is 'of-tomorrow'"),
    ],
)
def test_a_model_whose_tokenizer_is_not_rebuilt_works_on_ids(tmp_path, keys, says):
    tokens = {
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(gguf_files.V)],
        "tokenizer.ggml.eos_token_id": None,
    }
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.random_tensors(), **{**tokens, **keys})
    with pytest.warns(UserWarning, match=f"without a tokenizer: .*m.gguf: .*{says}"):
        model = Model.from_pretrained(path)
    assert model.tokenizer is None and len(model.generate([1, 5], max_new_tokens=2)) == 2
    np.testing.assert_array_equal(model.logits(TOKENS), logits(tmp_path))


def test_a_damaged_tokenizer_is_an_error(tmp_path):
    keys = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a", "a"]}
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.random_tensors(), **keys)
    with pytest.raises(DataError, match="token"):
        Model.from_pretrained(path)


@pytest.mark.parametrize("kind", ["bos", "eos"])
def test_ids_that_cannot_come_up(tmp_path, kind):
    path = gguf_files.write(
        tmp_path / "m.gguf",
        {"token_embd.weight": np.ones((2, 2), np.float32)},
        **{
            "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": test_gguf_tokenizer.TOKENS,
            "tokenizer.ggml.merges": test_gguf_tokenizer.MERGES,
            f"tokenizer.ggml.{kind}_token_id": 999,
        },
    )  # fmt: skip
    tokenizer = Tokenizer.from_gguf(path)
    assert getattr(tokenizer, f"{kind}_token_id") is None and tokenizer.decode(tokenizer.encode("ab")) == "ab"


def test_every_end_of_a_turn_ends_generation(tmp_path):
    ends = {f"tokenizer.ggml.{name}_token_id": i for name, i in (("eos", 2), ("eot", 3), ("eom", 4))}
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.random_tensors(), **{**PLAIN, **ends})
    assert Model.from_pretrained(path).model_config.eos_token_ids == (2, 3, 4)


@pytest.mark.parametrize(("number", "count"), [(0, 2), (1, 2), (2, 3), (11, 12)])
def test_no_part_of_a_split_file(tmp_path, number, count):
    with pytest.raises(HybridAttnError, match=f"part {number + 1} of {count} of a split file"):
        logits(tmp_path, **{"split.count": count, "split.no": number})
    with pytest.raises(HybridAttnError, match=f"of {count} of a split file"):
        logits(tmp_path, **{"split.count": count})
