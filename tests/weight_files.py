"""Small weight files, for tests that read them."""

import json
import struct

import numpy as np

from hybridattn.families import hf_name
from hybridattn.families.config import ModelConfig
from hybridattn.formats.loading import load_into
from hybridattn.formats.safetensors import open_weights, save_safetensors

CONFIG = ModelConfig(
    family="llama", vocab_size=12, hidden_size=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4,
    intermediate_size=6, norm_eps=1e-5, rope_inv_freq=(1.0, 0.1), tie_embeddings=True, max_positions=16,
)  # fmt: skip
SHAPES = {"embed.weight": (12, 8), "layers.0.softmax.q_proj.weight": (8, 8), "final_norm.weight": (8,)}


def random_tensors(seed=0):
    rng = np.random.default_rng(seed)
    return {
        hf_name(CONFIG, name): rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()
    }


def empty_params():
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


def raw(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def load(folder, tensors, params=None):
    save_safetensors(folder / "model.safetensors", tensors)
    params = empty_params() if params is None else params
    with open_weights(folder) as source:
        load_into(params, source, CONFIG)
    return params
