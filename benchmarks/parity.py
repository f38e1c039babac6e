"""Is the teacher the same model? Perplexity and logits of SmolLM2-135M, ours against transformers.

    python benchmarks/parity.py TEXT [--peer-python PATH] [--windows 8] [--json FILE]

transformers reads the .gguf file itself (packages gguf and accelerate), so the reading of the weights is
compared too. Passes when the perplexities differ by less than 0.01% and the logits by less than 1e-4 of their
largest value; exit code 1 otherwise, 3 without transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PPL_LIMIT, LOGITS_LIMIT = 1e-4, 1e-4


def ours(model_name: str, text: Path, windows: int, length: int, threads: int) -> tuple[Path, dict]:
    """The model's file, and tokens [m, T], nll [m, T-1], logits [1, T, V] of the first window."""
    from hybridattn import _core, hub
    from hybridattn.model.model import Model

    _core.set_num_threads(threads)
    path = hub.resolve(model_name)
    model = Model.from_pretrained(path)
    ids = np.asarray(
        model.tokenizer.encode(text.read_text(encoding="utf-8")[: windows * length * 12]), np.int32
    )
    count = min(windows, len(ids) // length)
    if count == 0:
        raise SystemExit(f"error: {text} has {len(ids)} tokens; allowed: {length} or more")
    tokens = np.ascontiguousarray(ids[: count * length].reshape(count, length))
    nll = np.concatenate([model.nll(tokens[i : i + 1]) for i in range(count)])
    return path, {"tokens": tokens, "nll": nll, "logits": model.logits(tokens[:1])}


def theirs(model_path: Path, tokens: np.ndarray, threads: int) -> dict:
    """The same from transformers. Raises ImportError when something it needs is missing."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    if model_path.suffix == ".gguf":
        import accelerate  # noqa: F401
        import gguf  # noqa: F401

        where, options = model_path.parent, {"gguf_file": model_path.name}
    else:
        where, options = model_path, {}
    model = transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **options).eval()
    nll, first = [], None
    with torch.no_grad():
        for row in torch.from_numpy(tokens).long():
            logits = model(row[None]).logits
            first = logits.numpy() if first is None else first
            # float64: PyTorch's float32 log_softmax over 49152 logits is 1.6e-5 nats low on average
            loss = torch.nn.functional.cross_entropy(logits[0, :-1].double(), row[1:], reduction="none")
            nll.append(loss.numpy())
    return {
        "nll": np.stack(nll),
        "logits": first,
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
    }


def compare(a: dict, b: dict) -> dict:
    """Perplexities, their relative difference, and the logits' largest difference over the largest."""
    ppl = {
        "ours": float(np.exp(a["nll"].mean(dtype=np.float64))),
        "transformers": float(np.exp(b["nll"].mean(dtype=np.float64))),
    }
    difference = abs(ppl["ours"] / ppl["transformers"] - 1)
    logits = float(np.abs(a["logits"] - b["logits"]).max() / np.abs(b["logits"]).max())
    return {
        "perplexity": ppl,
        "perplexity_difference": difference,
        "logits_difference": logits,
        "nll_largest_difference": float(np.abs(a["nll"] - b["nll"]).max()),
        "tokens": int(a["tokens"].size),
        "versions": str(b["versions"]),
        "passed": difference < PPL_LIMIT and logits < LOGITS_LIMIT,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, help="a text file")
    parser.add_argument("--model", default="smollm2-135m", help="a name, folder or .gguf file")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-python", default=os.environ.get("HYBRIDATTN_PEER_PYTHON", sys.executable))
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--peer", nargs=2, type=Path, help=argparse.SUPPRESS
    )  # tokens.npy out.npz: the child's half
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.peer:
        try:
            result = theirs(Path(options.model), np.load(options.peer[0]), options.threads)
        except ImportError as error:
            print(f"skipped: {error} (in {sys.executable})", file=sys.stderr)
            return 3
        np.savez(options.peer[1], **result)
        return 0
    sys.path.insert(0, str(HERE.parent))
    path, mine = ours(options.model, options.text, options.windows, options.length, options.threads)
    with tempfile.TemporaryDirectory() as folder:
        tokens, out = Path(folder, "tokens.npy"), Path(folder, "out.npz")
        np.save(tokens, mine["tokens"])
        command = [
            options.peer_python,
            __file__,
            str(options.text),
            "--model",
            str(path),
            "--threads",
            str(options.threads),
            "--peer",
            str(tokens),
            str(out),
        ]
        code = subprocess.run(command).returncode
        if code:
            return code
        with np.load(out) as file:
            result = compare(mine, dict(file)) | {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
                "model": path.name,
            }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        os.replace(temporary, options.json)
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
