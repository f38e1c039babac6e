"""A tokenizer as the keys of a GGUF file: tokens, merges or scores, types, and the rule that splits text.

llama.cpp knows rules by name only (`tokenizer.ggml.pre`). The name is found by what the tokenizer does: that
of the first rule that splits a text full of edge cases as the tokenizer splits it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..formats.gguf_tokenizer import PRE_TOKENIZERS

if TYPE_CHECKING:
    from ..data.tokenizer import Tokenizer
    from ..model.model import Model

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE = "\u2581"  # SentencePiece's
_EDGES = (
    "Hello world, it's 3.14159 or 12345678!  Two  spaces\n\n\nnew\tline\r\n x=y+z; don't WE'LL I'M "
    "na\u00efve \u00fcber \u0e01\u0e33\u0e25\u0e31\u0e07 \u4f60\u597d\u4e16\u754c 2024\u5e74 \u0301a\u0301 "
    '\U0001f680\U0001f469\u200d\U0001f4bb $5 <b>&amp;</b> \\n "quoted" (a)[b]{c} '
    "___ ... \u2014 '' 'S 1st 2nd \u00bd \u0662\u0663  \n  end "
)


def misfit(model: Model) -> str | None:
    """Why llama.cpp would split text in another way than the model's tokenizer; None where it would not."""
    if model.tokenizer is None:
        return None
    state = _state(model.tokenizer)
    if state["model"]["type"] != "BPE":
        return f"its tokenizer is {state['model']['type']}; allowed: BPE"
    if model.tokenizer.vocab_size > model.model_config.vocab_size:
        return (
            f"its tokenizer has {model.tokenizer.vocab_size} tokens; allowed: at most vocab_size "
            f"({model.model_config.vocab_size})"
        )
    if not state["model"]["merges"]:
        return "its tokenizer has no merges, without which llama.cpp opens no file"
    if not _sentencepiece(state) and _rule(model.tokenizer, state) is None:
        return f"its tokenizer splits text by a rule that is none of {', '.join(PRE_TOKENIZERS)}"
    return None


def keys(model: Model) -> dict[str, Any]:
    """The `tokenizer.*` keys. A model without a tokenizer gets the kind `none`."""
    prefix = "tokenizer.ggml."
    tokenizer, config = model.tokenizer, model.model_config
    if tokenizer is None:
        return {f"{prefix}model": "none", **_ids(prefix, config.bos_token_id, config.eos_token_ids)}
    state = _state(tokenizer)
    tokens, types = _tokens(tokenizer, state, config.vocab_size)
    out: dict[str, Any] = {f"{prefix}tokens": tokens, f"{prefix}token_type": types}
    if _sentencepiece(state):
        out |= {
            f"{prefix}model": "llama",
            f"{prefix}pre": "default",
            f"{prefix}scores": _scores(state, tokens),
            f"{prefix}add_space_prefix": _decoded_pieces(tokenizer)[:1] == [SPACE],
        }
        if state["model"].get("unk_token") is not None:
            out[f"{prefix}unknown_token_id"] = tokens.index(state["model"]["unk_token"])
    else:
        out |= {
            f"{prefix}model": "gpt2",
            f"{prefix}pre": _rule(tokenizer, state),
            f"{prefix}merges": _merges(state),
        }
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else config.bos_token_id
    ends = dict.fromkeys(i for i in (tokenizer.eos_token_id, *config.eos_token_ids) if i is not None)
    out |= _ids(prefix, bos, tuple(ends))
    around = tokenizer.encode("a", add_special_tokens=True)
    out[f"{prefix}add_bos_token"] = bos is not None and around[:1] == [bos]
    out[f"{prefix}add_eos_token"] = bool(ends) and around[-1:] == [next(iter(ends))]
    if tokenizer.chat_template:
        out["tokenizer.chat_template"] = tokenizer.chat_template
    return out


def _ids(prefix: str, bos: int | None, ends: tuple[int, ...]) -> dict[str, Any]:
    out = {} if bos is None else {f"{prefix}bos_token_id": bos}
    for name, number in zip(("eos", "eot"), ends, strict=False):
        out[f"{prefix}{name}_token_id"] = number
    return out


def _state(tokenizer: Tokenizer) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(tokenizer.core.to_str())
    return state


def _sentencepiece(state: dict[str, Any]) -> bool:
    """Whether it is a SentencePiece vocabulary, which falls back to single bytes."""
    return bool(state["model"].get("byte_fallback"))


def _rule(tokenizer: Tokenizer, state: dict[str, Any]) -> str | None:
    own = tokenizer.core.pre_tokenizer
    if own is None:
        return None
    wanted = [piece for piece, _ in own.pre_tokenize_str(_EDGES)]
    for name, make in PRE_TOKENIZERS.items():
        if [piece for piece, _ in make().pre_tokenize_str(_EDGES)] == wanted:
            return name
    return None


def _merges(state: dict[str, Any]) -> list[str]:
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]]


def _tokens(tokenizer: Tokenizer, state: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Tokens and types by id; ids without a token, of a padded vocabulary, are unused."""
    special = {token["id"]: token["special"] for token in state["added_tokens"]}
    by_id = {number: token for token, number in tokenizer.core.get_vocab(with_added_tokens=True).items()}
    tokens = [by_id.get(i, f"[PAD{i}]") for i in range(size)]
    unknown = state["model"].get("unk_token") if _sentencepiece(state) else None

    def kind(i: int) -> int:
        if i not in by_id:
            return UNUSED
        if by_id[i] == unknown:
            return UNKNOWN
        if i in special:
            return CONTROL if special[i] else USER_DEFINED
        return BYTE if _sentencepiece(state) and _is_byte(by_id[i]) else NORMAL

    return tokens, [kind(i) for i in range(size)]


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _scores(state: dict[str, Any], tokens: list[str]) -> list[float]:
    """SentencePiece joins the pair whose piece scores highest: minus the place of its first merge."""
    scores = dict.fromkeys(tokens, -1e9)
    for place, merge in enumerate(_merges(state)):
        piece = merge.replace(" ", "", 1)
        if scores.get(piece) == -1e9:
            scores[piece] = -float(place)
    return [0.0 if _is_byte(token) else scores[token] for token in tokens]


def _decoded_pieces(tokenizer: Tokenizer) -> list[str]:
    """The first characters of the pieces that a letter becomes."""
    return [piece[:1] for piece in tokenizer.core.encode("a", add_special_tokens=False).tokens]
