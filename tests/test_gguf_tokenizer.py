"""Tokenizers in GGUF files."""

import numpy as np
import pytest
from gguf_files import TEACHER, needs_teacher, write

from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import DataError

LETTERS = [chr(b) for b in (*range(33, 127), *range(161, 173), *range(174, 256))] + [
    chr(256 + i) for i in range(68)
]
TOKENS = ["<|end|>", "<|start|>", "<tool>", *LETTERS, "ab", "12", "123", "Ġab", "'S", "abx"]
MERGES = ["a b", "1 2", "12 3", "Ġ ab", "' S"]
TYPES = [3, 3, 4] + [1] * (len(TOKENS) - 3)


def tokenizer(tmp_path, pre="smollm", **changes):
    keys = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": TOKENS,
            "tokenizer.ggml.token_type": TYPES, "tokenizer.ggml.merges": MERGES,
            "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 0, **changes}  # fmt: skip
    return Tokenizer.from_gguf(
        write(tmp_path / "t.gguf", {"token_embd.weight": np.ones((2, 2), np.float32)}, **keys)
    )


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", ["ab", "Ġab", "1", "2", "3", "'", "S", "<tool>", "<|end|>"]),
        ("gpt-2", ["ab", "Ġab", "123", "'", "S", "<tool>", "<|end|>"]),
        ("default", ["ab", "Ġab", "123", "'", "S", "<tool>", "<|end|>"]),
        ("llama-bpe", ["<|start|>", "ab", "Ġab", "123", "'S", "<tool>", "<|end|>"]),
        ("qwen2", ["ab", "Ġab", "1", "2", "3", "'S", "<tool>", "<|end|>"]),
    ],
)
def test_pre_tokenizers(tmp_path, pre, expected):
    made = tokenizer(tmp_path, pre)
    ids = made.encode("ab ab123'S<tool><|end|>")
    assert [made.core.id_to_token(i) for i in ids] == expected
    assert made.decode(ids) == "ab ab123'S<tool>"
    assert (made.vocab_size, made.bos_token_id, made.eos_token_id) == (len(TOKENS), 1, 0)
    for text in ("1234 5\n\n  x\t'll été 漢字 🙂", ""):
        assert made.decode(made.encode(text)) == text


def test_bos_and_whole_tokens(tmp_path):
    assert tokenizer(tmp_path, **{"tokenizer.ggml.add_bos_token": True}).encode("ab")[0] == 1
    llama = tokenizer(tmp_path, "llama-bpe", **{"tokenizer.ggml.add_bos_token": False})
    assert llama.encode("abx") == [TOKENS.index("abx")]  # a whole token wins over merges there
    assert len(tokenizer(tmp_path).encode("abx")) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokenizer.ggml.model": "bert"}, "tokenizer.ggml.model is 'bert'; allowed: gpt2"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.scores is missing"),
        ({"tokenizer.ggml.pre": "tekken"}, "tokenizer.ggml.pre is 'tekken'; allowed: smollm, "),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens is missing"),
        ({"tokenizer.ggml.merges": None}, "tokenizer.ggml.merges is missing"),
        ({"tokenizer.ggml.merges": ["abc"]}, "not two tokens"),
        ({"tokenizer.ggml.merges": ["a nothing"]}, "do not fit"),
        ({"tokenizer.ggml.token_type": [1]}, "another length"),
        ({"tokenizer.ggml.tokens": [*TOKENS[:-1], "a"]}, "a token twice"),
        ({"tokenizer.ggml.eos_token_id": True}, "eos_token_id is True"),
    ],
)
def test_wrong_tokenizers(tmp_path, changes, says):
    with pytest.raises(DataError) as caught:
        tokenizer(tmp_path, **changes)
    assert says in str(caught.value) and "t.gguf" in str(caught.value)


PIECES = ["\u2581m", "oo", "oon", "\u2581moon", "\u2581", "m", "o", "n", "mo", "on"]
SCORES = dict(zip(PIECES, (-1.0, -2.0, -3.0, -4.0, -10.0, -11.0, -12.0, -13.0, -20.0, -21.0), strict=True))


@pytest.mark.parametrize(
    ("changes", "scores", "expected"),
    [
        ({}, {}, ["<s>", "\u2581moon", "\u2581", "<0xC3>", "<0xA9>"]),
        ({"add_space_prefix": False}, {}, ["<s>", "m", "oon", "\u2581", "<0xC3>", "<0xA9>"]),
        ({"add_bos_token": False}, {}, ["\u2581moon", "\u2581", "<0xC3>", "<0xA9>"]),
        ({"add_eos_token": True}, {}, ["<s>", "\u2581moon", "\u2581", "<0xC3>", "<0xA9>", "</s>"]),
        ({}, {"mo": -0.5, "on": -0.6}, ["<s>", "\u2581", "mo", "on", "\u2581", "<0xC3>", "<0xA9>"]),
        (
            {"bos_token_id": None, "eos_token_id": None},
            {},
            ["<s>", "\u2581moon", "\u2581", "<0xC3>", "<0xA9>"],
        ),
    ],
)
def test_sentencepiece(tmp_path, changes, scores, expected):
    """The pair whose piece scores highest is joined first; bytes where nothing fits."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *PIECES]
    values = [0.0] * 259 + list({**SCORES, **scores}.values())
    keys = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": values,
            "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(PIECES),
            **{f"tokenizer.ggml.{name}": value for name, value in changes.items()}}  # fmt: skip
    made = Tokenizer.from_gguf(
        write(tmp_path / "t.gguf", {"token_embd.weight": np.ones((2, 2), np.float32)}, **keys)
    )
    ids = made.encode("moon \u00e9")
    assert [made.core.id_to_token(i) for i in ids] == expected
    assert made.decode(ids) == "moon \u00e9" and (made.bos_token_id, made.eos_token_id) == (1, 2)


@needs_teacher
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world! 123", [19556, 905, 17, 216, 33, 34, 35]),
        ("The capital of France is", [504, 3575, 282, 4649, 314]),
        ("Café déjà vu.", [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]),
        ("  multiple   spaces", [216, 2701, 256, 5600]),
        ("<|im_start|>user\n", [1, 4093, 198]),
    ],
)
def test_smollm2_ids(text, ids, request):
    if not hasattr(request.module, "_smollm2"):
        request.module._smollm2 = Tokenizer.from_gguf(TEACHER)
    assert request.module._smollm2.encode(text) == ids
