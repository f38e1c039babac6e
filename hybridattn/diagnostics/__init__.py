"""Synthetic text that can only be predicted by looking back, for any tokenizer, length and seed.

Diagnostics are questions with one answer, those that arXiv 2512.20569 compares layer selectors on. Each is a
small file with a function `example(rng, size)`; frame.py makes examples as large as fits a length and marks
the answer's tokens. And recall prompts, which fill a window with lists to look up in and copies (recall.py).

    answers = diagnostics.make("phone_book", tokenizer, n=8, seq_len=1024)
    scores = select.score(probe, answers.data, "kl_replace")      # KL on the answers alone
    evaluate.recall(model, "phone_book", n=32, seq_len=1024)      # exact match of greedy answers
"""

from typing import TYPE_CHECKING

from ..lazy import contents, face

__all__ = ["KINDS", "SCORING_TEXTS", "Diagnostic", "make", "recall_prompts", "scoring_text"]

if TYPE_CHECKING:
    from .frame import Diagnostic as Diagnostic
    from .kinds import KINDS as KINDS
    from .kinds import make as make
    from .recall import recall_prompts as recall_prompts
    from .texts import SCORING_TEXTS as SCORING_TEXTS
    from .texts import scoring_text as scoring_text
else:
    __getattr__ = face(
        __name__,
        {
            "KINDS": "kinds",
            "SCORING_TEXTS": "texts",
            "Diagnostic": "frame",
            "make": "kinds",
            "recall_prompts": "recall",
            "scoring_text": "texts",
        },
        renamed={"TASKS": "KINDS"},
    )

__dir__ = contents(__name__)
