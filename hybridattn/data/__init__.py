"""Text in: tokens and the windows of them, tokenizers, texts and teachers that can be downloaded."""

from typing import TYPE_CHECKING

from ..lazy import contents, face

__all__ = ["TokenData", "Tokenizer", "load_text"]

if TYPE_CHECKING:
    from .text_files import load_text as load_text
    from .tokenizer import Tokenizer as Tokenizer
    from .tokens import TokenData as TokenData
else:
    __getattr__ = face(__name__, {"TokenData": "tokens", "Tokenizer": "tokenizer", "load_text": "text_files"})

__dir__ = contents(__name__)
