"""What the golden files are made of, without torch: configs, seeds, batches and deterministic perturbations.

`make_golden.py` (needs torch and transformers) and the tests (need neither) import this file, so that values
which can be recomputed are not stored. Only `numpy.random.RandomState` draws: its stream is frozen for ever.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
MODELS = HERE / "models"
FAMILY_MODELS = HERE / "families"

_COMMON = dict(
    architectures=["LlamaForCausalLM"],
    model_type="llama",
    hidden_act="silu",
    rms_norm_eps=1e-5,
    initializer_range=0.02,
    attention_dropout=0.0,
    attention_bias=False,
    mlp_bias=False,
    pretraining_tp=1,
    bos_token_id=1,
    eos_token_id=2,
    use_cache=True,
    max_position_embeddings=256,
)

# name -> (HF config written as config.json, how the weights are stored)
CONFIGS: dict[str, tuple[dict, dict]] = {
    "base": (
        dict(
            _COMMON,
            vocab_size=160,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=64,
            tie_word_embeddings=True,
            rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        ),
        dict(dtype="float32", shards=1),
    ),
    "untied": (
        dict(
            _COMMON,
            vocab_size=192,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=1,
            intermediate_size=48,
            tie_word_embeddings=False,
            rope_theta=100000.0,
            rope_scaling=None,
        ),
        dict(dtype="bfloat16", shards=1),
    ),
    "biases": (
        dict(
            _COMMON,
            vocab_size=300,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=48,
            tie_word_embeddings=True,
            attention_bias=True,
            mlp_bias=True,
            rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        ),
        dict(dtype="float32", shards=1),
    ),
    "llama3_rope": (
        dict(
            _COMMON,
            vocab_size=176,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=40,
            tie_word_embeddings=True,
            rope_theta=500000.0,
            eos_token_id=[2, 3],
            rope_scaling={
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ),
        dict(dtype="float16", shards=2),
    ),
    "wide_heads": (
        dict(
            _COMMON,
            vocab_size=200,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            head_dim=24,
            num_key_value_heads=2,
            intermediate_size=40,
            tie_word_embeddings=False,
            rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        ),
        dict(dtype="float32", shards=1),
    ),
}

# Small models of every family; benchmarks/variant_cases.py starts from them too
DECODER = dict(
    vocab_size=120,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=40,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=None,
)
ENCODER = dict(
    vocab_size=120,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=64,
)
GPT2 = dict(vocab_size=120, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)
DISTILBERT = dict(vocab_size=120, dim=32, n_layers=2, n_heads=4, hidden_dim=40, max_position_embeddings=64)

# name -> what differs from the defaults of the family's transformers class; for make_families.py
FAMILIES: dict[str, dict] = {
    "qwen2": dict(DECODER, model_type="qwen2", rope_theta=1000000.0, tie_word_embeddings=True),
    "mistral": dict(DECODER, model_type="mistral", sliding_window=12, head_dim=8),
    "qwen3": dict(DECODER, model_type="qwen3", head_dim=12, tie_word_embeddings=True),
    "qwen3_5": dict(
        DECODER,
        model_type="qwen3_5_text",
        layer_types=["linear_attention", "full_attention"],
        head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        tie_word_embeddings=True,
        rope_parameters=dict(
            rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5, mrope_section=[2, 1, 1]
        ),
    ),
    "gemma3": dict(
        DECODER,
        model_type="gemma3_text",
        num_hidden_layers=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        head_dim=12,
        query_pre_attn_scalar=12,
        sliding_window=9,
        tie_word_embeddings=True,
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=4.0, rope_theta=1000000.0),
            sliding_attention=dict(rope_type="default", rope_theta=10000.0),
        ),
    ),
    "gpt2": dict(GPT2, model_type="gpt2"),
    "gpt_neox": dict(ENCODER, model_type="gpt_neox", rotary_pct=0.5, bos_token_id=1, eos_token_id=2),
    "bert": dict(ENCODER, model_type="bert", hidden_act="gelu_new"),
    "roberta": dict(ENCODER, model_type="roberta", type_vocab_size=1, bos_token_id=0, eos_token_id=2),
    "distilbert": dict(DISTILBERT, model_type="distilbert", activation="relu"),
    "minilm": dict(ENCODER, model_type="bert"),
}
# name -> the transformers class that makes it, of AutoModelForCausalLM where it is not here
FAMILY_CLASSES = {
    "bert": "AutoModelForMaskedLM",
    "roberta": "AutoModelForMaskedLM",
    "distilbert": "AutoModelForMaskedLM",
    "minilm": "AutoModel",
}


def family_batch(name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(tokens, segments or None) [2, 40] that golden.npz was computed on."""
    ids = tokens(FAMILIES[name], (2, 40), seed=3)
    segments = np.broadcast_to(np.arange(40, dtype=np.int32) >= [[17], [40]], ids.shape)
    return ids, segments.astype(np.int32) if FAMILIES[name]["model_type"] == "bert" else None


