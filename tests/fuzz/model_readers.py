"""Readers of models: configurations, weights, GGUF, tokenizers, chat templates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import export_models
import gguf_files
import numpy as np
import test_gguf_tokenizer
import tiny
import tokenizer_cases

import hybridattn as ha
from fuzz.reader import Reader, Source, source, value, values
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import DataError
from hybridattn.formats.gguf import open_gguf
from hybridattn.formats.safetensors import open_weights
from hybridattn.model.generation_config import read_generation
from hybridattn.model.saved import read_config

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SMALL = {
    "vocab_size": 12,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 8,
}
ROPES: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 2.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "beta_fast": 32,
        "beta_slow": 1,
    },
]
TOKENIZERS = (
    "bert cased", "gpt2 prefix space", "roberta mask of the settings", "qwen2 added tokens",
    "added_tokens.json", "special_tokens_map.json, tokens as objects", "additional special tokens",
    "llama without prefix space", "unigram", "metaspace, always", "padding and truncation in tokenizer.json",
)  # fmt: skip
OLD = ("vocab.txt cased", "merges.txt of gpt2 with bos", "merges.txt of roberta", "merges.txt of qwen2")
TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}\n{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m['content'] + '<|im_end|>' }}"
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}<|im_start|>assistant\n{% endif %}"
)


def readers(folder: Path) -> dict[str, Reader]:
    """Makes whole input below `folder`."""
    return {
        "config": Reader(lambda path: read_config(path / "config.json"), _configs(folder / "config")),
        "hybrid config": Reader(lambda path: read_config(path / "config.json"), _hybrids(folder / "hybrid")),
        "model folder": Reader(_load, _models(folder / "model")),
        "weights": Reader(_weights, _weight_files(folder / "weights")),
        "GGUF": Reader(_gguf, _gguf_files(folder / "gguf")),
        "GGUF tokenizer": Reader(
            lambda path: Tokenizer.from_gguf(path / "x.gguf"), _gguf_tokenizers(folder / "gguft")
        ),
        "tokenizer": Reader(_tokenizer, _tokenizers(folder / "tokenizer", TOKENIZERS)),
        "old tokenizer": Reader(_tokenizer, _tokenizers(folder / "old", OLD)),
        "chat": Reader(_chat, _chats(folder / "chat")),
        "generation config": Reader(read_generation, _generation(folder / "generation")),
    }


def _folder(path: Path, save: Callable[[Path], Any], *files: str, head: int | None = None) -> list[Source]:
    path.mkdir(parents=True)
    save(path)
    return [source(path, file, head) for file in files]


def _configs(folder: Path) -> list[Source]:
    found = [source(path.parent, "config.json") for path in _golden(folder, "config.json")]
    base = json.loads((folder / "base" / "config.json").read_text())
    for rope in ROPES:
        place = folder / rope["rope_type"]
        place.mkdir()
        (place / "config.json").write_text(
            json.dumps({**base, "rope_parameters": {"rope_theta": 1e4, **rope}})
        )
        found.append(source(place, "config.json"))
    return found


def _golden(folder: Path, *files: str) -> list[Path]:
    """Copies of the golden models' folders; the paths of their first files."""
    made = []
    for origin in sorted([*(GOLDEN / "models").iterdir(), *(GOLDEN / "families").iterdir()]):
        if not all((origin / file).is_file() for file in files):  # some share another one's weights
            continue
        (folder / origin.name).mkdir(parents=True)
        for file in files:
            shutil.copy(origin / file, folder / origin.name / file)
        made.append(folder / origin.name / files[0])
    return made


def _hybrids(folder: Path) -> list[Source]:
    teacher = tiny.teacher(layers=3, **SMALL)
    teacher.tokenizer = None
    found = []
    for number, mixer in enumerate((*tiny.MIXERS, {"kind": "window", "window": 4})):
        probe = teacher.to_probe(mixer)
        for name, model in (("probe", probe), ("hybrid", probe.to_hybrid([1]))):
            found += _folder(folder / f"{name}-{number}", model.save_pretrained, "config.json")
    return found


def _models(folder: Path) -> list[Source]:
    """Small models; every file of their folders is damaged."""
    teacher = tiny.teacher(layers=2, **SMALL)
    teacher.tokenizer = None
    hybrid = teacher.to_probe(tiny.MIXERS[1]).to_hybrid([1])
    files = ("config.json", "model.safetensors")
    found = _folder(folder / "plain", teacher.save_pretrained, *files)
    found += _folder(folder / "hybrid", hybrid.save_pretrained, *files)
    exported = export_models.hybrid()
    exported.tokenizer = None
    exported.export(folder / "exported", "qwen3_5")
    found += [*found, source(folder / "exported", "config.json")]  # it is large, so the small ones come twice
    path = folder / "sharded"
    teacher.save_pretrained(path)
    (path / "model.safetensors").rename(path / "part.safetensors")
    with open_weights(path / "part.safetensors") as weights:
        index = {"metadata": {}, "weight_map": dict.fromkeys(weights.names(), "part.safetensors")}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2], "temperature": 0.5}))
    return found + [source(path, "model.safetensors.index.json"), source(path, "generation_config.json")]


