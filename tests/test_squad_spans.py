"""SQuAD: windows of a context, spans of a window, written answers."""

import math

import numpy as np
import pytest
import tiny
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from hybridattn import squad
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import ConfigError, DataError
from hybridattn.evaluate.squad import Question, generative


def words(*known):
    """A tokenizer of whole words and punctuation that joins pairs as [CLS] a [SEP] b [SEP]."""
    vocab = {token: i for i, token in enumerate(["[CLS]", "[SEP]", "[UNK]", *known])}
    core = tokenizers.Tokenizer(models.WordLevel(vocab, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 0), ("[SEP]", 1)]
    )
    return Tokenizer(core)


CONTEXT = " ".join(f"w{i}" for i in range(20))
START = CONTEXT.index("w11")
ASK = Question("q", "", CONTEXT, "who is it now", ("w11 w12",), (START,))


def test_windows_cover_the_context_in_strides():
    tokenizer = words(*(f"w{i}" for i in range(20)), "who", "is")
    found = squad.windows([ASK], tokenizer, max_length=13, stride=4, max_question=2)
    assert [len(w.tokens) for w in found] == [13, 13, 13, 13]  # 8 tokens of context each, from 0, 4, 8, 12
    for i, window in enumerate(found):
        texts = [CONTEXT[a:b] if a >= 0 else "" for a, b in window.spans]
        assert texts == ["", "", "", "", *(f"w{j}" for j in range(4 * i, 4 * i + 8)), ""]
        assert window.type_ids.tolist() == [0] * 4 + [1] * 9
        assert window.tokens.tolist()[:4] == [0, 23, 24, 1]
    assert [(w.start, w.end) for w in found] == [(0, 0), (0, 0), (7, 8), (0, 0)]  # w11 w12 whole in one only
    owners = np.array([[w.widest[4 + j - 4 * i] if 0 <= j - 4 * i < 8 else False for j in range(20)]
                       for i, w in enumerate(found)])  # fmt: skip
    assert (owners.sum(axis=0) == 1).all()
    # in 0..7 and 4..11, token 5 has 2 and 1 tokens beside it, token 6 has 1 and 2
    assert owners[0, 5] and owners[1, 6] and owners[0, 0] and owners[3, 19]
    assert not any(w.widest[w.spans[:, 0] < 0].any() for w in found)
    assert len(squad.windows([ASK, ASK], tokenizer)) == 2 and squad.windows([ASK], tokenizer)[0].start == 17
    assert tokenizer.core.truncation is None
    with pytest.raises(
        ConfigError, match="stride is 4; allowed: 1 to 3, which a question of 2 tokens leaves"
    ):
        squad.windows([ASK], tokenizer, max_length=8, stride=4, max_question=2)
    with pytest.raises(DataError, match="question 'e': context has no tokens"):
        squad.windows([Question("e", "", " ", "who", ())], tokenizer)


@pytest.mark.parametrize("gold", ["w11 w12", " w11 w12", "w11 w12 ", " w11 w12 "])
def test_white_space_at_the_ends_of_a_gold_is_nothing(gold):
    tokenizer = words(*(f"w{i}" for i in range(20)), "who", "is")
    ask = Question("q", "", CONTEXT, "who is it now", (gold,), (CONTEXT.index(gold),))
    found = squad.windows([ask], tokenizer, max_length=13, stride=4, max_question=2)
    assert [(w.start, w.end) for w in found] == [(0, 0), (0, 0), (7, 8), (0, 0)]
    blank = Question("q", "", CONTEXT, "who", (" ",), (CONTEXT.index(" "),))
    assert [(w.start, w.end) for w in squad.windows([blank], tokenizer)] == [(0, 0)]


