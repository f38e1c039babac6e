"""Text in: tokens and the windows of them, tokenizers, texts and teachers that can be downloaded."""

from typing import TYPE_CHECKING

from ..lazy import contents, face

__all__ = ["TokenData", "Tokenizer", "load_text"]

if TYPE_CHECKING:
    from .tokenizer import Tokenizer as Tokenizer
    from .tokens import TokenData as TokenData
    from .tokens import load_text as load_text
else:
    __getattr__ = face(__name__, {"TokenData": "tokens", "Tokenizer": "tokenizer", "load_text": "tokens"})

__dir__ = contents(__name__)
