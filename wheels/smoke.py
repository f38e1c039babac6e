"""Smoke test of an installed wheel: the whole job on a tiny model, in some seconds, with what is installed.

    python wheels/smoke.py [--bare]

Files of every format are written and read again, through NumPy, ml_dtypes, safetensors, tokenizers, Jinja2
and, where it is installed, gguf. --bare: and there is no compiler, no BLIS and no OpenMP runtime here. Fails
with a traceback; otherwise prints the versions and the set-up of the core as a line of JSON.
"""

from __future__ import annotations

import argparse
import ctypes.util
import importlib.util
import json
import platform
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import pre_tokenizers

import hybridattn as ha
from hybridattn.testing import assert_models_close, tiny_model, tiny_text

PACKAGES = ("numpy", "safetensors", "ml_dtypes", "tokenizers", "jinja2", "tqdm", "gguf")
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<answer>"


def tokenizer_json() -> dict[str, Any]:
    """A byte-level BPE as files of today have it: merges are pairs, which tokenizers reads from 0.20 on."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end = {"id": len(tokens), "content": "<eos>", "special": True}
    return {
        "version": "1.0",
        "added_tokens": [dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | end],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [["t", "h"], ["th", "e"]],
        },
    }


def whole_job(folder: Path) -> None:
    """Align, score, plan, distil, save, load, generate; bits do not depend on the number of threads."""
    teacher, data = tiny_model("llama"), tiny_text()
    mixer = {"kind": "window_linear", "window": 8}
    probe = ha.align(teacher, mixer, data, steps=2, batch_size=2, progress=False)
    scores = ha.score(probe, data, "kl_replace")
    hybrid = probe.to_hybrid(ha.plan.make(scores, k=1))
    result = ha.distill(hybrid, teacher, data, steps=2, batch_size=2, progress=False)
    assert np.isfinite(result.losses).all()
    hybrid.save_pretrained(folder / "hybrid")
    again = ha.Model.from_pretrained(folder / "hybrid")
    assert_models_close(again, hybrid, within=0.0)
    assert again.generate("the", max_new_tokens=4) == hybrid.generate("the", max_new_tokens=4)
    ids = np.arange(64)[None]
    logits = []
    for threads in (1, 3):
        ha.set_num_threads(threads)
        logits.append(hybrid.logits(ids))
    assert np.array_equal(*logits)


def files(folder: Path) -> None:
    """A folder of today, with a chat template; weights of 16 and 8 bits in safetensors and GGUF files."""
    model = tiny_model("llama", intermediate_size=64, vocab_size=259, eos_token_id=258)
    model.save_pretrained(folder / "model")
    (folder / "model" / "tokenizer.json").write_text(json.dumps(tokenizer_json()), encoding="utf-8")
    settings = {"eos_token": "<eos>", "chat_template": TEMPLATE}
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    model = ha.Model.from_pretrained(folder / "model")
    assert list(model.tokenizer.encode("the the")) == [257, model.tokenizer.encode(" ")[0], 257]
    rendered = model.tokenizer.apply_chat_template([{"role": "u", "content": "the"}])
    assert rendered == "<u>the<answer>", rendered
    for dtype in ("bfloat16", "float16", "q8_0"):
        assert np.isfinite(model.astype(dtype).logits(np.arange(8)[None])).all()
    model.astype("bfloat16").save_pretrained(folder / "rounded")
    rounded = ha.Model.from_pretrained(folder / "rounded", dtype="auto")
    if importlib.util.find_spec("gguf"):
        model.export(folder / "gguf", layout="gguf", dtype="bfloat16")
        [file] = (folder / "gguf").glob("*.gguf")
        assert_models_close(ha.Model.from_pretrained(file, dtype="auto"), rounded)


def bare() -> None:
    """Nothing of a build is in reach, and nothing of it is loaded."""
    found = [name for name in ("cc", "gcc", "clang", "ld") if shutil.which(name)]
    assert not found, f"not a bare machine: {found}"
    assert ctypes.util.find_library("blis") is None
    loaded = Path("/proc/self/maps").read_text()
    strangers = [name for name in ("libblis", "libgomp", "libomp") if name in loaded]
    assert not strangers, f"loaded: {strangers}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bare", action="store_true", help="there is no compiler, BLIS or OpenMP runtime")
    options = parser.parse_args()
    assert "(static)" in ha.show_config()["blis_source"], ha.show_config()
    for check in (whole_job, files):
        with tempfile.TemporaryDirectory() as folder:
            check(Path(folder))
    if options.bare:
        bare()
    installed = {name: version(name) for name in PACKAGES if importlib.util.find_spec(name)}
    system = {"python": platform.python_version(), "libc": " ".join(platform.libc_ver())}
    print(json.dumps({**system, **installed, "core": ha.show_config()}))


if __name__ == "__main__":
    main()
