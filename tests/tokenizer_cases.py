"""Small tokenizers of every kind, and folders around them that say something beside tokenizer.json."""

import json
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXT = ["the moon is a stone that goes round the earth", "a mill has a wheel and the water turns it"] * 4
TEXTS = (
    "the moon",
    " The  Moon",
    "caf\u00e9 wheel\n",
    "<|im_start|>user",
    "a<mask> b",
    "\u6f22\u5b57 a",
    "</s>the<s> a",
    "",
)
EOT = "<|endoftext|>"


def byte_level(vocab: int = 300, special: tuple[str, ...] = (EOT,), **options: Any) -> Tokenizer:
    """GPT-2's kind."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXT, trainer)
    if options.get("qwen"):
        core.normalizer = normalizers.NFC()
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(" ", "merged_with_next"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    return core


def roberta() -> Tokenizer:
    """RoBERTa's kind, with a mask token that takes the space before it."""
    core = byte_level(300, ("<s>", "<pad>", "</s>", "<unk>"))
    core.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return core


def word_piece(lowercase: bool = True) -> Tokenizer:
    """BERT's kind, with letters of both cases and with accents in its vocabulary."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "moon", "The", "Moon", "caf\u00e9", "cafe"]
    words += ["wheel", "a", "b", "\u6f22", "\u5b57", "\u6f22\u5b57", "<", ">", "/", "s", "user", "mask"]
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer, core.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return core


def sentence_piece(template: str | None = "<s> $A", vocab: int = 330) -> Tokenizer:
    """Llama 2's kind: a space before every text, bytes where nothing else fits."""
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    core.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=vocab, special_tokens=special, show_progress=False)
    )
    content = json.loads(core.to_str())
    content["pre_tokenizer"] = None
    content["added_tokens"] = content["added_tokens"][:3]
    content["decoder"] = json.loads(
        decoders.Sequence(
            [
                decoders.Replace("\u2581", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        ).__getstate__()
    )
    core = Tokenizer.from_str(json.dumps(content))
    if template is not None:
        core.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return core


def unigram() -> Tokenizer:
    """T5's and XLM-R's kind: a vocabulary with scores, a mark for every space."""
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    core.train_from_iterator(TEXT, trainer)
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return core


def metaspace(scheme: str = "first") -> Tokenizer:
    """Llama 2's kind as newer converters write it: the space's mark by the pre-tokenizer."""
    core = sentence_piece()
    core.normalizer = None
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    core.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme, split=False)]
    )
    return core


def padded(core: Tokenizer) -> Tokenizer:
    """With the padding and truncation of some training script."""
    core.enable_padding(length=64, pad_id=0, pad_token="moon")
    core.enable_truncation(max_length=4)
    return core


def write(folder: Path, core: Tokenizer | None, **files: Any) -> Path:
    """A folder with tokenizer.json and `files` (a__b is a.b), as JSON unless they are text."""
    folder.mkdir(parents=True, exist_ok=True)
    if core is not None:
        core.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def row(content: str, **flags: bool) -> dict[str, Any]:
    """A token as added_tokens_decoder has it."""
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {"content": content, **plain, **flags}


def _vocabulary(core: Tokenizer) -> dict[str, Any]:
    """vocab.json and merges.txt of a BPE tokenizer."""
    model = json.loads(core.to_str())["model"]
    merges = "#version: 0.2\n" + "".join(
        (merge if isinstance(merge, str) else " ".join(merge)) + "\n" for merge in model["merges"]
    )
    return {"vocab__json": model["vocab"], "merges__txt": merges}


def _bert(settings: dict[str, Any], lowercase: bool = True, kind: str = "bert") -> tuple[Any, dict[str, Any]]:
    named = {"tokenizer_class": "BertTokenizer", **settings}
    return (lambda: word_piece(lowercase)), {
        "tokenizer_config__json": named,
        "config__json": {"model_type": kind},
    }


def _gpt(
    kind: str, core: Any = byte_level, model: str = "gpt2", **settings: Any
) -> tuple[Any, dict[str, Any]]:
    return core, {
        "tokenizer_config__json": {"tokenizer_class": kind, **settings},
        "config__json": {"model_type": model},
    }


N = byte_level().get_vocab_size()
IM = {str(N): row("<|im_start|>"), str(N + 1): row("<|im_end|>")}
WORDS = word_piece().get_vocab_size()
VOCAB_TXT = "".join(
    f"{word}\n"
    for word, _ in sorted(word_piece().get_vocab(with_added_tokens=False).items(), key=lambda item: item[1])
)

