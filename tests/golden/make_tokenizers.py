"""Writes tokenizers.json: what transformers 5.24 makes of the folders of tests/tokenizer_cases.py.

PYTHONPATH=tests python tests/golden/make_tokenizers.py
"""

import json
import tempfile
from pathlib import Path

import tokenizer_cases
from transformers import AutoTokenizer

lines = []
for name in tokenizer_cases.CASES:
    with tempfile.TemporaryDirectory() as folder:
        theirs = AutoTokenizer.from_pretrained(tokenizer_cases.folder_of(name, Path(folder)))
    tokens = [theirs.convert_ids_to_tokens(theirs(text)["input_ids"]) for text in tokenizer_cases.TEXTS]
    facts = {"tokens": tokens, "bos": theirs.bos_token_id, "eos": theirs.eos_token_id}
    lines.append(f" {json.dumps(name)}: {json.dumps(facts, ensure_ascii=False)}")
text = "{\n" + ",\n".join(lines) + "\n}\n"
(Path(__file__).parent / "tokenizers.json").write_text(text, encoding="utf-8")