def _load(path: Path) -> None:
    model = ha.Model.from_pretrained(path)
    if model.model_config.task is None:
        model.hidden(np.zeros((1, 2), np.int32))


def _weight_files(folder: Path) -> list[Source]:
    _golden(folder, "model.safetensors", "config.json")
    return [source(folder / name, "model.safetensors") for name in ("base", "gpt2", "bert", "qwen2")]


def _weights(path: Path) -> None:
    with open_weights(path) as weights:
        for name in weights.names()[:8]:
            weights.read_into(name, np.empty(weights.shape(name), np.float32))


def _gguf_files(folder: Path) -> list[Source]:
    tensors = {
        name: np.ones([min(n, 64) for n in tensor.shape], np.float32)
        for name, tensor in gguf_files.random_tensors().items()
    }
    keys = {
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 1,
        "llama.attention.head_count_kv": 1,
    }
    found = []
    for kind in ("F32", "F16", "Q8_0", "Q4_0"):
        place = folder / kind
        place.mkdir(parents=True)
        gguf_files.write(place / "x.gguf", tensors, gguf_files.Type[kind], **keys)
        found.append(source(place, "x.gguf", head=3000))
    return found


def _gguf(path: Path) -> None:
    with open_gguf(path / "x.gguf").source as weights:
        for name in weights.names():
            if np.prod(weights.shape(name), dtype=float) < 1e6:
                weights.read_into(name, np.empty(weights.shape(name), np.float32))


def _gguf_tokenizers(folder: Path) -> list[Source]:
    one = {"token_embd.weight": np.ones((2, 2), np.float32)}
    for name in ("gpt2", "llama"):
        (folder / name).mkdir(parents=True)
    shared = {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 0}
    pairs = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": test_gguf_tokenizer.TOKENS,
        "tokenizer.ggml.token_type": test_gguf_tokenizer.TYPES,
        "tokenizer.ggml.merges": test_gguf_tokenizer.MERGES, **shared,
    }  # fmt: skip
    gguf_files.write(folder / "gpt2/x.gguf", one, **pairs)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "\u2581", "a", "\u2581a"]
    scores = {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(i) for i in range(len(tokens))],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, 1, 1, 1],
        "tokenizer.ggml.add_bos_token": True, **shared,
    }  # fmt: skip
    gguf_files.write(folder / "llama/x.gguf", one, **scores)
    return [source(folder / name, "x.gguf") for name in ("gpt2", "llama")]


def _tokenizers(folder: Path, names: tuple[str, ...]) -> list[Source]:
    found = []
    for number, name in enumerate(names):
        path = tokenizer_cases.folder_of(name, folder / str(number))
        found += [source(path, each.name) for each in sorted(path.iterdir()) if each.is_file()]
    return found


def _tokenizer(path: Path) -> None:
    tokenizer = Tokenizer.from_folder(path)
    tokenizer.decode(tokenizer.encode("the moon")[:4])
    tokenizer.save(path / "again")


def _chats(folder: Path) -> list[Source]:
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "moon?"}]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}
    found = values(
        folder, {"messages": messages}, {"messages": messages, "tools": [tool], "template": "default"}
    )
    place = folder / "template"
    place.mkdir()
    (place / "chat_template.jinja").write_text(TEMPLATE)
    return [*found, source(place, "chat_template.jinja")]


def _chat(path: Path) -> None:
    tokenizer = tiny.tokenizer()
    template = path / "chat_template.jinja"
    try:
        tokenizer.chat_template = template.read_bytes().decode() if template.exists() else TEMPLATE
        given = {"messages": [{"role": "user", "content": "a"}]} if template.exists() else value(path)
    except UnicodeDecodeError:
        raise DataError("no text") from None
    if isinstance(given, dict) and isinstance(given.get("messages"), list):
        template_name = given.get("template")
        tokenizer.apply_chat_template(
            given["messages"],
            template=template_name if isinstance(template_name, str) else None,
            tools=given.get("tools"),
        )


def _generation(folder: Path) -> list[Source]:
    folder.mkdir()
    content = {"bos_token_id": 1, "eos_token_id": [1, 2], "temperature": 0.5, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(content))
    return [source(folder, "generation_config.json")]
