"""A conversation with a model, in the words of its chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from .._core import Cache
from ..errors import ConfigError, DataError
from .base import tokenizer_of
from .generate import OptionKeywords, Options, check_room, stream
from .prefill import prefill

if TYPE_CHECKING:
    from .base import BaseModel


class Chat:
    """Turns of a user and a model. `messages` holds what was said, as objects with role and content.

    Each turn renders the whole conversation through the tokenizer's template and reads what is new of it:
    what the cache holds already is kept where it is the beginning of the new prompt. system: a first message
    of that role. template: its name or text, see `Tokenizer.apply_chat_template`; variables go to it.
    DataError for a model without tokenizer or template.
    """

    def __init__(
        self, model: BaseModel, system: str | None = None, template: str | None = None, **variables: Any
    ) -> None:
        self.model, self.tokenizer = model, tokenizer_of(model)
        if template is None and not self.tokenizer.chat_templates:
            raise DataError("the model's tokenizer has no chat template; give the text of one as template")
        self.messages: list[dict[str, Any]] = (
            [] if system is None else [{"role": "system", "content": system}]
        )
        self._template, self._variables = template, variables
        self._cache: Cache | None = None
        self._read: list[int] = []  # what the cache holds

    def tokens(self, messages: list[dict[str, Any]] | None = None) -> list[int]:
        """The prompt of a conversation (default: of this one) as token ids: the template's text and nothing
        beside it, as transformers encodes it.
        """
        text = self.tokenizer.apply_chat_template(
            self.messages if messages is None else messages, template=self._template, **self._variables
        )
        return self.tokenizer.encode(text, add_special_tokens=False)

    def stream(self, text: str, **options: Unpack[OptionKeywords]) -> Iterator[str]:
        """The answer to `text`, in pieces as it is made; options as in `generate`. What was said so far joins
        `messages` when the iterator ends, also before its time.
        """
        said = [*self.messages, {"role": "user", "content": text}]
        ids = self.tokens(said)
        chosen: Mapping[str, Any] = options
        settings = Options(**chosen)
        if settings.cache is not None or settings.softmax_layers is not None:
            raise ConfigError("cache or softmax_layers is given; allowed in a chat: neither, it has a cache")
        check_room(self.model, len(ids), settings)
        cache = self._cache_of(ids[:-1], settings)
        pieces: list[str] = []
        made = stream(self.model, ids[-1:], **{**chosen, "cache": cache})

        def answer() -> Iterator[str]:
            try:
                for piece in made:
                    pieces.append(piece)
                    yield piece
            finally:
                self.messages = [*said, {"role": "assistant", "content": "".join(pieces)}]

        return answer()

    def say(self, text: str, **options: Unpack[OptionKeywords]) -> str:
        """The whole answer to `text`."""
        return "".join(self.stream(text, **options))

    def _cache_of(self, ids: list[int], settings: Options) -> Cache:
        """The cache after these tokens: what it has not read of them is read."""
        kept = self._cache is not None and ids[: len(self._read)] == self._read
        if not kept:
            self._cache, self._read = self.model.cache(dtype=settings.cache_dtype), []
        cache, new = self._cache, ids[len(self._read) :]
        assert cache is not None
        if new:
            self._cache = None  # a pass that is stopped leaves it in between
            prefill(self.model, [new], cache, settings.prefill_chunk)
            self._cache, self._read = cache, ids
        return cache
