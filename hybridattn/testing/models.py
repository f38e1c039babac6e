"""Tiny random models of every family and a byte tokenizer: they train and generate within seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from ..checks import check_choice, check_int
from ..data.tokenizer import Tokenizer
from ..data.tokens import TokenData
from ..families import config_from_hf
from ..model.model import Model

EOS = 256  # the end-of-text token of `byte_tokenizer`

# What a config.json of each family says, sizes apart.
_LLAMA = {
    "vocab_size": EOS + 1,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "eos_token_id": EOS,
}
_ENCODER = {
    "vocab_size": EOS + 1,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
}
_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA | {"architectures": ["LlamaForCausalLM"]},
    "mistral": _LLAMA | {"architectures": ["MistralForCausalLM"], "sliding_window": 24},
    "qwen2": _LLAMA | {"architectures": ["Qwen2ForCausalLM"]},
    "qwen3": _LLAMA | {"architectures": ["Qwen3ForCausalLM"], "head_dim": 8},
    "qwen3_5": _LLAMA
    | {
        "model_type": "qwen3_5_text",
        "architectures": ["Qwen3_5ForCausalLM"],
        "head_dim": 8,
        "full_attention_interval": 2,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    },
    "gemma3": _LLAMA
    | {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 24,
        "sliding_window_pattern": 2,
    },
    "gpt2": {
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": EOS + 1,
        "n_embd": 32,
        "n_head": 4,
        "n_positions": 256,
        "eos_token_id": EOS,
    },
    "gpt_neox": _ENCODER
    | {"architectures": ["GPTNeoXForCausalLM"], "rotary_pct": 0.5, "eos_token_id": EOS, "hidden_act": "gelu"},
    "bert": _ENCODER | {"architectures": ["BertForMaskedLM"], "hidden_act": "gelu"},
    "roberta": _ENCODER
    | {
        "architectures": ["RobertaForMaskedLM"],
        "hidden_act": "gelu",
        "type_vocab_size": 1,
        "pad_token_id": 1,
    },
    "distilbert": {
        "architectures": ["DistilBertForMaskedLM"],
        "vocab_size": EOS + 1,
        "dim": 32,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": 256,
        "activation": "gelu",
    },
}
_LAYERS = {"gpt2": "n_layer", "distilbert": "n_layers"}


def byte_tokenizer() -> Tokenizer:
    """One token per byte, and an end-of-text token `<eos>`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<eos>"])
    return Tokenizer(core, eos_token_id=EOS)


def tiny_model(
    family: str = "llama",
    *,
    mixer: Mapping[str, Any] | None = None,
    softmax_layers: Sequence[int] | None = None,
    layers: int = 3,
    seed: int = 0,
    bidirectional: bool | None = None,
    **changes: Any,
) -> Model:
    """A model of random weights, scaled so that every layer matters, with a byte tokenizer.

    mixer: None makes a softmax model; a spec such as {"kind": "gated_delta"} makes the probe with that mixer
    in every layer and, with `softmax_layers`, the hybrid in which these layers stay softmax. Other keywords
    are keys of the family's config.json (`hidden_size=64`). bidirectional: as the family is, or as said, to
    try a mixer of either direction on any family. The same arguments give the same bits. Raises ConfigError.
    """
    check_choice("family", family, _FAMILIES)
    check_int("layers", layers)
    check_int("seed", seed, 0)
    hf = {"model_type": family, _LAYERS.get(family, "num_hidden_layers"): layers, **_FAMILIES[family]}
    config = config_from_hf(hf | changes)
    if bidirectional is not None:
        config = replace(config, bidirectional=bidirectional)
    model = Model(config, tokenizer=byte_tokenizer())
    randomize(model, seed)
    if mixer is None:
        return model
    probe = model.to_probe(mixer, seed=seed)
    return probe if softmax_layers is None else probe.to_hybrid(softmax_layers)


def randomize(model: Model, seed: int = 0) -> None:
    """Draw all weights of `model`, in place: norms near 1, matrices so that no layer drowns the others."""
    rng = np.random.default_rng(seed)
    for name, array in model.arrays().items():
        if array.ndim == 1:
            array[...] = 1.0 + 0.1 * rng.standard_normal(array.shape)
        else:
            array[...] = 1.5 * rng.standard_normal(array.shape) / np.sqrt(array.shape[-1])
        if name == "embed.weight":
            array *= 2.0


def tiny_text(windows: int = 8, seq_len: int = 32, seed: int = 0) -> TokenData:
    """Windows of words drawn from a small made-up vocabulary, as tokens of `byte_tokenizer`."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("aeinorst"), rng.integers(2, 7))) for _ in range(40)]
    text = " ".join(rng.choice(words, windows * seq_len))
    return TokenData.from_text(text, byte_tokenizer(), seq_len, windows * seq_len, label="tiny")