def test_a_gold_with_characters_that_no_token_stands_for():
    """A normaliser may drop some; they are in no window, so no window lacks them."""
    tokenizer = words(*(f"w{i}" for i in range(20)))
    tokenizer.core.normalizer = normalizers.Replace("#", " ")
    context = CONTEXT.replace("w11 w12", "#w11 w12#")
    ask = Question("q", "", context, "who", ("#w11 w12#",), (context.index("#"),))
    found = squad.windows([ask], tokenizer, max_length=13, stride=4, max_question=2)
    for window in found:
        spans = [tuple(span) for span in window.spans.tolist()]
        wanted = [(START + 1, START + 4), (START + 5, START + 8)]
        whole = all(span in spans for span in wanted)
        assert (window.start, window.end) == (tuple(map(spans.index, wanted)) if whole else (0, 0))
    assert any(window.start for window in found)


@pytest.mark.parametrize("context, gold", [("Él vio un ñandú azul.", "ñandú"), ("Ein 🐘 lief", "🐘 lief")])
def test_windows_of_bytes(context, gold):
    """A character is several tokens: spans are still characters, and gold tokens give the gold text."""
    ask = Question("q", "", context, "?", (gold,), (context.index(gold),))
    (window,) = squad.windows([ask], tiny.tokenizer())
    start, end = window.spans[window.start, 0], window.spans[window.end, 1]
    assert context[start:end].strip() == gold
    logits = np.zeros((2, len(window.tokens)), np.float32)
    logits[0, window.start] = logits[1, window.end] = 9.0
    (best,) = squad.best_spans([ask], [window], [(logits[0], logits[1])])
    assert best.spans[0].text == gold


def brute(windows, logits, longest, n_best):
    """The best allowed spans of all windows, by two loops."""
    best = {}
    for window, (start, end) in zip(windows, logits, strict=True):
        context = [i for i in range(len(start)) if window.spans[i, 0] >= 0]
        starts = sorted((i for i in context if window.widest[i]), key=lambda i: -start[i])[:n_best]
        ends = sorted(context, key=lambda j: -end[j])[:n_best]
        for i in range(len(start)):
            for j in range(i, min(i + longest, len(start))):
                if i in starts and j in ends:
                    place = (window.spans[i, 0], window.spans[j, 1])
                    best[place] = max(best.get(place, -math.inf), float(start[i]) + float(end[j]))
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))[:n_best]


