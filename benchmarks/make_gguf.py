"""Writes a Llama folder of ours as GGUF files for llama.cpp: the same weights in F32, F16 and Q8_0.

    python benchmarks/make_gguf.py FOLDER OUT [--types F32,F16,Q8_0]

The files hold no vocabulary, only its size: they serve token ids. llama.cpp rotates neighbouring channels
where we rotate halves, so rows of q and k are put in its order. Norms stay F32 in every file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize
from safetensors import safe_open

TYPES = {n: (gguf.GGMLQuantizationType[n], gguf.LlamaFileType[f]) for n, f in
         [("F32", "ALL_F32"), ("F16", "MOSTLY_F16"), ("Q8_0", "MOSTLY_Q8_0")]}  # fmt: skip
BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of [heads * dim, in]: channels (i, i + dim/2) of a head become neighbours."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def gguf_name(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{suffix}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{BLOCK[part]}.{suffix}"


def write(folder: Path, out: Path, kind: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    tensor_type, file_type = TYPES[kind]
    temporary = out.with_suffix(".tmp")
    writer = gguf.GGUFWriter(temporary, "llama")
    writer.add_file_type(file_type)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_rope_dimension_count(dim)
    theta = (config.get("rope_parameters") or {}).get("rope_theta") or config.get("rope_theta", 1e4)
    writer.add_rope_freq_base(theta)
    with safe_open(folder / "model.safetensors", "numpy") as file:
        for name in file.keys():  # noqa: SIM118
            array = file.get_tensor(name).astype(np.float32)
            if ".q_proj." in name or ".k_proj." in name:
                array = interleaved(array, heads if ".q_proj." in name else kv_heads)
            raw = tensor_type if array.ndim > 1 else gguf.GGMLQuantizationType.F32
            writer.add_tensor(gguf_name(name), quantize(np.ascontiguousarray(array), raw), raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(temporary, out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, help="a folder with config.json and model.safetensors, model_type llama"
    )
    parser.add_argument("out", type=Path, help="the folder to write F32.gguf, F16.gguf and Q8_0.gguf into")
    parser.add_argument("--types", default=",".join(TYPES))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in options.types.split(","):
        write(options.folder, options.out / f"{kind}.gguf", kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
