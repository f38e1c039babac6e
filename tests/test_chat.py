"""Chat templates: as transformers renders them, by name, saved, and what is refused."""

import importlib.util
import json

import pytest
from tokenizer_cases import EOT, byte_level, sentence_piece, write

from hybridattn.data.chat import render, up_to_last
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import DataError

HI = [{"role": "system", "content": " Be kind. "}, {"role": "user", "content": "Is 1 < 2 & \u00e9?\n"}]
CHAT = [*HI, {"role": "assistant", "content": "Yes. "}]
LOOP = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"
# name: (template, more variables, what it gives for HI)
TEMPLATES = {
    "loop": (LOOP, {}, "<|system|> Be kind. <|user|>Is 1 < 2 & \u00e9?\n"),
    "prompt": (
        LOOP + "{% if add_generation_prompt %}<|assistant|>{% endif %}",
        {},
        "<|system|> Be kind. <|user|>Is 1 < 2 & \u00e9?\n<|assistant|>",
    ),
    "bos": ("{{ bos_token }}" + LOOP, {}, EOT + "<|system|> Be kind. <|user|>Is 1 < 2 & \u00e9?\n"),
    "unk and pad": ("{{ unk_token }}{{ pad_token }}|{{ messages|length }}", {}, f"{EOT}{EOT}|2"),
    "trimmed blocks": (
        "{% for m in messages %}\n    {% if true %}\n{{ m.role }}\n    {% endif %}\n{% endfor %}\n",
        {},
        "system\nuser\n",
    ),
    "json without HTML": (
        "{{ messages[1] | tojson }}",
        {},
        '{"role": "user", "content": "Is 1 < 2 & \u00e9?\\n"}',
    ),
    "json with indent": ("{{ [1, {'a': '<'}] | tojson(indent=1) }}", {}, '[\n 1,\n {\n  "a": "<"\n }\n]'),
    "break": ("{% for m in messages %}{{ m.role }}{% break %}{% endfor %}", {}, "system"),
    "continue": (
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
        {},
        "user",
    ),
    "namespace": (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        {},
        "2",
    ),
    "generation": (
        "{% for m in messages %}{% generation %}{{ m.role }}, {% endgeneration %}{% endfor %}",
        {},
        "system, user, ",
    ),
    "no tools": ("{{ tools is none }} {{ documents is none }}", {}, "True True"),
    "tools": ("{{ tools[0].name }}", {"tools": [{"name": "add"}]}, "add"),
    "own variable": ("{% if enable_thinking is defined and not enable_thinking %}no{% endif %}", {}, ""),
    "own variable given": ("{% if not enable_thinking %}no{% endif %}", {"enable_thinking": False}, "no"),
    "macro and strip": (
        "{% macro say(m) %}{{ m.content.strip() }};{% endmacro %}"
        "{% for m in messages %}{{ say(m) }}{% endfor %}",
        {},
        "Be kind.;Is 1 < 2 & \u00e9?;",
    ),
    "slice": ("{% for m in messages[1:] %}{{ m['role'][:2] | upper }}{% endfor %}", {}, "US"),
    "date": ("{{ strftime_now('%%') }}", {}, "%"),
}


def tokenizer(template, **files):
    settings = {"pad_token": EOT, "unk_token": EOT}
    return Tokenizer(byte_level(), bos_token_id=0, eos_token_id=0, chat_template=template, settings=settings)


@pytest.mark.parametrize("name", TEMPLATES)
def test_rendered(name):
    template, more, want = TEMPLATES[name]
    assert tokenizer(template).apply_chat_template(HI, **more) == want


@pytest.mark.torch
@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_rendered_as_transformers(name, tmp_path):
    import transformers

    template, more, want = TEMPLATES[name]
    tokenizer(template).save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.apply_chat_template(HI, tokenize=False, add_generation_prompt=True, **more) == want
    going_on = LOOP + "<|end|>"
    text = theirs.apply_chat_template(
        CHAT, chat_template=going_on, tokenize=False, continue_final_message=True
    )
    ours = tokenizer(going_on).apply_chat_template(CHAT, False, continue_final_message=True)
    assert ours == text == "<|system|> Be kind. <|user|>Is 1 < 2 & \u00e9?\n<|assistant|>Yes. "


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('No system, please') }}", "chat template: No system, please"),
        ("{% for m in messages %}", "chat template, line 1: Unexpected end of template"),
        ("\n{% unknown %}", "line 2: Encountered unknown tag 'unknown'"),
        ("{{ messages[0].content.nothing.more }}", "chat template: 'str object' has no attribute 'nothing'"),
        ("{{ ''.__class__.__mro__ }}", "chat template: .*unsafe"),
        ("{{ messages.append(1) }}", "chat template: .*append.* is unsafe"),
        ("{% include 'x' %}", "chat template: "),
        ("{{ 1 / 0 }}", "chat template: division by zero"),
        ("{{ range(10**9) | list }}", "chat template: Range too big"),
        ("{{ open('/etc/passwd') }}", "chat template: 'open' is undefined"),
    ],
)
def test_what_a_template_may_not_do(template, message):
    with pytest.raises(DataError, match=message):
        tokenizer(template).apply_chat_template(HI)