@pytest.mark.parametrize("n_best, longest", [(1, 8), (2, 8), (20, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_best_spans_are_the_best_of_all(n_best, longest, seed):
    tokenizer, rng = words("who"), np.random.default_rng(seed)
    windows = squad.windows([ASK], tokenizer, max_length=13, stride=4)
    logits = [tuple(rng.normal(size=(2, len(w.tokens))).astype(np.float32)) for w in windows]
    (found,) = squad.best_spans([ASK], windows, logits, n_best=n_best, max_answer_tokens=longest)
    want = brute(windows, logits, longest, n_best)
    assert want
    assert [(s.start, s.end) for s in found.spans] == [place for place, _ in want]
    np.testing.assert_allclose([s.score for s in found.spans], [score for _, score in want])
    assert all(s.text == CONTEXT[s.start : s.end] for s in found.spans)
    assert found.null_score == pytest.approx(min(float(a[0]) + float(b[0]) for a, b in logits))
    with pytest.raises(DataError, match=r"logits has 1 pairs; allowed: \d+, one a window"):
        squad.best_spans([ASK], windows, logits[:1])
    with pytest.raises(DataError, match=r"logits\[0\] have shapes"):
        squad.best_spans([ASK], windows, [(a[:-1], b) for a, b in logits])
    with pytest.raises(DataError, match="question 'r' has no window"):
        squad.best_spans([ASK, Question("r", "", "", "", ())], windows, logits)


def test_threshold():
    def made(identity, text, odds):
        return squad.SpanAnswer(identity, [squad.Span(text, 0, 1, 2.0)], 2.0 + odds)

    ask = lambda i, *answers: Question(i, "", "c", "q", answers)  # noqa: E731
    questions = [ask("a", "x"), ask("b", "x"), ask("c"), ask("d"), ask("e", "x")]
    answers = [made("a", "x", -3.0), made("b", "wrong", -1.0), made("c", "x", 2.0), made("d", "x", 0.5),
               made("e", "x", 0.0)]  # fmt: skip
    assert squad.tune_threshold(questions, answers) == (0.0, 80.0)
    right = squad.with_threshold(answers, 0.0)
    assert right == {"a": "x", "b": "wrong", "c": "", "d": "", "e": "x"}
    assert squad.evaluate(questions, right, resamples=0)["exact"] == 80.0
    assert squad.with_threshold(answers, None)["c"] == "x"
    # by trying every threshold between and beyond the odds
    rng = np.random.default_rng(0)
    many = [ask(str(i), *(["x"] if rng.random() < 0.5 else [])) for i in range(40)]
    spans = [made(q.id, "x" if rng.random() < 0.7 else "x y", float(rng.integers(-4, 5))) for q in many]
    for metric in ("exact", "f1"):
        tried = {t: squad.evaluate(many, squad.with_threshold(spans, t), resamples=0)[metric]
                 for t in np.arange(-5.0, 6.0)}  # fmt: skip
        threshold, score = squad.tune_threshold(many, spans, metric)
        assert score == pytest.approx(max(tried.values()))
        kept = squad.with_threshold(spans, threshold)
        assert squad.evaluate(many, kept, resamples=0)[metric] == pytest.approx(score)
    none = [ask("a"), ask("b")]
    threshold, score = squad.tune_threshold(none, answers[:2])
    assert threshold < -3.0 and score == 100.0
    empty = [squad.SpanAnswer("a", [], 1.0)]
    assert squad.with_threshold(empty, None) == {"a": ""} and empty[0].null_odds == math.inf
    with pytest.raises(ConfigError, match="metric is 'em'; allowed: exact, f1"):
        squad.tune_threshold(none, answers[:2], "em")
    with pytest.raises(DataError, match="questions is empty; allowed: 1 or more"):
        squad.tune_threshold([], [])


def test_written_answers(monkeypatch):
    model, seen = tiny.teacher(max_position_embeddings=512), []
    said = {"q1": " a cat \nmore", "q2": " Unanswerable.\n", "q3": "\nlate"}
    questions = [Question(i, "", "The cat sat.", f"Who {i}?", ("cat",), (4,)) for i in said]

    def oracle(model, prompts, max_new_tokens, stop):
        assert stop == "\n" and max_new_tokens == 32
        texts = [model.tokenizer.decode(p) for p in prompts]
        seen.extend(texts)
        return [said[text.split("Who ")[-1][:2]].partition(stop)[0] for text in texts]

    monkeypatch.setattr(generative, "generate_texts", oracle)
    assert squad.answer(model, questions, batch_size=2) == {"q1": "a cat", "q2": "Unanswerable.", "q3": ""}
    assert seen[0] == "The cat sat.\nQuestion: Who q1?\nAnswer:"
    found = squad.answer(model, questions, no_answer=True, shots=questions[2:])
    assert found == {"q1": "a cat", "q2": "", "q3": ""}
    assert seen[3].startswith("The cat sat.\nIf the text") and "Who q3?\nAnswer: cat\n\nThe cat" in seen[3]
    assert all(text.endswith("Answer:") for text in seen)


def test_answers_of_a_model_are_its_greedy_continuations():
    model = tiny.teacher()
    questions = [Question(str(i), "", "cat " * i, "Who?", ("cat",)) for i in (1, 4, 90)]
    found = squad.answer(model, questions, max_new_tokens=6)
    for question in questions:
        ids = model.tokenizer.encode(squad.prompt(question))[-250:]  # what 256 positions leave
        text = model.generate([ids], max_new_tokens=6)[0]
        assert found[question.id] == model.tokenizer.decode(text).partition("\n")[0].strip()
