"""How the tasks are put to a decoder: a prompt, and what each label is called after it."""

from __future__ import annotations

from ..choices import Prompt

_ENTAILS = "{text_a}\nQuestion: {text_b} True or False?\nAnswer:"
_REVIEW = "Review: {text_a}\nSentiment:"

PROMPTS: dict[str, Prompt] = {
    "CoLA": Prompt("Sentence: {text_a}\nQuestion: Is this sentence grammatical?\nAnswer:", (" no", " yes")),
    "SST-2": Prompt(_REVIEW, (" negative", " positive")),
    "MRPC": Prompt(
        "Sentence 1: {text_a}\nSentence 2: {text_b}\nQuestion: Do both sentences mean the same?\nAnswer:",
        (" no", " yes"),
    ),
    "STS-B": Prompt(
        "Sentence 1: {text_a}\nSentence 2: {text_b}\nSimilarity of meaning from 0 to 5:",
        (" 0", " 1", " 2", " 3", " 4", " 5"),
        (0.0, 1.0, 2.0, 3.0, 4.0, 5.0),
    ),
    "QQP": Prompt(
        "Question 1: {text_a}\nQuestion 2: {text_b}\nQuestion: Do both questions ask the same?\nAnswer:",
        (" no", " yes"),
    ),
    "MNLI": Prompt(
        "{text_a}\nQuestion: {text_b} True, False or Neither?\nAnswer:", (" True", " Neither", " False")
    ),
    "QNLI": Prompt(
        "{text_a}\n{text_b}\nQuestion: Does this sentence answer the question?\nAnswer:", (" yes", " no")
    ),
    "RTE": Prompt(_ENTAILS, (" True", " False")),
    "WNLI": Prompt(_ENTAILS, (" False", " True")),
    "boolq": Prompt("{text_a}\nQuestion: {text_b}?\nAnswer:", (" no", " yes")),
    "movie_reviews": Prompt(_REVIEW, (" negative", " positive")),
    "movie_ratings": Prompt(_REVIEW, (" negative", " positive"), (-1.0, 1.0)),
}
PROMPTS["MNLI-mm"] = PROMPTS["MNLI"]
