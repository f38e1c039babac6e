"""Text to token ids and back: a thin wrapper of `tokenizers.Tokenizer` that knows its special tokens."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from ..errors import DataError
from ..files import atomic_write
from ..formats.gguf_header import open_header
from ..formats.gguf_tokenizer import tokenizer_parts
from ..reading import one_line, raised_by_library
from .stream import StreamDecoder
from .tokenizer_classes import PLAIN, SPECIAL
from .tokenizer_folder import LEFTOVERS, TEMPLATES, read_folder
from .tokenizer_json import to_json
from .tokenizer_settings import content_of

_FOREIGN = ("chat_template", "auto_map")  # what a Tokenizer has itself, and code that is not saved with it


class Tokenizer:
    """A tokenizer with the ids of its special tokens.

    chat_template: the model's own template text, or several by name, of which "default" is the usual one.
    settings: its tokenizer_config.json, which `save` writes again. model: see `tokenizer_json.sparse_model`.
    Make one with `from_folder` or `from_gguf`.
    """

    def __init__(
        self,
        core: tokenizers.Tokenizer,
        *,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        chat_template: str | Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
    ) -> None:
        core.no_truncation()  # a tokenizer.json may carry settings of some training script
        core.no_padding()
        self.core = core
        self._vocab_size = max(core.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.bos_token_id = self._known("bos_token_id", bos_token_id)
        self.eos_token_id = self._known("eos_token_id", eos_token_id)
        self.chat_templates = (
            {"default": chat_template} if isinstance(chat_template, str) else dict(chat_template or {})
        )
        self.settings = {key: value for key, value in (settings or {}).items() if key not in _FOREIGN}
        self._model = model

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> Tokenizer:
        """The tokenizer of a model folder: tokenizer.json, or else vocab.json and merges.txt or vocab.txt,
        with what tokenizer_config.json, special_tokens_map.json, added_tokens.json and chat templates add.

        Special tokens that these files do not name are those of config.json. Raises DataError that names the
        file.
        """
        path = Path(folder)
        found = read_folder(path)
        try:
            return cls(
                found.core,
                **found.special,
                chat_template=found.templates,
                settings=found.settings,
                model=found.model,
            )
        except DataError as error:
            raise DataError(f"{path / 'tokenizer.json'}: {error}") from None

    @property
    def chat_template(self) -> str | None:
        """The usual chat template, or None."""
        return self.chat_templates.get("default")

    @chat_template.setter
    def chat_template(self, template: str | None) -> None:
        self.chat_templates.pop("default", None)
        if template is not None:
            self.chat_templates["default"] = template

    @classmethod
    def from_gguf(cls, path: str | os.PathLike[str]) -> Tokenizer | None:
        """Rebuild the tokenizer from a GGUF file's tokens and merges or scores; None where the file says that
        it has none. DataError names the file.
        """
        header = open_header(path)
        header.mapped.close()
        try:
            found = tokenizer_parts(header.metadata)
            return None if found is None else cls(found[0], **found[1])
        except DataError as error:
            raise type(error)(f"{path}: {error}") from None

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included. A model's vocabulary may be padded to more."""
        return self._vocab_size

    def token_to_id(self, token: str) -> int | None:
        """The id of one token, or None."""
        return self.core.token_to_id(token)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids; add_special_tokens: with what the tokenizer puts around a text (Llama 3: bos before). A
        text that begins with the beginning-of-text token, as chat templates make them, gets no second one.
        """
        return self.encode_batch([text], add_special_tokens)[0]

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[int]]:
        """`encode` of many texts, on all cores."""
        return [self._once(e) for e in self._encodings(texts, add_special_tokens)]

    def encode_open(self, text: str) -> list[int]:
        """`encode` of a text that goes on: without what the tokenizer puts after a whole text (`</s>`)."""
        (encoding,) = self._encodings([text], True)
        added = encoding.special_tokens_mask
        behind = next((i for i, mark in enumerate(reversed(added)) if not mark), len(added))
        ids = self._once(encoding)
        return ids[: len(ids) - behind]

    def _encodings(self, texts: Sequence[str], add_special_tokens: bool) -> list[tokenizers.Encoding]:
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"text {i} is {text!r:.80}; allowed: a text")
        try:
            if len(texts) == 1:  # on this thread: a process that has used others cannot fork safely
                return [self.core.encode(texts[0], add_special_tokens=add_special_tokens)]
            return self.core.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        except BaseException as error:  # UnicodeEncodeError, or what the library raises in its place
            if not raised_by_library(error):
                raise
            bad = next((i for i, text in enumerate(texts) if not _utf8(text)), None)
            if bad is not None:
                raise DataError(
                    f"text {bad} is {texts[bad]!r:.80}, with half of a surrogate pair; allowed: UTF-8 text"
                ) from None
            raise DataError(f"the tokenizer cannot encode a text: {one_line(error)}") from None

    def _once(self, encoding: tokenizers.Encoding) -> list[int]:
        """The ids without a beginning-of-text token that was added before the text's own."""
        ids, added = encoding.ids, encoding.special_tokens_mask
        twice = len(ids) > 1 and ids[0] == ids[1] == self.bos_token_id and added[0] and not added[1]
        return ids[1:] if twice else ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """The text of ids. Bytes that are no character become U+FFFD, ids past the vocabulary nothing."""
        try:
            numbers = [operator.index(i) for i in ids]
        except TypeError:
            raise DataError(f"ids is {ids!r:.80}; allowed: token ids") from None
        if any(not 0 <= number < 1 << 32 for number in numbers):
            raise DataError(
                f"token ids go from {min(numbers)} to {max(numbers)}; allowed: 0 to {self.vocab_size - 1}"
            )
        try:
            return self.core.decode(numbers, skip_special_tokens=skip_special_tokens)
        except BaseException as error:
            if not raised_by_library(error):
                raise
            raise DataError(f"the tokenizer cannot decode ids: {one_line(error)}") from None

    def stream(self, skip_special_tokens: bool = True, after: Sequence[int] = ()) -> StreamDecoder:
        """A decoder for tokens that come one at a time, as they are read behind the tokens `after`."""
        return StreamDecoder(self, skip_special_tokens, after)

    def special_texts(self) -> frozenset[str]:
        """The texts of all tokens that `decode` leaves out."""
        return frozenset(t.content for t in self.core.get_added_tokens_decoder().values() if t.special)

    def save(self, folder: str | os.PathLike[str], plain: bool = False) -> None:
        """Write tokenizer.json and tokenizer_config.json, which `from_folder` and `transformers` read. Files
        of another tokenizer that would be read beside them are taken away.

        plain: name no class of tokenizers, so that transformers 5 takes the pipeline of tokenizer.json as it
        is; for GPT2Tokenizer and others it puts that of the class in its place.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "clean_up_tokenization_spaces": False,
            "tokenizer_class": PLAIN,
            **self.settings,
            **({"tokenizer_class": PLAIN} if plain else {}),
        }
        # where this is not said, transformers 4 gives token types, and transformers 5 gives none
        segments = isinstance(self.core.model, tokenizers.models.WordPiece)
        if settings["tokenizer_class"] == PLAIN and not (segments and "tokenizer_class" in self.settings):
            inputs = ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]
            settings.setdefault("model_input_names", inputs)
        for kind, number in (("bos_token", self.bos_token_id), ("eos_token", self.eos_token_id)):
            text = None if number is None else self.core.id_to_token(number)
            if text is not None and content_of(kind, settings.get(kind)) != text:
                settings[kind] = text
        if self.chat_templates:
            settings["chat_template"] = (
                self.chat_templates["default"]
                if list(self.chat_templates) == ["default"]
                else [{"name": name, "template": text} for name, text in self.chat_templates.items()]
            )
        atomic_write(folder / "tokenizer.json", to_json(self.core, self._model))
        atomic_write(
            folder / "tokenizer_config.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        )
        remove_leftovers(folder)

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        *,
        template: str | None = None,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """The prompt text of a conversation, [{"role": .., "content": ..}, ..], as the model's chat template
        says. It often begins with the beginning-of-text token, which `encode` does not put there again.

        template: the name of one of several (default: "tool_use" beside tools, else "default"), or a
        template's text. continue_final_message: end with what the last message says, to go on with it.
        variables: what the template may ask for, such as tools, documents or
        enable_thinking. Raises DataError for a model without a template, and for what the template refuses.
        """
        from .chat import render, up_to_last  # slow: jinja2, 0.07 s for those who use no template

        special = {
            name: text for name in SPECIAL if (text := content_of(name, self.settings.get(name))) is not None
        }
        for name, number in (("bos_token", self.bos_token_id), ("eos_token", self.eos_token_id)):
            if number is not None:
                special.setdefault(name, self.core.id_to_token(number) or "")
        given = {"tools": None, "documents": None, **special, **variables}
        chosen = self._template(template, given["tools"] is not None)
        text = render(chosen, messages, {**given, "add_generation_prompt": add_generation_prompt})
        return up_to_last(text, messages) if continue_final_message else text

    def _template(self, name: str | None, tools: bool) -> str:
        """A template by its name or text."""
        found = self.chat_templates
        if name is None:
            name = "tool_use" if tools and "tool_use" in found else "default"
        if name in found:
            return found[name]
        if "{" in name:
            return name
        raise DataError(
            f"chat template {name!r} is not among the model's; allowed: {', '.join(found) or 'none here'}"
        )

    def _known(self, name: str, number: int | None) -> int | None:
        if number is not None and not 0 <= number < self._vocab_size:
            raise DataError(f"{name} is {number}; allowed: 0 to {self.vocab_size - 1}")
        return number


def remove_leftovers(folder: Path) -> None:
    """Take away files of another tokenizer that would be read beside tokenizer.json."""
    for name in LEFTOVERS:
        (folder / name).unlink(missing_ok=True)
    templates = folder / TEMPLATES
    for file in templates.glob("*.jinja"):
        file.unlink()
    if templates.is_dir() and not any(templates.iterdir()):
        templates.rmdir()


def _utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
