"""A chat of many turns: its prompt is, token for token, what transformers makes of the conversation, and
what the cache holds already gives the same answers as reading all anew.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from gguf_files import TEACHER
from tokenizer_cases import byte_level

import hybridattn as ha
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("one_thread")
USERS = ["  Is 1 < 2 & é?\n", "And then?", "Thanks. "]
SYSTEM = " Be kind. "
LAST = "{% if add_generation_prompt %}"
# In the manner of families: what goes around turns, where white space is trimmed, who may speak first. Each:
# (special tokens, template, whether it takes a system message)
FAMILIES = {
    "marks, a system of its own": (
        ["<|im_start|>", "<|im_end|>"],
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nYou help."
        "<|im_end|>\n{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
        "{% endfor %}" + LAST + "<|im_start|>assistant\n{% endif %}",
        True,
    ),
    "brackets, system inside the first turn": (
        ["<s>", "</s>"],
        "{% if messages[0].role == 'system' %}{% set sys = messages[0].content | trim %}"
        "{% set rest = messages[1:]"
        " %}{% else %}{% set sys = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}"
        "{% endif %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' }}{% if loop.first and sys %}"
        "{{ '<<SYS>>\n' + sys + '\n<</SYS>>\n\n' }}{% endif %}{{ m.content | trim + ' [/INST]' }}{% else %}"
        "{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}",
        True,
    ),
    "headers and trims": (
        ["<|begin|>", "<|head|>", "<|tail|>", "<|eot|>"],
        "{{- '<|begin|>' }}\n{%- for m in messages %}\n    {{- '<|head|>' + m['role'] + '<|tail|>\n\n' }}\n"
        "    {{- m['content'] | trim + '<|eot|>' }}\n{%- endfor %}\n" + LAST.replace("{%", "{%-", 1)
        + "\n    {{- '<|head|>assistant<|tail|>\n\n' }}\n{%- endif %}",
        True,
    ),
    "no system, a model's own role": (
        ["<bos>", "<start>", "<end>"],
        "{{ '<bos>' }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% set role = 'model' %}{% else %}"
        "{% set role = m['role'] %}{% endif %}{{ '<start>' + role + '\n' + m['content'] | trim + '<end>\n' }}"
        "{% endfor %}" + LAST + "{{ '<start>model\n' }}{% endif %}",
        False,
    ),
    "tags, end of text after each": (
        ["<|user|>", "<|system|>", "<|assistant|>", "</s>"],
        "{% for m in messages %}\n"
        "{% if m['role'] in ['user', 'system'] %}\n{{ '<|' + m.role + '|>\n' + m['content']"
        " + eos_token }}\n"
        "{% elif m['role'] == 'assistant' %}\n{{ '<|assistant|>\n' + m['content'] + eos_token }}\n"
        "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
        "{% endfor %}",
        True,
    ),
    "a namespace and last answers": (
        ["<|im_start|>", "<|im_end|>", "<think>", "</think>"],
        "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}"
        "{% if m.role == 'assistant' and loop.index0 < ns.last %}"
        "{% set said = m.content.split('</think>')[-1]"
        ".lstrip('\n') %}{% else %}{% set said = m.content %}{% endif %}"
        "{{- '<|im_start|>' + m.role + '\n' + said + '<|im_end|>\n' }}{% endfor %}" + LAST
        + "{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}",
        True,
    ),
    "plain words": (
        ["</s>"],
        "{{ bos_token if bos_token is defined and bos_token else '' }}{% for m in messages %}"
        "{{ m.role | capitalize }}: {{ m.content }}{{ '\n' if not loop.last else '\n\n' }}{% endfor %}"
        + LAST + "Assistant:{% endif %}",
        True,
    ),
    "marks and a separator token": (
        ["<|im_start|>", "<|im_sep|>", "<|im_end|>"],
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}"
        "{% endfor %}" + LAST + "<|im_start|>assistant<|im_sep|>{% endif %}",
        True,
    ),
    "marks and trims": (
        ["<|im_start|>", "<|im_end|>"],
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content | trim) + '<|im_end|>\n' }}"
        "{% endfor %}" + LAST + "{{ '<|im_start|>assistant\n' }}{% endif %}",
        True,
    ),
    "numbered, with a date and json": (
        ["[TURN]", "[END]"],
        "{{ 'of ' ~ messages | length ~ ' on ' ~ strftime_now('%%') ~ '\n' }}{% for m in messages %}"
        "{{ '[TURN]' ~ loop.index ~ ' ' ~ {'role': m.role, 'said': m.content} | tojson ~ '[END]' }}"
        "{% endfor %}"
        + LAST + "[TURN]{{ messages | length + 1 }}{% endif %}",
        True,
    ),
}  # fmt: skip


SMOLLM2 = "SmolLM2-135M-Instruct"
GOLDEN = json.loads((Path(__file__).parent / "golden" / "chat.json").read_text(encoding="utf-8"))
ANSWERS = ["Yes, 1 < 2.  ", "Und dann: \U0001f642 \n\n ok", ""]


def turns(name):
    """The conversation before each of three answers, with answers that are always the same."""
    messages = [{"role": "system", "content": SYSTEM}] if name == SMOLLM2 or FAMILIES[name][2] else []
    before = []
    for text, answer in zip(USERS, ANSWERS, strict=True):
        messages = [*messages, {"role": "user", "content": text}]
        before.append(messages)
        messages = [*messages, {"role": "assistant", "content": answer}]
    return before


def tokenizer(name) -> Tokenizer:
    special, template, _ = FAMILIES[name]
    core = byte_level(special=("<eos>", *special))
    known = core.token_to_id
    bos = known(special[0]) if special[0] in ("<s>", "<bos>") else None
    eos = known("</s>") if "</s>" in special else known("<eos>")
    return Tokenizer(core, bos_token_id=bos, eos_token_id=eos, chat_template=template)


def model_of(made: Tokenizer):
    teacher = tiny.teacher(vocab_size=400, max_position_embeddings=1024, eos_token_id=made.eos_token_id)
    teacher.tokenizer = made
    return teacher


def conversation(name):
    """A chat after three turns, and the prompts as token ids that it read."""
    chat = ha.Chat(model_of(tokenizer(name)), SYSTEM if FAMILIES[name][2] else None)
    prompts = []
    for text in USERS:
        chat.say(text, max_new_tokens=6)
        prompts.append(chat.tokens(chat.messages[:-1]))
    return chat, prompts


@pytest.mark.parametrize("name", FAMILIES)
def test_three_turns(name):
    chat, prompts = conversation(name)
    roles = [m["role"] for m in chat.messages]
    assert roles == ["system"] * FAMILIES[name][2] + ["user", "assistant"] * 3
    for text in USERS:
        assert any(m["content"] == text for m in chat.messages)
    said = [m["content"] for m in chat.messages if m["role"] == "assistant"]
    for ids, answer in zip(prompts, said, strict=True):
        fresh = "".join(chat.model.stream(ids, max_new_tokens=6))
        assert answer == fresh, "with what the cache holds, as without"


@pytest.mark.torch
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_the_prompt_is_that_of_transformers(name, tmp_path):
    import transformers

    chat, prompts = conversation(name)
    chat.tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for turn, ids in enumerate(prompts):
        messages = chat.messages[: FAMILIES[name][2] + 2 * turn + 1]
        want = theirs.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        assert ids == want, (turn, theirs.decode(want))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_prompt_is_that_of_transformers_when_it_was_last_asked(name):
    """golden/make_chat.py asked it, so this needs no transformers."""
    if name == SMOLLM2:
        if not TEACHER.exists():
            pytest.skip("SmolLM2-135M has not been fetched (make demo)")
        model = tiny.teacher(vocab_size=49_152, hidden_size=16, layers=1)
        model.tokenizer = Tokenizer.from_gguf(TEACHER)
    else:
        model = model_of(tokenizer(name))
    chat = ha.Chat(model)
    for said, ids in zip(turns(name), GOLDEN[name], strict=True):
        assert chat.tokens(said) == ids, chat.tokenizer.decode(ids, skip_special_tokens=False)
    assert len({len(ids) for ids in GOLDEN[name]}) == 3


def test_every_template_has_its_golden_prompts():
    assert set(GOLDEN) == {*FAMILIES, SMOLLM2}


def test_what_a_cache_holds_is_not_read_again(monkeypatch):
    """Each turn reads what is new, and begins anew where the template changed what went before."""
    from hybridattn.model import chat as module

    read = []

    def counted(model, prompts, cache, chunk):
        read.append(len(prompts[0]))
        return prefill(model, prompts, cache, chunk)

    prefill = module.prefill
    monkeypatch.setattr(module, "prefill", counted)
    _, prompts = conversation("headers and trims")
    # a tail is left over for the pass that generates
    assert [len(prompts[0]) - 1, len(prompts[1]) - len(prompts[0]), len(prompts[2]) - len(prompts[1])] == read
    read.clear()
    _, prompts = conversation("numbered, with a date and json")
    assert read == [len(ids) - 1 for ids in prompts]


def test_a_turn_that_is_left_early():
    chat = ha.Chat(model_of(tokenizer("plain words")))
    pieces = chat.stream("Hello", max_new_tokens=30)
    first = next(pieces)
    pieces.close()
    assert chat.messages == [
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": first},
    ]  # fmt: skip
    assert chat.say("More", max_new_tokens=4) == chat.messages[-1]["content"]


def test_refused():
    with pytest.raises(DataError, match="has no chat template"):
        ha.Chat(tiny.teacher())
    chat = ha.Chat(model_of(tokenizer("brackets, system inside the first turn")))
    with pytest.raises(ConfigError, match=r"max_new_tokens is 2000 after \d+ tokens; allowed: \d+"):
        chat.stream("Hello", max_new_tokens=2000)
    with pytest.raises(ConfigError, match="allowed in a chat: neither"):
        chat.stream("Hello", softmax_layers=1)
    assert chat.messages == []
    chat.messages = [{"role": "user", "content": "twice"}]
    with pytest.raises(DataError, match="turns must alternate"):
        chat.say("again")
    with pytest.raises(DataError, match="no system"):
        ha.Chat(model_of(tokenizer("no system, a model's own role")), "Be kind").say("Hi")


def test_the_command(tmp_path, capsys, monkeypatch):
    """A line is a turn; /new begins anew; --json prints the conversation."""
    import io

    from hybridattn.cli.main import main

    made = tokenizer("headers and trims")
    model_of(made).save_pretrained(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("lost\n/new\nHello\n\nAnd?\n/quit\nnever\n"))
    assert main(["chat", str(tmp_path), "--system", "Be kind", "--max-tokens", "5", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [m["content"] for m in said if m["role"] != "assistant"] == ["Be kind", "Hello", "And?"]
    again = ha.Chat(ha.Model.from_pretrained(tmp_path), "Be kind")
    assert said[2]["content"] == again.say("Hello", max_new_tokens=5)
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    assert main(["chat", str(tmp_path), "--system", "Be kind", "--max-tokens", "5"]) == 0
    assert capsys.readouterr().out == said[2]["content"] + "\n"
    assert np.isfinite(again.model.logits(np.array([again.tokens()], np.int32))).all()
