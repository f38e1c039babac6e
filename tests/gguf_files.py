"""Small GGUF files, for tests that read them."""

import numpy as np
import pytest

from hybridattn import hub

gguf = pytest.importorskip("gguf")
Type = gguf.GGMLQuantizationType

LAYERS, D, F, V, HEADS, KV, HD = 2, 256, 256, 12, 4, 2, 64


def random_tensors(seed=0, bias=False, tied=True):
    """A tiny llama under its GGUF names, float32, rows of q and k in Hugging Face order."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    tensors = {"token_embd.weight": normal(V, D), "output_norm.weight": normal(D)}
    if not tied:
        tensors["output.weight"] = normal(V, D)
    for i in range(LAYERS):
        rows = {"attn_q": HEADS * HD, "attn_k": KV * HD, "attn_v": KV * HD, "attn_output": D}
        for name, n in rows.items():
            tensors[f"blk.{i}.{name}.weight"] = normal(n, D if name != "attn_output" else HEADS * HD)
            if bias:
                tensors[f"blk.{i}.{name}.bias"] = normal(n)
        for name, shape in {"ffn_gate": (F, D), "ffn_up": (F, D), "ffn_down": (D, F)}.items():
            tensors[f"blk.{i}.{name}.weight"] = normal(*shape)
        tensors[f"blk.{i}.attn_norm.weight"] = normal(D)
        tensors[f"blk.{i}.ffn_norm.weight"] = normal(D)
    return tensors


def permuted(name, tensor):
    """The rows of q and k as llama.cpp's converter orders them: halves of a head interleaved."""
    if "attn_q" in name or "attn_k" in name:
        halves = tensor.reshape(-1, 2, HD // 2, *tensor.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(tensor.shape)
    return tensor


METADATA = {
    "llama.block_count": LAYERS, "llama.context_length": 128, "llama.embedding_length": D,
    "llama.feed_forward_length": F, "llama.attention.head_count": HEADS, "llama.attention.head_count_kv": KV,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 10000.0,
    "llama.rope.dimension_count": HD, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
}  # fmt: skip


def write(path, tensors, kind=Type.F32, architecture="llama", encode=None, order=permuted, **changes):
    """Write a GGUF file; matrices as `kind`, vectors as F32; order: what is done to their rows. A change of
    None takes a key away.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**METADATA, **changes}.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    for name, tensor in tensors.items():
        stored = order(name, tensor)
        if tensor.ndim == 1 or kind == Type.F32:
            writer.add_tensor(name, stored)
        else:
            data = encode(stored) if encode else gguf.quants.quantize(stored, kind)
            writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read_all(source):
    found = {}
    for name in source.names():
        found[name] = np.full(source.shape(name), np.nan, np.float32)
        source.read_into(name, found[name])
    return found


TEACHER = hub.cache_folder() / hub.TEACHER / "SmolLM2-135M-Instruct.Q4_1.gguf"
needs_teacher = pytest.mark.skipif(
    not TEACHER.is_file(), reason="SmolLM2-135M has not been fetched (make demo)"
)
