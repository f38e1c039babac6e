"""A model for lm-eval, EleutherAI's evaluation harness: `hybridattn` among its models once this module is
imported. Its three methods also work without lm-eval, on any requests with `args`.

    import lm_eval, hybridattn.lm_eval_model
    lm_eval.simple_evaluate(model="hybridattn", model_args="pretrained=hybrid", tasks=["piqa"])
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .. import __version__ as __version__  # for lm_eval.yaml
from ..checks import check_int, refuse
from ..data.prompts import beginning, encode_pair, open_tokens
from ..data.tokenizer import Tokenizer
from ..errors import DataError
from ..model.base import tokenizer_of
from ..model.generate import generate_texts
from ..model.likelihood import Scored, continuations, fit
from ..model.model import Model
from ..results.progress import bar
from .lm_eval_options import asked
from .lm_eval_options import batch_size as size_of

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

    batch_size: sequences of one pass; "auto" and "auto:N" are 8, or max_batch_size where that is less.
    max_length: at most this many tokens are seen, of a longer text the last ones (default: the model's
    positions). max_gen_toks: new tokens where a task sets no limit. device: any but cuda. chat_template_args,
    enable_thinking: variables of the chat template. trust_remote_code, for data sets: nothing is run here.
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
        chat_template_args: Mapping[str, Any] | None = None,
        enable_thinking: bool | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        if device is not None and str(device).lower().startswith("cuda"):
            raise refuse("device", device, "cpu: this package computes there, whatever else is named")
        if not isinstance(pretrained, Model):
            pretrained = Model.from_pretrained(pretrained, softmax_layers, dtype)
        self.model = pretrained
        self.tokenizer: Tokenizer = tokenizer_of(self.model)
        self.batch_size = size_of(batch_size, max_batch_size)
        limit = self.model.model_config.max_positions
        self.max_length = check_int("max_length", limit if max_length is None else max_length, 2, limit)
        self.max_gen_toks = check_int("max_gen_toks", max_gen_toks)
        self.name = str(self.model.model_config.hf.get("_name_or_path", "hybridattn"))
        self.progress = progress
        self._template: str | None = None  # the name of the chat template that was asked for
        self._variables = dict(chat_template_args or {})
        if enable_thinking is not None:
            self._variables["enable_thinking"] = enable_thinking

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval names its caches of requests by."""
        return self.name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The model's template, or the one of that name, as text; "" for False."""
        if isinstance(chat_template, str) and chat_template in self.tokenizer.chat_templates:
            self._template = chat_template
            return self.tokenizer.chat_templates[chat_template]
        return self.tokenizer.chat_template or "" if chat_template else ""

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """The prompt text of a conversation; without add_generation_prompt, up to the end of what its last
        message says, which the model then goes on with.
        """
        return self.tokenizer.apply_chat_template(
            chat_history,
            add_generation_prompt,
            template=self._template,
            continue_final_message=not add_generation_prompt,
            **self._variables,
        )

    def loglikelihood(
        self, requests: Sequence[Request], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """(log p of the continuation in nats, whether greedy decoding makes it) for (context, continuation).

        Requests of one context are scored from one reading of it.
        """
        by_context: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
        for i, request in enumerate(requests):
            context, continuation = encode_pair(self.tokenizer, *request.args)
            context = self._fit(context, len(continuation) - 1)  # the last token is not read
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

        A text longer than `max_length` is read in windows of which each predicts `max_length` tokens after
        the one before it; the last window begins earlier, so that it is as long as the others.
        """
        results = []
        for request in bar(requests, "rolling", self.progress and not disable_tqdm):
            text = self.tokenizer.encode(request.args[0], add_special_tokens=False)
            tokens = np.array([*beginning(self.tokenizer), *text], np.int32)
            results.append(-sum(self._nll(tokens, *span) for span in rolling(len(text), self.max_length)))
        self._remember("loglikelihood_rolling", requests, results)
        return results

    def _nll(self, tokens: npt.NDArray[np.int32], start: int, first: int, stop: int) -> float:
        """Sum of -log p of the tokens from `first` to `stop`, read from `start` on."""
        if stop - start <= self.max_length:
            nll = self.model.nll(tokens[None, start:stop])[0].astype(np.float64)
            return float(nll[first - start - 1 :].sum())
        # the last token is only predicted: the model may have no position for it
        head = self._nll(tokens, start, first, stop - 1) if first < stop - 1 else 0.0
        logits = self.model.logits(tokens[None, start : stop - 1], last=True).reshape(-1).astype(np.float64)
        top = logits.max()
        return head + float(top + np.log(np.exp(logits - top).sum()) - logits[tokens[stop - 1]])

    def generate_until(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[str]:
        """Continuations of (context, options), up to the first of the texts in `until`.

        Options: see `lm_eval_options`. Requests of equal options go through the model in batches, long
        prompts with long ones.
        """
        groups: dict[tuple[int, tuple[str, ...], tuple[tuple[str, Any], ...]], list[int]] = {}
        prompts: list[list[int]] = []
        for i, request in enumerate(requests):
            context, given = request.args
            options = asked(dict(given or {}), self.max_gen_toks)
            room = min(options.room, self.max_length - 1)
            prompts.append(self._prompt(context, room))
            if options.max_length is not None:
                room = min(options.max_length, self.max_length) - len(prompts[-1])
                if room < 1:
                    raise DataError(
                        f"max_length is {options.max_length} with {len(prompts[-1])} tokens of context; "
                        "allowed: more than these"
                    )
            groups.setdefault((room, options.stops, options.sampling), []).append(i)
        out = [""] * len(requests)
        show = self.progress and not disable_tqdm
        with bar(None, "generate", show, total=len(requests)) as moving:
            for (room, stops, sampling), group in groups.items():
                order = sorted(group, key=lambda i: -len(prompts[i]))
                for at in range(0, len(order), self.batch_size):
                    chosen = order[at : at + self.batch_size]
                    texts = generate_texts(
                        self.model,
                        [prompts[i] for i in chosen],
                        stop=stops,
                        max_new_tokens=room,
                        **dict(sampling),
                    )
                    for i, text in zip(chosen, texts, strict=True):
                        out[i] = text
                    moving.update(len(chosen))
        self._remember("generate_until", requests, out)
        return out

    def _prompt(self, context: str, room: int) -> list[int]:
        return self._fit(open_tokens(self.tokenizer, context) or beginning(self.tokenizer), room)

    def _fit(self, tokens: Sequence[int], room: int) -> list[int]:
        return fit(self.model, tokens, room, self.max_length)

    def _remember(self, name: str, requests: Iterable[Request], results: Iterable[Any]) -> None:
        """Give results to lm-eval's cache, where there is one."""
        hook = getattr(self, "cache_hook", None)
        if hook is not None:
            for request, result in zip(requests, results, strict=True):
                hook.add_partial(name, request.args, result)


def rolling(tokens: int, length: int) -> list[tuple[int, int, int]]:
    """(start, first, stop) of the windows over a beginning token and `tokens` more: the tokens from `first`
    to `stop` are predicted, those from `start` on are read. At most `length` are read.
    """
    spans, done = [], 0
    while done < tokens:
        stop = done + min(length, tokens - done)
        spans.append((max(0, stop - length), done + 1, stop + 1))
        done = stop
    return spans
