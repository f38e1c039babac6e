"""Writes chat.json: the prompts of a chat of three turns as transformers 5.24 writes and encodes them, for
the templates of tests/test_chat_turns.py and for SmolLM2-135M-Instruct from the cache.

PYTHONPATH=tests python tests/golden/make_chat.py
"""

import json
import tempfile
from pathlib import Path

from gguf_files import TEACHER
from test_chat_turns import FAMILIES, SMOLLM2, tokenizer, turns
from transformers import AutoTokenizer

from hybridattn.data.tokenizer import Tokenizer

lines = []
for name in (*FAMILIES, SMOLLM2):
    own = Tokenizer.from_gguf(TEACHER) if name == SMOLLM2 else tokenizer(name)
    with tempfile.TemporaryDirectory() as folder:
        own.save(folder)
        theirs = AutoTokenizer.from_pretrained(folder)
    prompts = [
        theirs.apply_chat_template(said, add_generation_prompt=True, tokenize=True, return_dict=False)
        for said in turns(name)
    ]
    lines.append(f" {json.dumps(name)}: {json.dumps(prompts)}")
text = "{\n" + ",\n".join(lines) + "\n}\n"
(Path(__file__).parent / "chat.json").write_text(text, encoding="utf-8")
