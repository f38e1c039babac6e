#!/bin/sh
# Expected: one set of weights that F32, F16, BF16 and Q8_0 all hold exactly gives one set of
# logits, up to float32 rounding.
# Happens: llama.cpp's CPU kernels round the activations to the type of the weights: F16 is off by
# 0.1%, BF16 by 0.6%, Q8_0 by 2% of the largest logit, and F16 gives NaN everywhere once an
# activation passes 65504.
# Matters: the loss measured for a quantised export is mostly not the weights', and the safest-
# looking type is the one that fails on models with large activations.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    llama-cpp-python==0.3.36 gguf==0.19.0 numpy==2.4.6
venv/bin/python -I - <<'PYTHON'
import os

import gguf, llama_cpp, numpy
from gguf import GGMLQuantizationType, quants

vocabulary, width, hidden, layers, heads = 96, 64, 96, 2, 4
random = numpy.random.default_rng(0)


def exact(rows, columns):
    numbers = random.integers(-126, 127, size=(rows, columns))
    numbers.reshape(rows, -1, 32)[:, :, 0] = 127  # the scale of each Q8_0 block is then a power of two
    return (numbers * 2.0**-9).astype("f4")


weights = {"token_embd.weight": exact(vocabulary, width), "output.weight": exact(vocabulary, width),
           "output_norm.weight": numpy.ones(width, "f4")}
for block in (f"blk.{layer}." for layer in range(layers)):
    weights |= {block + f"attn_{name}.weight": exact(width, width) for name in ("q", "k", "v", "output")}
    weights |= {block + f"ffn_{name}.weight": exact(hidden, width) for name in ("gate", "up")}
    weights |= {block + "ffn_down.weight": exact(width, hidden)}
    weights |= {block + f"{name}_norm.weight": numpy.ones(width, "f4") for name in ("attn", "ffn")}


def logits(kind, weights):
    writer = gguf.GGUFWriter("model.gguf", "llama")
    writer.add_context_length(256)
    writer.add_vocab_size(vocabulary)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(width // heads)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(3, vocabulary)])
    writer.add_token_scores([0.0] * vocabulary)
    writer.add_token_types([2, 3, 3] + [6] * (vocabulary - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, weight in weights.items():
        if weight.ndim == 2:
            stored = quants.quantize(weight, kind)
            assert numpy.array_equal(quants.dequantize(stored, kind), weight)
            writer.add_tensor(name, stored, raw_dtype=kind)
        else:
            writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = llama_cpp.Llama("model.gguf", n_ctx=256, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False)
    tokens = list(range(3, 40))
    model.eval(tokens)
    result = model.scores[:len(tokens)].copy()
    model.close()
    os.remove("model.gguf")
    return result


large = dict(weights)  # the same function at another size: activations before ffn_down reach some 100000
for block in (f"blk.{layer}." for layer in range(layers)):
    large[block + "ffn_norm.weight"] = numpy.full(width, 512.0, "f4")
    large[block + "ffn_down.weight"] = weights[block + "ffn_down.weight"] * numpy.float32(2**-15)
print("llama-cpp-python", llama_cpp.__version__)
error = {}
for size, tensors in (("plain", weights), ("large activations", large)):
    reference = logits(GGMLQuantizationType.F32, tensors)
    for kind in ("F16", "BF16", "Q8_0"):
        result = logits(GGMLQuantizationType[kind], tensors)
        error[size, kind] = float(abs(result - reference).max() / abs(reference).max())
        print(f"{size}, {kind}: largest error of a logit {error[size, kind]:.2%} of the largest logit")
assert 1e-4 < error["plain", "F16"] < error["plain", "BF16"] < error["plain", "Q8_0"] < 0.1, "changed"
assert error["plain", "Q8_0"] > 0.005 and numpy.isnan(error["large activations", "F16"]), "changed"
assert error["large activations", "BF16"] < 0.05 and error["large activations", "Q8_0"] < 0.1, "changed"
PYTHON
