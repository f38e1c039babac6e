"""A model for lm-eval, EleutherAI's evaluation harness: `hybridattn` among its models once this module is
imported. Its three methods also work without lm-eval, on any requests with `args`.

    import lm_eval, hybridattn.lm_eval_model
    lm_eval.simple_evaluate(model="hybridattn", model_args="pretrained=hybrid", tasks=["piqa"])
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from ..checks import check_int, refuse
from ..data.tokenizer import Tokenizer
from ..errors import DataError
from ..model.likelihood import Scored, beginning, continuations, encode_pair, fit
from ..model.model import Model
from .text import spans

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ImportError:  # the plain methods work without it
    LM: Any = object  # type: ignore[no-redef]

    def register_model(*names: str) -> Callable[[type], type]:
        """Nothing to register with."""
        return lambda model: model


class Request(Protocol):
    """What is needed of an lm-eval Instance."""

    @property
    def args(self) -> tuple[Any, ...]: ...


@register_model("hybridattn")
class HybridAttnLM(LM):
    """pretrained: a Model, or what `Model.from_pretrained` takes, with dtype and softmax_layers.

    batch_size: sequences of one pass. max_length: at most this many tokens are seen, of a longer text the
    last ones (default: the model's positions). max_gen_toks: new tokens where a task sets no limit.
    """

    def __init__(
        self,
        pretrained: Model | str | os.PathLike[str],
        batch_size: int | str = 8,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        dtype: str = "auto",
        softmax_layers: int | None = None,
        device: str | None = None,
        max_batch_size: int | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__()
        if device not in (None, "cpu"):
            raise refuse("device", device, "cpu")
        if not isinstance(pretrained, Model):
            pretrained = Model.from_pretrained(pretrained, softmax_layers, dtype)
        self.model = pretrained
        if self.model.tokenizer is None:
            raise DataError("tokenizer is None; allowed for lm-eval: a model with a tokenizer")
        self.tokenizer: Tokenizer = self.model.tokenizer
        # lm-eval also gives numbers as text, and "auto"
        self.batch_size = 8 if batch_size == "auto" else check_int("batch_size", int(batch_size))
        limit = self.model.model_config.max_positions
        self.max_length = check_int("max_length", limit if max_length is None else max_length, 2, limit)
        self.max_gen_toks = check_int("max_gen_toks", max_gen_toks)
        self.name = str(self.model.model_config.hf.get("_name_or_path", "hybridattn"))
        self.progress = progress

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval names its caches of requests by."""
        return self.name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The model's template, as text."""
        return self.tokenizer.chat_template or "" if chat_template else ""

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The prompt text of a conversation."""
        return self.tokenizer.apply_chat_template(chat_history, add_generation_prompt)

    def loglikelihood(
        self, requests: Sequence[Request], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """(log p of the continuation in nats, whether greedy decoding makes it) for (context, continuation).

        Requests of one context are scored from one reading of it.
        """
        by_context: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
        for i, request in enumerate(requests):
            context, continuation = encode_pair(self.tokenizer, *request.args)
            context = self._fit(context, len(continuation))
            by_context.setdefault(tuple(context), []).append((i, continuation))
        scored = continuations(
            self.model,
            list(by_context),
            [[continuation for _, continuation in rows] for rows in by_context.values()],
            batch_size=self.batch_size,
            progress=self.progress and not disable_tqdm,
            label="loglikelihood",
        )
        out: list[Scored | None] = [None] * len(requests)
        for rows, scores in zip(by_context.values(), scored, strict=True):
            for (i, _), score in zip(rows, scores, strict=True):
                out[i] = score
        results = [(score.logprob, score.greedy) for score in out if score is not None]
        self._remember("loglikelihood", requests, results)
        return results

    def loglikelihood_rolling(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[float]:
        """log p of whole texts (text,), in nats, from the beginning-of-text token on.

        A text longer than `max_length` is read in windows that overlap in one token, so that every token is
        predicted once.
        """
        results = []
        for request in tqdm(requests, desc="rolling", disable=not self.progress or disable_tqdm):
            text = self.tokenizer.encode(request.args[0], add_special_tokens=False)
            tokens = np.array([*beginning(self.tokenizer), *text], np.int32)
            windows, _ = spans(len(tokens), self.max_length, self.max_length - 1)
            total = 0.0
            for start, stop in windows:
                total -= float(self.model.nll(tokens[None, start:stop]).astype(np.float64).sum())
            results.append(total)
        self._remember("loglikelihood_rolling", requests, results)
        return results

    def generate_until(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[str]:
        """Continuations of (context, options), up to the first of the texts in `until`.

        Options of lm-eval that are known: until, max_gen_toks, do_sample, temperature, top_k, top_p, seed.
        Requests of equal options go through the model in batches, long prompts with long ones.
        """
        groups: dict[Hashable, list[int]] = {}
        settings = []
        for i, request in enumerate(requests):
            settings.append(self._options(dict(request.args[1])))
            groups.setdefault(tuple(settings[-1].items()), []).append(i)
        out = [""] * len(requests)
        show = self.progress and not disable_tqdm
        with tqdm(total=len(requests), desc="generate", disable=not show) as bar:
            for group in groups.values():
                options = dict(settings[group[0]])
                stops = options.pop("stop")
                room = options["max_new_tokens"]
                prompts = {i: self._prompt(requests[i].args[0], room) for i in group}
                order = sorted(group, key=lambda i: -len(prompts[i]))
                for at in range(0, len(order), self.batch_size):
                    chosen = order[at : at + self.batch_size]
                    made = self.model.generate([prompts[i] for i in chosen], stop=stops, **options)
                    for i, tokens in zip(chosen, made, strict=True):
                        out[i] = _before(self.tokenizer.decode(tokens), stops)
                    bar.update(len(chosen))
        self._remember("generate_until", requests, out)
        return out

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        """lm-eval's options as those of `generate`."""
        until = given.pop("until", None) or []
        room = given.pop("max_gen_toks", None) or given.pop("max_new_tokens", None) or self.max_gen_toks
        options: dict[str, Any] = {
            "stop": tuple(filter(None, [until] if isinstance(until, str) else until)),
            "max_new_tokens": min(int(room), self.max_length - 1),
        }
        sample = given.pop("do_sample", None)
        temperature = float(given.pop("temperature", 0.0) or 0.0)
        options["temperature"] = 0.0 if sample is False else temperature if temperature or not sample else 1.0
        for name in ("top_k", "top_p", "seed"):
            if given.get(name) is not None:
                options[name] = given[name]
            given.pop(name, None)
        if given:
            raise refuse(
                "generation option",
                next(iter(given)),
                "until, max_gen_toks, do_sample, temperature, top_k, top_p, seed",
            )
        return options

    def _prompt(self, context: str, room: int) -> list[int]:
        return self._fit(self.tokenizer.encode(context) or beginning(self.tokenizer), room)

    def _fit(self, tokens: Sequence[int], room: int) -> list[int]:
        return fit(self.model, tokens, room, self.max_length)

    def _remember(self, name: str, requests: Iterable[Request], results: Iterable[Any]) -> None:
        """Give results to lm-eval's cache, where there is one."""
        hook = getattr(self, "cache_hook", None)
        if hook is not None:
            for request, result in zip(requests, results, strict=True):
                hook.add_partial(name, request.args, result)


def _before(text: str, stops: Sequence[str]) -> str:
    """What comes before the first of the stop texts."""
    return text[: min((at for at in map(text.find, stops) if at >= 0), default=len(text))]
