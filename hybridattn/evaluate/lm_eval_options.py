"""Generation options as lm-eval's tasks and command line give them, as those of `Model.generate`.

Source: lm-eval 0.4.12, `normalize_gen_kwargs` and its Hugging Face model; transformers' GenerationConfig for
the values that change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..checks import check_bool, check_int, check_number, refuse

# names of the limit of new tokens; the first that is given counts
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# options that are not known here, at the values that change nothing
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "n": (1,),
    "best_of": (1,),
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "length_penalty": (1, 0),  # of beams
    "diversity_penalty": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "min_p": (0,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "penalty_alpha": (0,),
    "early_stopping": (True, False),  # of beams
    "use_cache": (True, False),
    "renormalize_logits": (True, False),  # changes no order and no ratio
    "remove_invalid_values": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True, False),
}
_OWN = ("until", *LIMITS, "max_length", "do_sample", "temperature", "top_k", "top_p", "seed")


@dataclass(frozen=True)
class Asked:
    """room: new tokens at most. max_length: tokens of context and continuation at most, or None. stops: texts
    that end the continuation. sampling: further options of `generate`.
    """

    room: int
    max_length: int | None
    stops: tuple[str, ...]
    sampling: tuple[tuple[str, Any], ...]


def asked(given: Mapping[str, Any], default_room: int) -> Asked:
    """lm-eval's options; those that are None count as not given. ConfigError names what is not supported."""
    options = {key: value for key, value in given.items() if value is not None}
    until = options.get("until", [])
    stops = [until] if isinstance(until, str) else until
    if not isinstance(stops, (list, tuple)) or not all(isinstance(stop, str) for stop in stops):
        raise refuse("until", until, "a text or a list of texts")
    limit = next((name for name in LIMITS if name in options), None)
    room = default_room if limit is None else check_int(limit, _whole(options[limit]))
    length = options.get("max_length")
    sampling: dict[str, Any] = {"temperature": _temperature(options)}
    sampling |= {name: options[name] for name in ("top_k", "top_p", "seed") if name in options}
    for name, value in options.items():
        if name not in _OWN and value not in NEUTRAL.get(name, ()):
            allowed = NEUTRAL.get(name)
            raise refuse(
                f"generation option {name}",
                value,
                f"{' or '.join(map(str, allowed))}, which changes nothing" if allowed else ", ".join(_OWN),
            )
    return Asked(
        room,
        None if length is None else check_int("max_length", _whole(length), 2),
        tuple(filter(None, stops)),
        tuple(sampling.items()),
    )


AUTOMATIC = 8  # sequences of one pass


def batch_size(given: int | str, most: int | None = None) -> int:
    """A number, also as text; AUTOMATIC, or `most` where that is less, for "auto" and "auto:N", which measure
    nothing here.
    """
    if isinstance(given, str):
        if given == "auto" or (given.startswith("auto:") and _is_number(given[5:])):
            return AUTOMATIC if most is None else min(AUTOMATIC, check_int("max_batch_size", most))
        if not given.strip().isdecimal():
            raise refuse("batch_size", given, "a whole number of at least 1, auto, or auto:N")
        given = int(given)
    return check_int("batch_size", given)


def _is_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _temperature(options: Mapping[str, Any]) -> float:
    sample = check_bool("do_sample", options["do_sample"]) if "do_sample" in options else None
    temperature = check_number("temperature", options.get("temperature", 0.0))
    if sample is False:
        return 0.0
    return temperature if temperature or not sample else 1.0


def _whole(value: Any) -> Any:
    """A whole number that comes as a float or a text, as an int."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
