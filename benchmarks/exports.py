"""Do other programs compute what we compute? Exported models in transformers and llama.cpp, as a table.

    python benchmarks/exports.py [--tiny | --real ROW] [--hybrid DIR] [--tokens N] [--json FILE]
    python benchmarks/exports.py --kinds [--json FILE]

For every layout, teacher and program, in float32 and against our logits: the largest error relative to the
largest logit of a whole sequence, of one padded on the left in a batch, and of prefill with decoding token by
token; and whether 64 greedy tokens are the same. Teachers: random Llama with grouped heads, Qwen2 and Qwen3;
and SmolLM2-135M with 8 of its 30 layers softmax and the rest gated_delta, aligned and distilled on Wikipedia
passages (--align-tokens, --distil-tokens; kept in the folder --hybrid, and found there again), with
perplexity on --tokens held-out tokens here and there, and in bfloat16 and Q8_0 beside what the teacher loses
by the same rounding. --tiny leaves SmolLM2 out; --real does one of its rows, such as gguf:q8_0, and puts it
among those that --json holds. --kinds: every mixer on the random Llama, in remote_code, and mamba2 in its own
layouts too. Exit code 1 when an error is above 1e-4, 3 without torch and transformers. llama.cpp is left out
where llama-cpp-python is not installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

import hybridattn as ha  # noqa: E402
from hybridattn.export import source  # noqa: E402
from hybridattn.select.patterns import uniform  # noqa: E402

LIMIT = 1e-4
GREEDY = 64
REAL_NAME = "SmolLM2-135M"
PLAIN = {"kind": "gated_delta", "bias": 0, "qk_norm": 0}
TEACHERS: dict[str, dict[str, Any]] = {
    "random Llama": {},
    "random Qwen2": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
    "random Qwen3": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 16},
}
MIXERS = {
    "qwen3_5": PLAIN,
    "sliding_window": {"kind": "window", "window": 32, "sinks": 0},
    "gguf": PLAIN,
    "remote_code": {"kind": "window_linear"},
}


@dataclass
class Row:
    """One line of the table."""

    layout: str
    teacher: str
    program: str
    dtype: str = "float32"
    numbers: dict[str, Any] = field(default_factory=dict)

    def line(self) -> list[str]:
        cells = [self.layout, self.teacher, self.program, self.dtype]
        return cells + [_text(self.numbers.get(name)) for name in COLUMNS]


ERRORS = ("logits", "padded", "decoding")
KEY = ("layout", "teacher", "program", "dtype")
COLUMNS = (*ERRORS, "greedy equal", "perplexity here", "there", "teacher here", "teacher there")
REAL = (("qwen3_5", "float32"), ("gguf", "float32"), ("qwen3_5", "bfloat16"), ("gguf", "q8_0"))


class Transformers:
    """A folder in transformers."""

    name = "transformers"

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(1)
        self.torch = torch
        kind = getattr(torch, dtype)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind, trust_remote_code=True).eval()

    def logits(self, *parts: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """[B, T, vocabulary] of tokens [B, T] that come in parts through a cache."""
        found, cache = [], None
        with self.torch.no_grad():
            for part in parts:
                more: dict[str, Any] = {}
                if mask is not None:
                    more["attention_mask"] = self.torch.tensor(mask).long()
                if cache is not None:
                    seen = sum(part.shape[1] for part in parts[: len(found)])
                    more["past_key_values"] = cache
                    # Bamba without them starts again at 0
                    more["position_ids"] = seen + self.torch.arange(part.shape[1])[None]
                out = self.model(self.torch.tensor(part).long(), use_cache=len(parts) > 1, **more)
                cache = out.past_key_values if len(parts) > 1 else None
                found.append(out.logits.float().numpy())
        return np.concatenate(found, 1)


class LlamaCpp:
    """A GGUF file in llama.cpp, with keys and values in float32."""

    name = "llama.cpp"

    def __init__(self, folder: Path, length: int = 512) -> None:
        import llama_cpp

        self.library = llama_cpp
        self.model = llama_cpp.Llama(
            str(folder / "model.gguf"),
            n_ctx=length,
            n_batch=length,
            n_threads=1,
            n_threads_batch=1,
            logits_all=True,
            type_k=0,
            type_v=0,
            verbose=False,
        )

    def logits(self, *parts: np.ndarray) -> np.ndarray:
        """[1, T, vocabulary] of tokens [1, T] that come in parts."""
        self.model.reset()
        self.library.llama_memory_clear(self.library.llama_get_memory(self.model.ctx), True)
        for part in parts:
            self.model.eval([int(token) for token in part[0]])
        return np.array(self.model.scores[: self.model.n_tokens])[None]


def program_of(layout: str, folder: Path, dtype: str = "float32") -> Any:
    """What opens the folder, or None where it is not installed."""
    if layout != "gguf":
        return Transformers(folder, dtype)
    try:
        return LlamaCpp(folder)
    except ImportError:
        return None


def error(theirs: np.ndarray, ours: np.ndarray) -> float:
    return float(np.abs(theirs - ours).max() / np.abs(ours).max())


def compare(model: ha.Model, theirs: Any, tokens: np.ndarray) -> dict[str, Any]:
    """The numbers of a row that need no text. tokens [2, T]"""
    ours, half = model.logits(tokens), tokens.shape[1] // 2
    steps = [tokens[:1, i : i + 1] for i in range(half, tokens.shape[1])]
    found: dict[str, Any] = {
        "logits": error(theirs.logits(tokens[:1]), ours[:1]),
        "decoding": error(theirs.logits(tokens[:1, :half], *steps), ours[:1]),
        "greedy equal": greedy(model, theirs, tokens[0, :16]),
    }
    if isinstance(theirs, Transformers):
        mask = np.ones(tokens.shape, bool)
        mask[0, : half // 2] = False
        alone = model.logits(tokens[:1, half // 2 :])
        found["padded"] = error(theirs.logits(tokens, mask=mask)[:1, half // 2 :], alone)
    return found


def greedy(model: ha.Model, theirs: Any, prompt: np.ndarray) -> bool:
    """Whether both take the same 64 tokens, each going on from its own."""
    text = [prompt.astype(np.int32), prompt.astype(np.int32)]
    for _ in range(GREEDY):
        for i, program in enumerate((model, theirs)):
            token = program.logits(text[i][None])[0, -1].argmax()
            text[i] = np.append(text[i], np.int32(token))
    return bool((text[0] == text[1]).all())


def perplexity(program: Any, tokens: np.ndarray, window: int = 512) -> float:
    """Of tokens [n] in windows."""
    losses = []
    for start in range(0, len(tokens) - window + 1, window):
        part = tokens[None, start : start + window]
        logits = program.logits(part)[0, :-1].astype(np.float64)
        top = logits.max(-1, keepdims=True)
        log_sum = np.log(np.exp(logits - top).sum(-1)) + top[:, 0]
        losses.append(log_sum - logits[np.arange(window - 1), part[0, 1:]])
    return float(np.exp(np.mean(losses)))


def random_rows() -> Iterator[Row]:
    """The random models in every layout."""
    import tiny

    tokens = np.random.default_rng(1).integers(0, 256, (2, 100)).astype(np.int32)
    for name, family in TEACHERS.items():
        teacher = tiny.teacher(layers=4, intermediate_size=64, **family)
        teacher.tokenizer = None
        for layout, mixer in MIXERS.items():
            yield from rows(layout, name, teacher.to_probe(mixer).to_hybrid([1, 3]), tokens)


def kind_rows() -> Iterator[Row]:
    """Every mixer of decoders on the random Llama."""
    import tiny

    tokens = np.random.default_rng(1).integers(0, 256, (2, 100)).astype(np.int32)
    teacher = tiny.teacher(layers=4, intermediate_size=64)
    teacher.tokenizer = None
    served = [kind for kind in source.kinds() if kind != "softmax"]
    own = [("bamba", "mamba2"), ("gguf", "mamba2")]
    for layout, kind in [*(("remote_code", kind) for kind in served), *own]:
        hybrid = teacher.to_probe({"kind": kind}).to_hybrid([1, 3])
        yield from rows(layout, f"random Llama, {kind}", hybrid, tokens)


def rows(layout: str, teacher: str, model: ha.Model, tokens: np.ndarray) -> Iterator[Row]:
    """The row of one export in float32; none where the program is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out"
        model.export(target, layout=layout, dtype="float32")
        theirs = program_of(layout, target)
        if theirs is not None:
            yield Row(layout, teacher, theirs.name, "float32", compare(model, theirs, tokens))


