"""Tiny random models, a byte tokenizer and a short text, for tests that train and generate in seconds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from hybridattn.data.tokenizer import Tokenizer
from hybridattn.data.tokens import TokenData
from hybridattn.families import config_from_hf
from hybridattn.model.model import Model

TEXT = (Path(__file__).parent / "data" / "mill.txt").read_text(encoding="utf-8")
MIXERS = ({"kind": "window_linear", "window": 8, "sinks": 2}, {"kind": "gated_delta"})
EOS = 256


def tokenizer() -> Tokenizer:
    """One token per byte, and an end-of-text token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<eos>"])
    return Tokenizer(core, eos_token_id=EOS)


def teacher(
    seed: int = 0, layers: int = 3, tied: bool = True, bidirectional: bool = False, **changes
) -> Model:
    """A softmax model of random weights, scaled so that every layer matters."""
    hf = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": EOS + 1,
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 256,
        "tie_word_embeddings": tied,
        "eos_token_id": EOS,
        **changes,
    }
    model = Model(replace(config_from_hf(hf), bidirectional=bidirectional), tokenizer=tokenizer())
    randomize(model, seed)
    return model


def randomize(model: Model, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name, array in model.arrays().items():
        if array.ndim == 1:
            array[...] = 1.0 + 0.1 * rng.standard_normal(array.shape)
        else:
            array[...] = 1.5 * rng.standard_normal(array.shape) / np.sqrt(array.shape[-1])
        if name == "embed.weight":
            array *= 2.0


def text_data(seq_len: int = 32, max_tokens: int | None = None) -> TokenData:
    return TokenData.from_text(TEXT, tokenizer(), seq_len, max_tokens)


def weights(model: Model) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.arrays().items()}


def assert_same_weights(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    """Bit for bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name
