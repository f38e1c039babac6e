"""Chat templates: Jinja text that comes with a tokenizer and turns a conversation into a prompt.

Rendered as transformers does it (its documentation on chat templates says what a template may use): in
Jinja's immutable sandbox, which keeps a template from reaching files or Python's internals, with blocks
trimmed, `break` and `continue`, `raise_exception`, `strftime_now`, a `tojson` that escapes no HTML, and the
`generation` tag, whose body is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from ..errors import DataError

Message = Mapping[str, Any]


def render(template: str, messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
    """The prompt text of a conversation. DataError for a template that is wrong, or that refuses it."""
    if not messages or not all(isinstance(message, Mapping) for message in messages):
        raise DataError(f"messages is {messages!r:.200}; allowed: one or more objects with role and content")
    try:
        return _compiled(template).render(messages=[_plain(message) for message in messages], **variables)
    except jinja2.TemplateSyntaxError as error:
        raise DataError(f"chat template, line {error.lineno}: {_one_line(error)}") from None
    except Exception as error:  # a template is a program: it may fail in any way, or refuse the messages
        raise DataError(f"chat template: {_one_line(error)}") from None


def up_to_last(text: str, messages: Sequence[Message]) -> str:
    """A rendered conversation up to the end of what its last message says. DataError where that cannot be
    found in it.
    """
    content = messages[-1].get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):  # parts: the last text among them
        parts = (part.get("text") for part in reversed(content) if isinstance(part, Mapping))
        content = next((text for text in parts if isinstance(text, str)), None)
    at = text.rfind(content.strip()) if isinstance(content, str) and content.strip() else -1
    if at < 0:
        raise DataError(
            f"last message is {dict(messages[-1])!r:.120}; allowed: a text that the template shows"
        )
    said = str(content).lstrip()  # white space behind it stays where the template kept it
    return text[:at] + (said if text.startswith(said, at) else said.rstrip())


def _plain(message: Message) -> dict[str, Any]:
    """A message without keys that are None, which templates would write out as "None", and with the reasoning
    under all names that templates know; as transformers 5 does it.
    """
    given = {key: value for key, value in message.items() if value is not None}
    thought = next(
        (given[name] for name in ("reasoning_content", "thinking", "reasoning") if name in given), None
    )
    return given if thought is None else {"thinking": thought, **given, "reasoning_content": thought}


class _Generation(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %} marks what the assistant says; the text stays as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    return environment.from_string(template)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
