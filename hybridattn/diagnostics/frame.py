"""What diagnostics share: a kind makes one example of a given size; the frame makes it as large as
fits a length, cuts prompt and answer into tokens, and marks the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..data.prompts import answer_tokens
from ..data.tokens import Encoder, TokenData, Tokens
from ..errors import DataError


class Maker(Protocol):
    """One example of `size` (1 or more) pieces of haystack: (prompt, answer). The answer follows the
    prompt.
    """

    def __call__(self, rng: np.random.Generator, size: int) -> tuple[str, str]: ...


@dataclass(frozen=True)
class Diagnostic:
    """Examples of a diagnostic. prompts, answers: token ids, the answers' being those of prompt and answer
    together beyond the prompt's; data: prompt and answer as one window each, with weight 1 on the tokens of
    the answers and 0 elsewhere.
    """

    name: str
    prompts: list[Tokens]
    answers: list[Tokens]
    data: TokenData

    def __len__(self) -> int:
        return len(self.prompts)


def build(name: str, make: Maker, tokenizer: Encoder, n: int, seq_len: int, seed: int) -> Diagnostic:
    """`n` examples of at most `seq_len` tokens, each as large as fits. Example i depends on seed and i
    alone. Raises DataError when not even the smallest fits.
    """
    given: Any = n
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < 1:
        raise DataError(f"n is {n}; allowed: 1 or more examples")
    prompts, answers = [], []
    for i in range(n):

        def tokens(size: int, i: int = i) -> tuple[Tokens, Tokens]:
            prompt, answer = make(np.random.default_rng([seed, i]), size)
            before, after = answer_tokens(tokenizer, prompt, answer)
            return np.asarray(before, np.int32), np.asarray(after, np.int32)

        size = largest(lambda size: sum(map(len, tokens(size))), seq_len)
        if size < 1:
            raise DataError(
                f"seq_len is {seq_len}; allowed for {name}: {sum(map(len, tokens(1)))} or more tokens"
            )
        prompt, answer = tokens(size)
        prompts.append(prompt)
        answers.append(answer)
    return Diagnostic(name, prompts, answers, _windows(name, prompts, answers))


def largest(length: Callable[[int], int], limit: int) -> int:
    """The largest size found with length(size) <= limit, by doubling and halving; 0 when size 1 is too
    long.
    """
    good, bad = 0, 1
    while length(bad) <= limit:
        good, bad = bad, 2 * bad
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if length(middle) <= limit else (good, middle)
    return good


def _windows(name: str, prompts: list[Tokens], answers: list[Tokens]) -> TokenData:
    pieces = [piece for pair in zip(prompts, answers, strict=True) for piece in pair]
    weights = np.concatenate([np.full(len(piece), i % 2, np.float32) for i, piece in enumerate(pieces)])
    stop = np.cumsum([len(p) + len(a) for p, a in zip(prompts, answers, strict=True)])
    windows = np.stack([np.concatenate([[0], stop[:-1]]), stop], axis=1)
    return TokenData(np.concatenate(pieces), windows, f"diagnostic:{name}", weights)
