"""What do weights of 16, 8 and 4 bits cost in perplexity, and win in decoding?

    python benchmarks/quantised.py TEXT [--model smollm2-135m] [--tokens N] [--shuffle] [--json FILE]

Perplexity on a UTF-8 text in windows of 512 tokens; decode speed of one sequence after 128, 2048 and 8192
tokens, the best of several runs; bytes of all weights. The default model is itself a Q4_1 file with a Q8_0
embedding, read to float32: q4_1 gives it back, so its perplexity here says nothing of other models. --shuffle
gives the same function with its channels in another order, so that blocks of 32 hold other numbers than those
it was published in. "calibrated": rounded by GPTQ on Wikipedia passages (fetched on first use).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import hybridattn as ha
from hybridattn import hub

CALIBRATED = " calibrated"
DTYPES = ("float32", "bfloat16", "float16", "q8_0", "q4_0", "q4_1")
DTYPES += tuple(name + CALIBRATED for name in DTYPES[3:])


def decode_speed(model: ha.Model, prompt: np.ndarray, tokens: int, repeats: int) -> float:
    """Tokens a second after `prompt` [n]: the best of `repeats` runs of `tokens` single steps."""
    cache = ha.Cache(model, 1)
    model.logits(prompt[None], cache=cache, last=True)
    best = 0.0
    for _ in range(repeats):
        run, token = cache.fork(), prompt[-1:]
        began = time.perf_counter()
        for _ in range(tokens):
            token = model.logits(token[None], cache=run, last=True).argmax(-1).astype(np.int32)
        best = max(best, tokens / (time.perf_counter() - began))
    return best


def shuffled(model: ha.Model, seed: int = 0) -> ha.Model:
    """The same model with hidden channels, MLP channels and those of value heads in another order; for models
    of one width without biases.
    """
    rng, config, twin = np.random.default_rng(seed), model.model_config, model.copy()
    hidden, arrays = rng.permutation(config.hidden_size), twin.arrays()
    reads = ("embed", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "lm_head")
    for name, array in arrays.items():
        part = name.removesuffix(".weight").rpartition(".")[2]
        array[...] = array[:, hidden] if part in reads else array[hidden]  # the others write the channels
    for layer in range(config.num_layers):
        mlp, at = rng.permutation(config.intermediate_size), f"layers.{layer}."
        value = rng.permutation(config.head_dim)
        for name in ("gate_proj", "up_proj"):
            arrays[f"{at}mlp.{name}.weight"][...] = arrays[f"{at}mlp.{name}.weight"][mlp]
        arrays[f"{at}mlp.down_proj.weight"][...] = arrays[f"{at}mlp.down_proj.weight"][:, mlp]
        v, o = (arrays[f"{at}softmax.{name}_proj.weight"] for name in "vo")
        v[...] = v.reshape(config.num_kv_heads, config.head_dim, -1)[:, value].reshape(v.shape)
        o[...] = o.reshape(len(o), config.num_heads, config.head_dim)[:, :, value].reshape(o.shape)
    return twin


def stored(base: ha.Model, dtype: str, tokens: int) -> ha.Model:
    """In that type, where it says so calibrated on the first `tokens` of the text that the demo trains on."""
    if not dtype.endswith(CALIBRATED):
        return base.astype(dtype)
    text = ha.load_text(hub.fetch_text()[0])
    data = ha.TokenData.from_text(text, base.tokenizer, 512, tokens)
    return base.astype(dtype.removesuffix(CALIBRATED), calibration=data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--tokens", type=int, help="of the text, for perplexity (default: all)")
    parser.add_argument("--calibration", type=int, default=16_384, help="tokens (default: %(default)s)")
    parser.add_argument("--shuffle", action="store_true", help="channels in another order")
    parser.add_argument("--contexts", type=int, nargs="*", default=[128, 2048, 8192])
    parser.add_argument("--steps", type=int, default=32, help="tokens of a decoding run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="write the results here")
    args = parser.parse_args()
    if not args.text.is_file():
        parser.error(f"TEXT is {args.text}, no such file; expected UTF-8 text")
    text = args.text.read_text(encoding="utf-8")
    base = ha.Model.from_pretrained(args.model)
    assert base.tokenizer is not None
    base = shuffled(base) if args.shuffle else base
    ids = np.array(base.tokenizer.encode(text[: 8 * max(args.contexts, default=0)]), np.int32)
    limit = base.model_config.max_positions - args.steps
    rows = []
    for dtype in args.dtypes:
        model = base if dtype == "float32" else stored(base, dtype, args.calibration)
        found = ha.perplexity(model, text, seq_len=512, max_tokens=args.tokens)
        speeds = {
            n: decode_speed(model, ids[: min(n, limit)], args.steps, args.repeats)
            for n in args.contexts
            if len(ids) >= min(n, limit)
        }
        rows.append({"dtype": dtype, "bytes": model.nbytes, "decode_tokens_per_second": speeds, **found})
        more = 100.0 * (found["ppl"] / rows[0]["ppl"] - 1.0)
        print(
            f"{dtype:>15}  {model.nbytes / 1e6:7.1f} MB   perplexity {found['ppl']:8.4f} ({more:+.2f}%)   "
            + "   ".join(f"{n}: {speed:6.1f} tokens/s" for n, speed in speeds.items()),
            flush=True,
        )
    if args.json:
        arguments = {**vars(args), "text": str(args.text)}
        report = {"machine": ha.show_config(), "arguments": arguments, "rows": rows}
        Path(args.json).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
