"""The diagnostics by name."""

from __future__ import annotations

from types import ModuleType

from ..checks import refuse
from ..data.tokens import Encoder
from ..signatures import renamed
from . import (
    associative_recall,
    common_words,
    frequent_words,
    multi_hop,
    needle,
    needle_multi_key,
    needle_multi_value,
    phone_book,
    variable_tracking,
)
from .frame import Diagnostic, build

_MODULES: dict[str, ModuleType] = {
    "associative_recall": associative_recall,
    "multi_hop": multi_hop,
    "variable_tracking": variable_tracking,
    "common_words": common_words,
    "frequent_words": frequent_words,
    "phone_book": phone_book,
    "needle": needle,
    "needle_multi_key": needle_multi_key,
    "needle_multi_value": needle_multi_value,
}
KINDS: dict[str, str] = {name: module.LINE for name, module in _MODULES.items()}


@renamed(task="kind")
def make(kind: str, tokenizer: Encoder, n: int, seq_len: int, seed: int = 0) -> Diagnostic:
    """`n` examples of a kind of KINDS, each as large as fits `seq_len` tokens. The same seed gives the same
    examples. Raises ConfigError, DataError.
    """
    if kind not in KINDS:
        raise refuse("kind", kind, ", ".join(KINDS))
    return build(kind, _MODULES[kind].example, tokenizer, n, seq_len, seed)