@pytest.mark.parametrize("messages", [[], None, ["Hi"], [None], "Hi"])
def test_messages_that_are_none(messages):
    with pytest.raises(DataError, match=r"allowed: one or more objects with role and content"):
        tokenizer(LOOP).apply_chat_template(messages)


def test_several_templates_by_name(tmp_path):
    rows = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
    write(tmp_path / "list", byte_level(), tokenizer_config__json={"chat_template": rows})
    write(tmp_path / "files", byte_level(), chat_template__jinja="D")
    (tmp_path / "files" / "additional_chat_templates").mkdir()
    (tmp_path / "files" / "additional_chat_templates" / "tool_use.jinja").write_text("T")
    for name in ("list", "files"):
        Tokenizer.from_folder(tmp_path / name).save(tmp_path / "saved")
        for made in (Tokenizer.from_folder(tmp_path / name), Tokenizer.from_folder(tmp_path / "saved")):
            assert made.chat_template == "D" and made.chat_templates == {"default": "D", "tool_use": "T"}
            assert made.apply_chat_template(HI) == "D"
            assert made.apply_chat_template(HI, tools=[{}]) == "T"
            assert made.apply_chat_template(HI, template="tool_use") == "T"
            assert made.apply_chat_template(HI, template="{{ messages[0].role }}") == "system"
            with pytest.raises(DataError, match=r"chat template 'rag' is not .* allowed: default, tool_use"):
                made.apply_chat_template(HI, template="rag")
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["chat_template"] == rows


def test_a_file_goes_before_the_settings(tmp_path):
    write(tmp_path, byte_level(), tokenizer_config__json={"chat_template": "old"}, chat_template__jinja="new")
    assert Tokenizer.from_folder(tmp_path).chat_template == "new"


def test_only_other_names(tmp_path):
    rows = [{"name": "rag", "template": "R"}]
    made = Tokenizer.from_folder(
        write(tmp_path, byte_level(), tokenizer_config__json={"chat_template": rows})
    )
    assert made.chat_template is None and made.apply_chat_template(HI, template="rag") == "R"
    with pytest.raises(DataError, match=r"chat template 'default' is not among the model's; allowed: rag"):
        made.apply_chat_template(HI)


def test_a_rendered_beginning_is_not_doubled():
    made = Tokenizer(
        sentence_piece(), bos_token_id=1, eos_token_id=2, chat_template="{{ bos_token }}[INST] a"
    )
    text = made.apply_chat_template(HI)
    assert text == "<s>[INST] a" and made.encode(text).count(1) == 1 and made.encode("a")[0] == 1
    assert made.encode_batch([text, "a"]) == [made.encode(text), made.encode("a")]
    assert made.encode("<s><s>a", add_special_tokens=False)[:2] == [1, 1]  # what the text itself says stays


def test_no_place_to_go_on_from():
    with pytest.raises(DataError, match=r"allowed: a text that the template shows"):
        tokenizer("fixed").apply_chat_template(CHAT, False, continue_final_message=True)


PLAIN = "{% for m in messages %}{{ m.role }}:{{ m.content }};{{ m.reasoning_content }}|{% endfor %}"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "assistant", "content": None}, "assistant:;|"),  # as clients of an API send a tool's call
        ({"role": "assistant", "content": "a", "reasoning": "b"}, "assistant:a;b|"),
        ({"role": "assistant", "content": "a", "thinking": "b"}, "assistant:a;b|"),
        ({"role": "assistant", "content": "a", "reasoning_content": None, "thinking": "b"}, "assistant:a;b|"),
        ({"role": "assistant", "content": "a", "reasoning_content": "b", "thinking": "c"}, "assistant:a;b|"),
    ],
)
def test_messages_as_transformers_5_gives_them(message, text):
    assert render(PLAIN, [message], {}) == text


def test_a_message_of_parts_goes_on_after_its_last_text():
    template = "{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}end"
    messages = [{"role": "user", "content": [{"text": "one"}, {"type": "image"}, {"text": "two"}]}]
    assert up_to_last(render(template, messages, {}), messages) == "<one><><two"
