"""Several models side by side, and how often two of them would say the same next word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..checks import refuse
from ..radlads.teacher import final_hidden
from ..results.progress import bar
from .results import Agreement, Comparison
from .text import kl, perplexity

if TYPE_CHECKING:
    from ..data.tokens import TokenData
    from ..model.model import Model


def compare(
    models: Mapping[str, Model],
    data: TokenData,
    teacher: Model | None = None,
    *,
    top1: bool = True,
    progress: bool = True,
) -> Comparison:
    """The models on one text: perplexity, bytes of weights, bytes of cache a token adds and, beside a
    teacher, the KL from it in nats a token and, with `top1`, the share of tokens on which both hold the same
    next token likeliest, each with its standard error. The teacher reads the text once for all of them.

    Raises ConfigError for what is no dict of models, DataError for text that does not fit.
    """
    given: Any = models
    if not isinstance(given, Mapping) or not given:
        raise refuse("models", given, "a dict of a name and a model each, at least one")
    hidden = None if teacher is None else final_hidden(teacher, data)
    rows: dict[str, dict[str, Any]] = {}
    for name, model in bar(list(models.items()), "compare", progress):
        row: dict[str, Any] = {}
        if teacher is None:
            row["perplexity"] = perplexity(model, data).perplexity
        else:
            found = kl(model, teacher, data, teacher_hidden=hidden)
            row |= {"kl": found.kl, "kl_stderr": found.kl_stderr}
            if top1 and found.agreement is not None:
                row |= {"agreement": found.agreement, "agreement_stderr": found.agreement_stderr}
            row["perplexity"] = found.perplexity
        row["bytes"] = model.nbytes
        if not model.model_config.bidirectional:
            row["cache_bytes_per_token"] = model.cache().bytes_per_token
        rows[name] = row
    return Comparison(rows)


def agreement(student: Model, teacher: Model | None, data: TokenData, *, progress: bool = False) -> Agreement:
    """The share of tokens after which both models hold the same token likeliest, over the positions that
    `kl` means over, and from the pass that it makes: `kl` gives it beside the nats. teacher None: `student`
    is a probe and its own softmax mixers are the teacher. ConfigError for models without an LM head.
    """
    found = kl(student, teacher, data, progress=progress)
    if found.agreement is None or found.agreement_stderr is None or found.agreement_per_sequence is None:
        raise refuse("model", f"compared by {found.measure}", "a language model, which predicts tokens")
    return Agreement(found.agreement, found.agreement_stderr, found.agreement_per_sequence, data.num_tokens)
