"""Is a checkpoint the same model here, whatever its keys? Variants beside transformers, as a table.

    python benchmarks/variants.py [--json FILE] [--only WORD] [--page]

For every case of variant_cases.py transformers writes a tiny random checkpoint, its config.json gets the
case's keys, and the folder is read by transformers and here. Tokenizers (tests/tokenizer_cases.py) are
compared by the ids of eight texts, chat templates by the prompt. Verdicts:

    equal    the largest difference is below 1e-4 of the largest value; ids and prompts are the same
    warned   equal, and a warning names the key
    refused  an error of this package names the key, the file or the tensor
    WRONG    anything else

--json keeps the verdicts by version of transformers; run it once with every interpreter that has one. --page
writes docs/results/variants.md from them. Exit code 1 for a WRONG verdict, 3 without transformers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE), str(ROOT / "tests"), str(ROOT / "tests" / "golden")]

import tokenizer_cases  # noqa: E402
import variant_cases  # noqa: E402
from variant_cases import GONE, Variant  # noqa: E402

from hybridattn import Model  # noqa: E402
from hybridattn.data.tokenizer import Tokenizer  # noqa: E402
from hybridattn.files import atomic_write  # noqa: E402

LIMIT = 1e-4
RESULTS = HERE / "results" / "variants.json"
Row = dict[str, Any]


def attempt(action: Callable[[], Any]) -> tuple[Any, str, list[str]]:
    """(the result or None, this package's error or "", the warnings). Other errors come out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result, error = action(), ""
        except ValueError as refused:  # errors of the package are such
            result, error = None, " ".join(str(refused).split())
    return result, error, [str(entry.message) for entry in caught]


def judge(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    differ: Callable[[Any, Any], str],
    words: tuple[str, ...],
) -> Row:
    """The verdict on two ways to the same thing. differ: says how far apart two results are, "" for equal."""
    try:
        mine, error, said = attempt(ours)
    except Exception as foreign:  # what a user would meet as a traceback
        return {"verdict": "WRONG", "why": f"{type(foreign).__name__}: {foreign}"[:160]}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected, broken = theirs(), ""
    except Exception as foreign:
        expected, broken = None, type(foreign).__name__
    named = [text for text in [error, *said] if any(word in text for word in words)]
    if error:
        return {"verdict": "refused" if named else "WRONG", "why": error, **_theirs(broken)}
    if broken:
        # what transformers cannot open has no value to be equal to
        return {"verdict": "WRONG", "why": f"transformers: {broken}", **_theirs(broken)}
    far = differ(mine, expected)
    if far:
        return {"verdict": "WRONG", "why": far}
    return {"verdict": "warned", "why": named[0]} if named else {"verdict": "equal"}


def _release() -> int:
    import transformers

    return int(transformers.__version__.partition(".")[0])


def _theirs(broken: str) -> Row:
    return {"transformers": broken} if broken else {}


# --- models ---


def write_model(case: Variant, folder: Path) -> bool:
    """The case's folder as transformers writes it, then edited. False where this version cannot make it."""
    import torch
    from make_families import make

    settings = {"model_type": case.family, **variant_cases.PLAIN[case.family], **case.settings}
    try:
        model = make(settings, case.writer, seed=5)
    except Exception:  # a setting that this version refuses
        return False
    if case.weights in ("bfloat16", "float16"):
        model = model.to(getattr(torch, case.weights))
    model.save_pretrained(folder, **({"max_shard_size": "20KB"} if case.weights == "shards" else {}))
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in case.keys.items():
        config.pop(key, None)
        if value is not GONE:
            config[key] = value
    path.write_text(json.dumps(config))
    return True


def our_outputs(folder: Path, tokens: np.ndarray) -> dict[str, np.ndarray]:
    model = Model.from_pretrained(folder, dtype="float32")
    if model.model_config.lm_head:
        return {"logits": model.logits(tokens)}
    return {"hidden": model.hidden(tokens)}


def their_outputs(folder: Path, auto: str, tokens: np.ndarray) -> dict[str, np.ndarray]:
    import torch
    import transformers

    found = getattr(transformers, auto).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    model, report = found
    missing = [key for key in report["missing_keys"] if "pooler" not in key]
    if missing or report["mismatched_keys"]:
        raise ValueError(f"random weights for {missing or report['mismatched_keys']}")
    with torch.no_grad():
        out = model.eval()(torch.from_numpy(tokens).long())
    if hasattr(out, "prediction_logits"):
        return {"logits": out.prediction_logits.numpy()}
    return {"logits": out.logits.numpy()} if "logits" in out else {"hidden": out.last_hidden_state.numpy()}


def far_apart(mine: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> str:
    if mine.keys() != expected.keys():
        return f"{', '.join(mine)} here, {', '.join(expected)} there"
    far = max(float(np.abs(mine[key] - want).max() / np.abs(want).max()) for key, want in expected.items())
    return "" if far <= LIMIT else f"differs by {far:.1e} of the largest value"


def model_row(case: Variant, folder: Path) -> Row | None:
    if _release() < case.since or not write_model(case, folder):
        return None
    tokens = np.random.RandomState(3).randint(4, 120, size=(2, 37)).astype(np.int32)
    return judge(
        lambda: our_outputs(folder, tokens),
        lambda: their_outputs(folder, case.writer, tokens),
        far_apart,
        case.words,
    )


# --- tokenizers and chat templates ---


def tokenizer_row(name: str, folder: Path) -> Row:
    import transformers

    tokenizer_cases.folder_of(name, folder)
    texts = tokenizer_cases.TEXTS
    files = tokenizer_cases.CASES[name][1]
    words = [key for content in files.values() if isinstance(content, dict) for key in content]

    def ours() -> list[Any]:
        tokenizer = Tokenizer.from_folder(folder)
        return [*(tokenizer.encode(text) for text in texts), tokenizer.bos_token_id, tokenizer.eos_token_id]

    def theirs() -> list[Any]:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ids = [tokenizer(text)["input_ids"] for text in texts]
        return [*ids, tokenizer.bos_token_id, tokenizer.eos_token_id]

    return judge(ours, theirs, _unlike, (*words, "tokenizer.json"))


def chat_row(name: str, folder: Path) -> Row:
    import transformers

    files, options = variant_cases.CHATS[name]
    settings = {key: value for key, value in files.items() if key != "file"}
    eot = tokenizer_cases.EOT
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": eot, "eos_token": eot}
    more = {"chat_template__jinja": files["file"]} if "file" in files else {}
    tokenizer_cases.write(folder, tokenizer_cases.byte_level(), tokenizer_config__json=settings, **more)
    given = {"add_generation_prompt": True, **options}
    messages = variant_cases.MESSAGES
    return judge(
        lambda: Tokenizer.from_folder(folder).apply_chat_template(messages, **given),
        lambda: transformers.AutoTokenizer.from_pretrained(folder).apply_chat_template(
            messages, tokenize=False, **given
        ),
        _unlike,
        ("chat template", "chat_template"),
    )


def _unlike(mine: Any, expected: Any) -> str:
    return "" if mine == expected else f"{mine!r:.70} here, {expected!r:.70} there"


KINDS: dict[str, tuple[dict[str, Any], Callable[[Any, Path], Row | None]]] = {
    "models": ({case.name: case for case in variant_cases.MODELS}, model_row),
    "tokenizers": ({name: name for name in tokenizer_cases.CASES}, tokenizer_row),
    "chat templates": ({name: name for name in variant_cases.CHATS}, chat_row),
}


def row_of(kind: str, name: str) -> Row | None:
    """The verdict on a case; None where this version of transformers cannot write or read it."""
    cases, run = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        row = run(cases[name], Path(folder))
        if row is not None and "why" in row:
            row["why"] = row["why"].replace(f"{folder}/", "").replace(f"{folder}: ", "")[:300]
        alone = row is not None and row["verdict"] == "WRONG" and "transformers" in row
        return None if alone and _release() < 5 else row  # 4.57 cannot open it: nothing to be equal to


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help=f"a file of verdicts that is added to, such as {RESULTS}")
    parser.add_argument("--only", default="", help="the cases with this word in their names")
    parser.add_argument("--page", action="store_true", help="write docs/results/variants.md, run nothing")
    options = parser.parse_args()
    if options.page:
        from variants_page import write_page

        write_page(json.loads(RESULTS.read_text(encoding="utf-8")))
        return 0
    try:
        import torch
        import transformers
    except ImportError as missing:
        print(f"skipped: {missing} (in {sys.executable})", file=sys.stderr)
        return 3
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    found: dict[str, dict[str, Row]] = {}
    for kind, (cases, _) in KINDS.items():
        found[kind] = {}
        for name in cases:
            row = row_of(kind, name) if options.only in name else None
            if row is not None:
                found[kind][name] = row
                print(f"{row['verdict']:8} {name:60} {row.get('why', '')[:150]}", flush=True)
    rows = [row for group in found.values() for row in group.values()]
    print(Counter(row["verdict"] for row in rows))
    if options.json and not options.only:
        known = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
        known[transformers.__version__] = {"torch": torch.__version__, **found}
        atomic_write(options.json, json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    return int(any(row["verdict"] == "WRONG" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
