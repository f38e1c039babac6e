"""generation_config.json, the file beside config.json in which transformers keeps how a model is sampled.

Its end-of-text tokens and stop texts end generation here too. Its other settings are kept for transformers
and are not applied: `generate` is greedy unless its own options say otherwise, and a warning names those that
would give another text.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checks import refuse
from ..data.tokenizer_json import read_object
from ..errors import ConfigError, DataError

NAME = "generation_config.json"


def read_generation(folder: Path) -> dict[str, Any]:
    """The file's content, {} where there is none. ConfigError that names it."""
    try:
        content = read_object(folder / NAME)
    except DataError as error:
        raise ConfigError(str(error)) from None
    try:
        end_tokens(content)
        stop_texts(content)
    except ConfigError as error:
        raise ConfigError(f"{folder / NAME}: {error}") from None
    return content


# settings that change the text, with the values that change nothing beside None
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "do_sample": (False,),
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0,),
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "guidance_scale": (1,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ([], {}),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "forced_decoder_ids": (),
    "exponential_decay_length_penalty": (),
    "watermarking_config": (),
}
_OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def warn_of_ignored(content: Mapping[str, Any]) -> None:
    """A warning that names the settings of the file with which transformers would write another text."""
    given = [
        name
        for name, neutral in _NEUTRAL.items()
        if content.get(name) is not None and content[name] not in neutral
    ]
    if "do_sample" in given:
        given += [name for name in _OF_SAMPLING if content.get(name) is not None]
    if given:
        listed = ", ".join(f"{name}={content[name]!r:.40}" for name in given)
        warnings.warn(f"{NAME} has {listed}, which is not applied; options of generate are", stacklevel=4)


def stop_texts(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Its texts that end a continuation."""
    given = content.get("stop_strings")
    texts = [given] if isinstance(given, str) else given or []
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise refuse("stop_strings", given, "a text, a list of texts, or null")
    return tuple(texts)


def end_tokens(content: Mapping[str, Any]) -> tuple[int, ...]:
    """Its end-of-text tokens: one, a list of them, or none."""
    given = content.get("eos_token_id")
    if given is None:
        return ()
    ids = given if isinstance(given, list) else [given]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise refuse("eos_token_id", given, "a token id, a list of them, or null")
    return tuple(ids)
