"""SQuAD 1.1 and 2.0 (arXiv 1606.05250, 1806.03822): their files, their metrics, windows and spans for
encoders with a span head, generated answers of decoders; and SQuAD-style sets that install without a hub.

    data = squad.read("dev-v2.0.json")
    found = squad.answer(model, data.questions, no_answer=data.has_no_answers)
    squad.evaluate(data.questions, found)                # exact match and F1, percent
"""

from ...lazy import contents
from .builtin import BUILTIN, builtin
from .data import Question, SquadData, read
from .generative import answer, prompt
from .metrics import evaluate, exact_match, f1, normalize
from .predictions import write_predictions
from .spans import Span, SpanAnswer, Threshold, best_spans, tune_threshold, with_threshold
from .windows import Window, windows

__all__ = [
    "BUILTIN",
    "Question",
    "Span",
    "SpanAnswer",
    "SquadData",
    "Threshold",
    "Window",
    "answer",
    "best_spans",
    "builtin",
    "evaluate",
    "exact_match",
    "f1",
    "normalize",
    "prompt",
    "read",
    "tune_threshold",
    "windows",
    "with_threshold",
    "write_predictions",
]
__dir__ = contents(__name__)
