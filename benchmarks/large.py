"""Does a model of 1.5 billion parameters go through scoring and alignment in little memory?

    python benchmarks/large.py FOLDER [--text FILE --tokenizer NAME] [--tokens 256] [--json FILE]

Writes random bfloat16 weights in the shape of Qwen2.5-1.5B as sharded safetensors to FOLDER (3.1 GB; used
again when it is there), maps them with dtype="auto", scores all layers by kl_gate and kl_replace and aligns
one layer.
Anonymous memory (RssAnon) is what the program needs; RssFile is the mapped weights, which the system may
take back at any time.
"""

import argparse
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

import hybridattn as ha
from hybridattn.families import config_from_hf, hf_name
from hybridattn.formats.safetensors import save_safetensors

QWEN_1_5B = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 1536,
    "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_position_embeddings": 32768,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}  # fmt: skip


def random_tensors(hf: dict, layer: int | None, seed: int) -> dict[str, np.ndarray]:
    """The bfloat16 tensors of one layer, or those outside the layers, by their Hugging Face names."""
    config = config_from_hf(hf)
    d, f, q = config.hidden_size, config.intermediate_size, config.num_heads * config.head_dim
    kv = config.num_kv_heads * config.head_dim
    if layer is None:
        shapes = {"embed.weight": (config.vocab_size, d), "final_norm.weight": (d,)}
    else:
        at = f"layers.{layer}."
        shapes = {f"{at}mixer_norm.weight": (d,), f"{at}mlp_norm.weight": (d,)}
        for name, rows in (("q", q), ("k", kv), ("v", kv)):
            shapes[f"{at}softmax.{name}_proj.weight"] = (rows, d)
            shapes[f"{at}softmax.{name}_proj.bias"] = (rows,)
        shapes[f"{at}softmax.o_proj.weight"] = (d, q)
        shapes |= {f"{at}mlp.{n}_proj.weight": (f, d) for n in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (d, f)
    rng = np.random.default_rng([seed, 0 if layer is None else layer + 1])
    made = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, np.float32)
        values = 1.0 + 0.1 * values if "norm" in name else values * shape[-1] ** -0.5
        made[hf_name(config, name)] = values.astype(ml_dtypes.bfloat16)
    return made


def write_model(folder: Path, hf: dict, seed: int = 0) -> int:
    """A random model as sharded safetensors, one layer in memory at a time. Returns the bytes of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    places, size = {}, 0
    for layer in [None, *range(hf["num_hidden_layers"])]:
        shard = f"model-{0 if layer is None else layer + 1:05d}.safetensors"
        tensors = random_tensors(hf, layer, seed)
        save_safetensors(folder / shard, tensors, {"format": "pt"})
        places |= dict.fromkeys(tensors, shard)
        size += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(hf))
    return size


def resident() -> dict[str, int]:
    """RssAnon and RssFile of this process in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {key: int(fields[key].split()[0]) << 10 for key in ("RssAnon", "RssFile")}


class Peak:
    """The highest anonymous, file and total resident memory while the block runs, 50 looks a second."""

    def __enter__(self) -> "Peak":
        self.anon = self.file = self.total = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while True:
            now = resident()
            self.anon, self.file = max(self.anon, now["RssAnon"]), max(self.file, now["RssFile"])
            self.total = max(self.total, sum(now.values()))
            if self._done.wait(0.02):
                return

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()


def stages(folder: Path, tokens: np.ndarray, seq_len: int, mixer: dict) -> Iterator[tuple[str, object]]:
    """Runs the work and gives (stage, result) after each."""
    teacher = ha.Model.from_pretrained(folder, dtype="auto")
    yield "load", teacher
    stops = range(seq_len, len(tokens) + 1, seq_len)
    data = ha.TokenData(tokens, np.array([(stop - seq_len, stop) for stop in stops]))
    probe = teacher.to_probe(mixer)
    yield "probe", probe
    for method in ("kl_gate", "kl_replace"):
        yield method, ha.score(probe, data, method, progress=False)
    distiller = ha.Distiller(probe, stage="align", layers=[len(probe.layers) // 2])
    windows = data.windows[:1].reshape(1, 1, 2)
    lr = np.array([[1e-3, 0.0]], np.float32)
    yield "align", distiller.run(data.tokens, windows, lr, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", type=Path, help="UTF-8 text, with --tokenizer; random tokens otherwise")
    parser.add_argument("--tokenizer", help="a model whose tokenizer reads the text")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--mixer", default="window_linear")
    parser.add_argument("--json", help="write the results here")
    args = parser.parse_args()
    if not (args.folder / "config.json").is_file():
        print(f"wrote {write_model(args.folder, QWEN_1_5B) / 1e9:.2f} GB", flush=True)
    if args.text:
        tokenizer = ha.Model.from_pretrained(args.tokenizer or "smollm2-135m", dtype="auto").tokenizer
        tokens = np.array(tokenizer.encode(args.text.read_text())[: args.tokens], np.int32)
    else:
        tokens = np.random.default_rng(0).integers(0, QWEN_1_5B["vocab_size"], args.tokens).astype(np.int32)
    rows = []
    work = stages(args.folder, tokens, args.seq_len, {"kind": args.mixer})
    while True:
        began, cpu = time.monotonic(), time.process_time()
        with Peak() as peak:
            stage, _ = next(work, (None, None))
        if stage is None:
            break
        row = {"stage": stage, "seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - cpu}
        row |= {"rss_anon": peak.anon, "rss_file": peak.file, "rss": peak.total}
        rows.append(row)
        print(
            f"{stage:>10}  {row['seconds']:7.1f} s   peak resident {peak.total / 2**30:5.2f} GiB "
            f"(anonymous {peak.anon / 2**30:.2f}, mapped {peak.file / 2**30:.2f})",
            flush=True,
        )
    if args.json:
        machine = {**ha.show_config(), "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")}
        report = {"machine": machine, "arguments": {k: str(v) for k, v in vars(args).items()}, "rows": rows}
        Path(args.json).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