# The mixers of the hybrid goldens, hybrid_<name>.npz
MIXERS = {
    "gated_delta": {"kind": "gated_delta", "rope": 0, "silu": 1},
    "gated_delta_rope": {"kind": "gated_delta", "rope": 1, "silu": 0},
    "window_linear": {"kind": "window_linear", "window": 8, "sinks": 2, "rope_features": 1},
    "window_linear_raw": {"kind": "window_linear", "window": 8, "sinks": 0, "rope_features": 0},
}

STEPS, BATCH, SEQ = 10, 2, 32  # the ten training batches of `base`
ADAMW = dict(lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, clip=1.0)


def tokens(config: dict, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Token ids, int32, uniform over the vocabulary except the first four ids."""
    return np.random.RandomState(seed).randint(4, config["vocab_size"], size=shape).astype(np.int32)


def training_tokens(config: dict) -> np.ndarray:
    """[STEPS, BATCH, SEQ] int32: batch t is used in optimizer step t, once."""
    return tokens(config, (STEPS, BATCH, SEQ), seed=11)


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """float32 by HF name: norms near 1, biases near 0, matrices 1.3 fan_in^-1/2, embeddings 0.3."""
    rng = np.random.RandomState(seed)
    out = {}
    for name in sorted(shapes):
        noise = rng.standard_normal(shapes[name])
        if name.endswith(".bias"):
            value = 0.2 * noise
        elif len(shapes[name]) == 1:
            value = 1.0 + 0.2 * noise
        elif "embed" in name or "lm_head" in name:
            value = 0.3 * noise
        else:
            value = noise * 1.3 / np.sqrt(shapes[name][-1])
        out[name] = value.astype(np.float32)
    return out


def perturbed(weights: dict[str, np.ndarray], seed: int = 5, scale: float = 0.1) -> dict[str, np.ndarray]:
    """The distillation student: every weight times (1 + scale N(0,1)), in sorted order of names."""
    rng = np.random.RandomState(seed)
    return {
        name: (weights[name] * (1.0 + scale * rng.standard_normal(weights[name].shape))).astype(np.float32)
        for name in sorted(weights)
    }


def gated_delta_extras(shapes: dict[str, tuple[int, ...]], seed: int = 21) -> dict[str, np.ndarray]:
    """What weight transfer cannot give a gated_delta mixer (EXTRA_LEAVES), by internal name, in sorted order.

    `shapes` maps internal names to shapes; names of other kinds are skipped.
    """
    rng = np.random.RandomState(seed)
    out = {}
    for name in sorted(shapes):
        leaf = name.split(".gated_delta.")[-1] if ".gated_delta." in name else ""
        noise = rng.standard_normal(shapes[name]) if leaf in EXTRA_LEAVES else None
        if leaf in ("g_proj.weight", "b_proj.weight", "a_proj.weight"):
            out[name] = (noise / np.sqrt(shapes[name][-1])).astype(np.float32)
        elif leaf == "A_log":
            out[name] = (0.5 * noise).astype(np.float32)
        elif leaf == "dt_bias":
            out[name] = (noise - 3.0).astype(np.float32)
        elif leaf == "norm.weight":
            out[name] = (1.0 + 0.2 * noise).astype(np.float32)
    return out


EXTRA_LEAVES = ("g_proj.weight", "b_proj.weight", "a_proj.weight", "A_log", "dt_bias", "norm.weight")


def window_linear_extras(shapes: dict[str, tuple[int, ...]], seed: int = 22) -> dict[str, np.ndarray]:
    """Feature maps (identity plus noise) and gates of window_linear mixers, in sorted order of names."""
    rng = np.random.RandomState(seed)
    out = {}
    for name in sorted(shapes):
        leaf = name.split(".window_linear.")[-1] if ".window_linear." in name else ""
        if leaf in ("feature_q.weight", "feature_k.weight"):
            eye = np.eye(shapes[name][-1])
            out[name] = (eye + 0.2 * rng.standard_normal(shapes[name])).astype(np.float32)
        elif leaf == "gate":
            out[name] = (0.5 * rng.standard_normal(shapes[name])).astype(np.float32)
    return out


def internal_name(hf: str) -> str:
    """HF Llama parameter name -> the project's internal name."""
    name = hf.removeprefix("model.")
    for old, new in (
        ("embed_tokens.", "embed."),
        ("input_layernorm.", "mixer_norm."),
        ("self_attn.", "softmax."),
        ("post_attention_layernorm.", "mlp_norm."),
    ):
        name = name.replace(old, new)
    return "final_norm.weight" if name == "norm.weight" else name