# name: (tokenizer of tokenizer.json or None, the other files)
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": _bert({}),
    "bert cased": _bert({"do_lower_case": False}),
    "bert, file cased, class lowers": _bert({}, lowercase=False),
    "bert keeps accents": _bert({"strip_accents": False}),
    "bert strips accents of cased": _bert({"strip_accents": True, "do_lower_case": False}),
    "bert keeps chinese words": _bert({"tokenize_chinese_chars": False}),
    "bert, fast class": _bert({"tokenizer_class": "BertTokenizerFast", "do_lower_case": False}),
    "bert, class by model_type": (
        word_piece,
        {"tokenizer_config__json": {"do_lower_case": False}, "config__json": {"model_type": "bert"}},
    ),
    "distilbert cased": _bert(
        {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": False}, kind="distilbert"
    ),
    "plain class ignores do_lower_case": _bert(
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False, "unk_token": "[UNK]"}
    ),
    "gpt2": _gpt("GPT2Tokenizer"),
    "gpt2 prefix space": _gpt("GPT2Tokenizer", add_prefix_space=True),
    "gpt2 fast prefix space": _gpt("GPT2TokenizerFast", add_prefix_space=True),
    "gpt2, file with prefix space": _gpt(
        "GPT2Tokenizer", core=lambda: _with_space(byte_level()), eos_token=EOT, bos_token=EOT
    ),
    "gpt2 with another eos": _gpt("GPT2Tokenizer", eos_token="<|end|>"),
    "gpt_neox prefix space": _gpt("GPTNeoXTokenizer", model="gpt_neox", add_prefix_space=True),
    "roberta": _gpt("RobertaTokenizer", core=roberta, model="roberta"),
    "roberta prefix space": _gpt("RobertaTokenizer", core=roberta, model="roberta", add_prefix_space=True),
    "roberta mask of the settings": _gpt(
        "RobertaTokenizer",
        core=roberta,
        model="roberta",
        added_tokens_decoder={
            **{str(i): row(t) for i, t in enumerate(("<s>", "<pad>", "</s>", "<unk>"))},
            str(roberta().token_to_id("<mask>")): row("<mask>", lstrip=True, rstrip=True),
        },
    ),
    "qwen2 added tokens": _gpt(
        "Qwen2Tokenizer", model="qwen2", eos_token="<|im_end|>", added_tokens_decoder={"0": row(EOT), **IM}
    ),
    "plain added tokens": _gpt(
        "PreTrainedTokenizerFast",
        model="llama",
        eos_token="<|im_end|>",
        bos_token=EOT,
        added_tokens_decoder={"0": row(EOT), **IM},
    ),
    "plain added token that is not special": _gpt(
        "PreTrainedTokenizerFast",
        model="llama",
        added_tokens_decoder={"0": row(EOT), str(N): row("<|im_start|>", special=False)},
    ),
    "added_tokens.json": (
        byte_level,
        {
            "tokenizer_config__json": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": "<|im_end|>",
            },
            "added_tokens__json": {"<|im_start|>": N, "<|im_end|>": N + 1},
            "config__json": {"model_type": "llama"},
        },
    ),
    "special_tokens_map.json": (
        byte_level,
        {
            "tokenizer_config__json": {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOT},
            "special_tokens_map__json": {
                "eos_token": "<|im_end|>",
                "pad_token": {"content": EOT, "lstrip": False},
                "additional_special_tokens": ["<|im_start|>"],
            },
            "added_tokens__json": {"<|im_start|>": N, "<|im_end|>": N + 1},
            "config__json": {"model_type": "llama"},
        },
    ),
    "special_tokens_map.json, tokens as objects": (
        byte_level,
        {
            "tokenizer_config__json": {"tokenizer_class": "PreTrainedTokenizerFast"},
            "special_tokens_map__json": {"eos_token": row("<|im_end|>"), "bos_token": row("<|im_start|>")},
            "config__json": {"model_type": "llama"},
        },
    ),
    "special_tokens_map.json beside added_tokens_decoder": (
        byte_level,
        {
            "tokenizer_config__json": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": EOT,
                "added_tokens_decoder": {"0": row(EOT)},
            },
            "special_tokens_map__json": {"eos_token": "<|im_end|>"},
            "config__json": {"model_type": "llama"},
        },
    ),
    "additional special tokens": _gpt(
        "PreTrainedTokenizerFast", model="llama", additional_special_tokens=["<|im_start|>", "<|im_end|>"]
    ),
    "extra special tokens": _gpt(
        "PreTrainedTokenizerFast", model="llama", extra_special_tokens=["<|im_start|>"]
    ),
    "eos that no file numbers": _gpt("PreTrainedTokenizerFast", model="llama", eos_token="<|eot_id|>"),
    "special token of the vocabulary": _gpt(
        "PreTrainedTokenizerFast", model="llama", eos_token="\u0120the", bos_token=EOT
    ),
    "split special tokens": _gpt(
        "PreTrainedTokenizerFast", model="llama", eos_token=EOT, split_special_tokens=True
    ),
    "llama": _gpt("PreTrainedTokenizerFast", core=sentence_piece, model="llama", bos_token="<s>"),
    "llama with eos": _gpt(
        "PreTrainedTokenizerFast",
        core=lambda: sentence_piece("<s> $A </s>"),
        model="llama",
        bos_token="<s>",
        eos_token="</s>",
    ),
    "llama, add_bos_token false beside tokenizer.json": _gpt(
        "PreTrainedTokenizerFast",
        core=sentence_piece,
        model="llama",
        bos_token="<s>",
        eos_token="</s>",
        add_bos_token=False,
        add_eos_token=True,
    ),
    "llama without prefix space": _gpt(
        "LlamaTokenizer", core=sentence_piece, model="llama", add_prefix_space=False
    ),
    "unigram": _gpt("PreTrainedTokenizerFast", core=unigram, model="llama", eos_token="</s>"),
    "metaspace, first": _gpt("PreTrainedTokenizerFast", core=metaspace, model="llama", bos_token="<s>"),
    "metaspace, always": _gpt(
        "PreTrainedTokenizerFast", core=lambda: metaspace("always"), model="llama", bos_token="<s>"
    ),
    "metaspace, never": _gpt(
        "PreTrainedTokenizerFast", core=lambda: metaspace("never"), model="llama", bos_token="<s>"
    ),
    "padding and truncation in tokenizer.json": _gpt(
        "PreTrainedTokenizerFast", core=lambda: padded(byte_level()), model="llama", eos_token=EOT
    ),
    "padding and truncation in BERT's tokenizer.json": (
        lambda: padded(word_piece()),
        {
            "tokenizer_config__json": {"tokenizer_class": "BertTokenizer"},
            "config__json": {"model_type": "bert"},
        },
    ),
    "model_max_length without a limit": _gpt(
        "PreTrainedTokenizerFast",
        model="llama",
        eos_token=EOT,
        model_max_length=1000000000000000019884624838656,
    ),
    "model_max_length 3": _gpt("PreTrainedTokenizerFast", model="llama", eos_token=EOT, model_max_length=3),
    "sides and clean-up": _gpt(
        "PreTrainedTokenizerFast",
        model="llama",
        padding_side="left",
        truncation_side="left",
        clean_up_tokenization_spaces=True,
        legacy=False,
    ),
    "special tokens that take spaces": _gpt(
        "PreTrainedTokenizerFast",
        model="llama",
        added_tokens_decoder={
            "0": row(EOT),
            str(N): row("<|im_start|>", rstrip=True),
            str(N + 1): row("<mask>", lstrip=True, rstrip=True),
        },
    ),
    "added words that are normalized, or stand alone": (
        word_piece,
        {
            "tokenizer_config__json": {
                "tokenizer_class": "BertTokenizer",
                "added_tokens_decoder": {
                    **{str(i): row(t) for i, t in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))},
                    str(WORDS): row("Wheel", normalized=True, special=False),
                    str(WORDS + 1): row("oo", single_word=True, special=False),
                },
            },
            "config__json": {"model_type": "bert"},
        },
    ),
    "vocab.txt": (
        None,
        {
            "vocab__txt": VOCAB_TXT,
            "tokenizer_config__json": {"tokenizer_class": "BertTokenizer"},
            "config__json": {"model_type": "bert"},
        },
    ),
    "vocab.txt cased": (
        None,
        {
            "vocab__txt": VOCAB_TXT,
            "tokenizer_config__json": {"do_lower_case": False},
            "config__json": {"model_type": "bert"},
        },
    ),
    "vocab.txt of distilbert": (
        None,
        {"vocab__txt": VOCAB_TXT, "config__json": {"model_type": "distilbert"}},
    ),
    "merges.txt of gpt2": (None, {**_vocabulary(byte_level()), "config__json": {"model_type": "gpt2"}}),
    "merges.txt of gpt2 with a space": (
        None,
        {
            **_vocabulary(byte_level()),
            "tokenizer_config__json": {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True},
            "config__json": {"model_type": "gpt2"},
        },
    ),
    "merges.txt of gpt2 with bos": (
        None,
        {
            **_vocabulary(byte_level()),
            "tokenizer_config__json": {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True},
            "config__json": {"model_type": "gpt2"},
        },
    ),
    "merges.txt of roberta": (
        None,
        {**_vocabulary(_filled := roberta()), "config__json": {"model_type": "roberta"}}
        | {"added_tokens__json": {"<mask>": _filled.token_to_id("<mask>")}},
    ),
    "merges.txt of qwen2": (
        None,
        {
            **_vocabulary(byte_level()),
            "tokenizer_config__json": {
                "tokenizer_class": "Qwen2Tokenizer",
                "eos_token": "<|im_end|>",
                "added_tokens_decoder": {"0": row(EOT), **IM},
            },
            "config__json": {"model_type": "qwen2"},
        },
    ),
    "merges.txt of gpt_neox": (
        None,
        {**_vocabulary(byte_level()), "config__json": {"model_type": "gpt_neox"}},
    ),
}


def _with_space(core: Tokenizer) -> Tokenizer:
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return core


def folder_of(name: str, folder: Path) -> Path:
    """The folder of a case."""
    core, files = CASES[name]
    return write(folder, None if core is None else core(), **files)
