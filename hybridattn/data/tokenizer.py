"""Text to token ids and back: a thin wrapper of `tokenizers.Tokenizer` that knows its special tokens."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from ..errors import DataError
from ..files import atomic_write

# what a Tokenizer has itself, and code that is not saved with it
_OWN = {"bos_token", "eos_token", "chat_template", "auto_map"}
_REPLACEMENT = "\ufffd"  # what a decoder gives for bytes that are not (yet) a character


class Tokenizer:
    """A tokenizer with the ids of its special tokens.

    chat_template: the model's own template text, or None. settings: the rest of its tokenizer_config.json,
    which `save` writes again. Make one with `from_folder` or `from_gguf`.
    """

    def __init__(
        self,
        core: tokenizers.Tokenizer,
        *,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        chat_template: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        core.no_truncation()  # a tokenizer.json may carry settings of some training script
        core.no_padding()
        self.core = core
        self._vocab_size = max(core.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.bos_token_id = self._known("bos_token_id", bos_token_id)
        self.eos_token_id = self._known("eos_token_id", eos_token_id)
        self.chat_template = chat_template
        self.settings = dict(settings or {})

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> Tokenizer:
        """Read `tokenizer.json`, and the special tokens from `tokenizer_config.json` or else `config.json`.

        Raises DataError that names the file.
        """
        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise DataError(f"{path}: not found; a model folder needs its tokenizer as tokenizer.json")
        try:
            core = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise DataError(f"{path}: not a tokenizer: {_one_line(error)}") from None
        settings, model = (
            _read_json(path.with_name("tokenizer_config.json")),
            _read_json(path.with_name("config.json")),
        )

        def special(kind: str) -> int | None:
            token = settings.get(f"{kind}_token")
            text = token.get("content") if isinstance(token, dict) else token
            if text is not None:
                return core.token_to_id(text)
            number = model.get(f"{kind}_token_id")
            return (
                number[0]
                if isinstance(number, list) and number
                else number
                if isinstance(number, int)
                else None
            )

        template = settings.get("chat_template")
        if path.with_name("chat_template.jinja").is_file():
            template = path.with_name("chat_template.jinja").read_text(encoding="utf-8")
        try:
            return cls(
                core,
                bos_token_id=special("bos"),
                eos_token_id=special("eos"),
                chat_template=template if isinstance(template, str) else None,
                settings={key: value for key, value in settings.items() if key not in _OWN},
            )
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    @classmethod
    def from_gguf(cls, path: str | os.PathLike[str]) -> Tokenizer | None:
        """Rebuild the tokenizer from a GGUF file's tokens and merges or scores; None where the file says that
        it has none. DataError names the file.
        """
        from ..formats.gguf_header import open_header
        from ..formats.gguf_tokenizer import tokenizer_parts

        header = open_header(path)
        header.mapped.close()
        try:
            found = tokenizer_parts(header.metadata)
            return None if found is None else cls(found[0], **found[1])
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included. A model's vocabulary may be padded to more."""
        return self._vocab_size

    def token_to_id(self, token: str) -> int | None:
        """The id of one token, or None."""
        return self.core.token_to_id(token)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids; add_special_tokens: with what the tokenizer puts around a text (Llama 3: bos before)."""
        return self.core.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[int]]:
        """`encode` of many texts, on all cores."""
        return [e.ids for e in self.core.encode_batch(list(texts), add_special_tokens=add_special_tokens)]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """The text of ids. Bytes that are no character become U+FFFD, ids past the vocabulary nothing."""
        numbers = [int(i) for i in ids]
        if any(not 0 <= number < 1 << 32 for number in numbers):
            raise DataError(
                f"token ids go from {min(numbers)} to {max(numbers)}; allowed: 0 to {self.vocab_size - 1}"
            )
        return self.core.decode(numbers, skip_special_tokens=skip_special_tokens)

    def stream(self, skip_special_tokens: bool = True) -> StreamDecoder:
        """A decoder for tokens that come one at a time."""
        return StreamDecoder(self, skip_special_tokens)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write tokenizer.json and tokenizer_config.json, which `from_folder` and `transformers` read."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "clean_up_tokenization_spaces": False,
            **self.settings,
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
        for kind, number in (("bos_token", self.bos_token_id), ("eos_token", self.eos_token_id)):
            if number is not None:
                settings[kind] = self.core.id_to_token(number)
        if self.chat_template is not None:
            settings["chat_template"] = self.chat_template
        atomic_write(folder / "tokenizer.json", self.core.to_str(pretty=True))
        atomic_write(
            folder / "tokenizer_config.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        )

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The prompt text of a conversation, [{"role": .., "content": ..}, ..], for models that use ChatML.

        A template that names a default system message gives it when the first message is not a system
        message. Raises DataError for a model without a ChatML template.
        """
        template = self.chat_template or ""
        if "<|im_start|>" not in template or "<|im_end|>" not in template:
            raise DataError(
                f"chat template is {template[:40]!r}; allowed: ChatML (<|im_start|> and <|im_end|>)"
            )
        for message in messages:
            if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
                raise DataError(f"chat message is {dict(message)!r}; allowed: text for role and for content")
        default = re.search(r"<\|im_start\|>system(?:\n|\\n)([^'\"{}]+?)<\|im_end\|>", template)
        turns = [(message["role"], message["content"]) for message in messages]
        if default and (not turns or turns[0][0] != "system"):
            turns.insert(0, ("system", default[1]))
        text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
        return text + ("<|im_start|>assistant\n" if add_generation_prompt else "")

    def _known(self, name: str, number: int | None) -> int | None:
        if number is not None and not 0 <= number < self._vocab_size:
            raise DataError(f"{name} is {number}; allowed: 0 to {self.vocab_size - 1}")
        return number


class StreamDecoder:
    """Decodes tokens one at a time. The pieces make up the text, and none ends inside a character.

    A few tokens are kept and decoded again with the new one, since a character's bytes may be spread over
    tokens and some decoders treat the first token of a text in its own way.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._ids: list[int] = []
        self._shown = 0  # how many of _ids have been given out already

    def put(self, token_id: int) -> str:
        """The text that this token completes, often empty within a character of several bytes."""
        self._ids.append(int(token_id))
        before, text = self._decode(self._ids[: self._shown]), self._decode(self._ids)
        if text.endswith(_REPLACEMENT) or not text.startswith(before):
            return ""
        # only the tokens of the last piece matter from here on
        del self._ids[: self._shown]
        self._shown = len(self._ids)
        return text[len(before) :]

    def finish(self) -> str:
        """The rest: bytes that never became a character, as U+FFFD. Then the decoder is as new."""
        before, text = self._decode(self._ids[: self._shown]), self._decode(self._ids)
        self._ids, self._shown = [], 0
        return text[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, self._skip)


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when there is no such file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}; allowed: an object")
    return value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
