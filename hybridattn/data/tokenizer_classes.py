"""What transformers' tokenizer classes bring with them: special tokens where a folder names none, and
settings that they apply over tokenizer.json.

Source: the classes of transformers 4.57 and 5.24.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PLAIN = "PreTrainedTokenizerFast"  # does what tokenizer.json says
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class TokenizerClass:
    """special: special tokens where a folder names none. word_piece: takes do_lower_case, strip_accents and
    tokenize_chinese_chars. byte_level: takes add_prefix_space. metaspace: takes add_prefix_space where it is
    given. normalizer, split: of a tokenizer built from vocab.json and merges.txt.
    """

    special: Mapping[str, str] = field(default_factory=dict)
    word_piece: bool = False
    byte_level: bool = False
    metaspace: bool = False
    nfc: bool = False
    split: str | None = None
    pair: tuple[str, str] | None = None  # tokens around a text that a built tokenizer adds, as RoBERTa's


_END = "<|endoftext|>"
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BERT = TokenizerClass(
    {
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    word_piece=True,
)
CLASSES: dict[str, TokenizerClass] = {
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": _BERT,
    "GPT2Tokenizer": TokenizerClass(
        {"unk_token": _END, "bos_token": _END, "eos_token": _END}, byte_level=True
    ),
    "GPTNeoXTokenizer": TokenizerClass(
        {"unk_token": _END, "bos_token": _END, "eos_token": _END}, byte_level=True, nfc=True
    ),
    "RobertaTokenizer": TokenizerClass(
        {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "cls_token": "<s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
        },
        byte_level=True,
        pair=("cls_token", "sep_token"),
    ),
    "Qwen2Tokenizer": TokenizerClass(
        {"unk_token": _END, "eos_token": _END, "pad_token": _END},
        byte_level=True,
        nfc=True,
        split=_QWEN2_SPLIT,
    ),
    "LlamaTokenizer": TokenizerClass(
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}, metaspace=True
    ),
}
# the class of a folder that names none
BY_MODEL_TYPE = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "roberta": "RobertaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
}


def class_name(settings: Mapping[str, Any], model: Mapping[str, Any]) -> str | None:
    """The class that a folder's tokenizer_config.json or else its config.json names, or is used for its
    model_type; None where neither says.
    """
    for given in (settings.get("tokenizer_class"), model.get("tokenizer_class")):
        if isinstance(given, str) and given:
            return given
    kind = model.get("base_model_type") or model.get("model_type")
    return BY_MODEL_TYPE.get(kind) if isinstance(kind, str) else None


def known_class(name: str | None) -> TokenizerClass:
    """What is known of a class; nothing of one that does what tokenizer.json says, or of a foreign one."""
    return CLASSES.get((name or "").removesuffix("Fast"), TokenizerClass())