def real_hybrid(options: argparse.Namespace) -> tuple[ha.Model, ha.Model]:
    """(teacher, hybrid) of SmolLM2-135M; training goes on from checkpoints in the folder --hybrid."""
    teacher, folder = ha.Model.from_pretrained("smollm2-135m"), Path(options.hybrid)
    if (folder / "config.json").exists():
        return teacher, ha.Model.from_pretrained(folder)
    text = ha.load_text(ha.hub.fetch_text("wikipedia")[0])
    data = ha.TokenData.from_text(
        text[: 8 * (options.align_tokens + options.distil_tokens)], teacher.tokenizer, seq_len=512
    )
    steps = {"align": options.align_tokens // 512, "distill": options.distil_tokens // 512}
    probe = ha.align(teacher, {"kind": "gated_delta"}, data, steps["align"], 1, checkpoint=folder / "align")
    hybrid = probe.to_hybrid(uniform(30, 8))
    rates = {"lr_mixers": 1e-3, "lr_rest": 3e-5, "lr_final": 1e-5, "schedule": "cosine"}
    ha.distill(hybrid, teacher, data, steps["distill"], 1, checkpoint=folder / "distill", **rates)
    hybrid.save_pretrained(folder)
    return teacher, hybrid


def _here(options: argparse.Namespace) -> tuple[float, float] | None:
    """Our perplexities of hybrid and teacher, where a row that --json holds has them."""
    for row in (
        json.loads(options.json.read_text())["rows"]
        if options.real and options.json and options.json.exists()
        else []
    ):
        if row["teacher"] == REAL_NAME:
            return row["numbers"]["perplexity here"], row["numbers"]["teacher here"]
    return None


def real_rows(options: argparse.Namespace) -> Iterator[Row]:
    """SmolLM2: float32 in both programs, then bfloat16 and Q8_0 beside the teacher."""
    teacher, hybrid = real_hybrid(options)
    text = ha.load_text(ha.hub.fetch_text("wikipedia")[1])[: 8 * options.tokens]  # some four letters a token
    found = ha.TokenData.from_text(text, teacher.tokenizer, seq_len=512)
    held_out = np.asarray(found.tokens[: options.tokens], np.int32)
    here = _here(options) or (perplexity(hybrid, held_out), perplexity(teacher, held_out))
    tokens = held_out[: 2 * 256].reshape(2, 256)
    for layout, dtype in REAL if options.real is None else [tuple(options.real.split(":"))]:
        numbers: dict[str, Any] = {"perplexity here": here[0], "teacher here": here[1]}
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "out"
            result = hybrid.export(target, layout=layout, dtype=dtype)
            theirs = program_of(layout, target, dtype)
            if theirs is None:
                continue
            if dtype == "float32":
                numbers |= compare(hybrid, theirs, tokens)
            numbers["there"] = perplexity(theirs, held_out)
            numbers["constant error"] = result.notes["constant_error"]
            name = theirs.name
            del theirs
            if dtype != "float32":
                plain = Path(folder) / "teacher"
                if layout == "gguf":
                    teacher.export(plain, layout="gguf", dtype=dtype)
                else:
                    teacher.save_pretrained(plain, dtype=dtype)
                numbers["teacher there"] = perplexity(program_of(layout, plain, dtype), held_out)
        yield Row(layout, REAL_NAME, name, dtype, numbers)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1e}" if value < 1 else f"{value:.3f}"


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--kinds", action="store_true")
    parser.add_argument("--real", metavar="ROW", choices=[":".join(row) for row in REAL])
    parser.add_argument("--hybrid", metavar="DIR", default="exports_hybrid")
    parser.add_argument("--align-tokens", type=int, default=32768)
    parser.add_argument("--distil-tokens", type=int, default=49152)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError:
        print("needs torch and transformers", file=sys.stderr)
        return 3
    transformers.logging.set_verbosity_error()
    found = [] if options.real else list(kind_rows() if options.kinds else random_rows())
    if not (options.tiny or options.kinds):
        found += list(real_rows(options))
    good = all(row.numbers.get(name, 0.0) <= LIMIT for row in found for name in ERRORS)
    print("| " + " | ".join(("layout", "teacher", "program", "weights", *COLUMNS)) + " |")
    print("| --- " * (4 + len(COLUMNS)) + "|")
    for row in found:
        print("| " + " | ".join(row.line()) + " |")
    if options.json:
        how = {name: getattr(options, name) for name in ("align_tokens", "distil_tokens", "tokens")}
        kept = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
        rows = [vars(row) for row in found]
        named = [[row[key] for key in KEY] for row in rows]
        content = {
            "transformers": transformers.__version__,
            **({} if options.kinds else how),
            "rows": [row for row in kept if [row[key] for key in KEY] not in named] + rows,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
