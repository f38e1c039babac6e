"""Diagnostic tasks: every answer follows from its prompt, lengths are kept, the mask is the answer."""

import re

import numpy as np
import pytest
import tiny

from hybridattn import diagnostics, evaluate, select
from hybridattn.diagnostics.frame import largest
from hybridattn.errors import ConfigError, DataError
from hybridattn.evaluate.text import _answer_nll

KINDS = sorted(diagnostics.KINDS)


def examples(kind, n=4, seq_len=700, seed=0):
    """(prompt, answer) as text."""
    tokenizer = tiny.tokenizer()
    made = diagnostics.make(kind, tokenizer, n, seq_len, seed)
    return [
        (tokenizer.decode(p.tolist()), tokenizer.decode(a.tolist()))
        for p, a in zip(made.prompts, made.answers, strict=True)
    ]


def count_words(text, numbered):
    words = re.findall(r"[a-z]+", text) if not numbered else re.findall(r"\d+\. ([a-z]+)", text)
    names, counts = np.unique(words, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def solve(kind, prompt):
    """The answer, by reading the prompt."""
    *body, question = prompt.split("\n")
    if kind in ("associative_recall", "phone_book"):
        key = question.removeprefix("The phone number of ").rstrip(":")
        return next(line.split(": ")[1] for line in body if line.startswith(f"{key}:"))
    if kind == "needle":
        return re.search(r"is (\d+)\.", prompt).group(1)
    if kind == "needle_multi_key":
        key = re.fullmatch(r"The secret number of the (.+) is", question).group(1)
        assert len(re.findall(r"secret number of the \w+ \w+ is \d{6}\.", prompt)) == 3
        return re.search(rf"secret number of the {key} is (\d+)\.", prompt).group(1)
    if kind == "needle_multi_value":
        key = re.search(r"secret numbers of the (\w+),", question).group(1)
        found = re.findall(rf"secret number of the {key} is (\d+)\.", prompt)
        assert len(found) == 3
        return ", ".join(found)
    if kind == "variable_tracking":
        name = re.search(r"print\((\w+)\)", prompt).group(1)
        bound = dict(line.split(" = ") for line in body if " = " in line)
        assert all(value.isdigit() or value in bound for value in bound.values())
        for _ in range(3):
            name = bound[name]
        return name
    if kind == "multi_hop":
        person = re.search(r"place where the (.+) is\?", prompt).group(1)
        place = re.search(rf"The {person} is in the (.+?)\.", prompt).group(1)
        assert prompt.count(person) == 2 and prompt.count(f"the {place}") == 2
        return re.search(rf"code of the {place} is (\d+)\.", prompt).group(1)
    counts = count_words(body[0], kind == "common_words")
    best = max(counts.values())
    (answer,) = [word for word, count in counts.items() if count == best]  # one and only one
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_answers_follow_from_prompts(kind):
    for seed in range(3):
        for prompt, answer in examples(kind, seed=seed):
            assert answer == " " + solve(kind, prompt)


@pytest.mark.parametrize("kind", KINDS)
def test_smallest_examples_are_well_posed(kind):
    from hybridattn.diagnostics.kinds import _MODULES

    for i in range(20):
        prompt, answer = _MODULES[kind].example(np.random.default_rng(i), 1)
        assert answer == " " + solve(kind, prompt)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seq_len", [256, 1000, 4096])
def test_length_mask_and_seed(kind, seq_len):
    tokenizer = tiny.tokenizer()
    made = diagnostics.make(kind, tokenizer, 3, seq_len, seed=1)
    data = made.data
    lengths = data.windows[:, 1] - data.windows[:, 0]
    assert (lengths <= seq_len).all() and (lengths > 0.6 * seq_len).all()
    for (start, stop), prompt, answer in zip(data.windows, made.prompts, made.answers, strict=True):
        assert data.tokens[start:stop].tolist() == [*prompt, *answer]
        assert data.weights[start:stop].tolist() == [0.0] * len(prompt) + [1.0] * len(answer)
    again = diagnostics.make(kind, tokenizer, 5, seq_len, seed=1)
    assert np.array_equal(again.data.tokens[: len(data.tokens)], data.tokens)
    assert again.data.fingerprint() != data.fingerprint()
    other = diagnostics.make(kind, tokenizer, 3, seq_len, seed=2).data
    assert not np.array_equal(other.tokens, data.tokens)


def test_bad_requests():
    with pytest.raises(ConfigError, match=r"kind is 'maze'; allowed: associative_recall, "):
        diagnostics.make("maze", tiny.tokenizer(), 1, 100)
    with pytest.raises(DataError, match=r"seq_len is 20; allowed for needle: \d+ or more"):
        diagnostics.make("needle", tiny.tokenizer(), 1, 20)
    with pytest.raises(DataError, match="n is 0"):
        diagnostics.make("needle", tiny.tokenizer(), 0, 100)


def test_largest():
    assert [largest(lambda n: n * n, limit) for limit in (0, 1, 99, 100, 101)] == [0, 1, 9, 10, 10]


def test_weights_survive_take_and_concat():
    made = diagnostics.make("needle", tiny.tokenizer(), 3, 300).data
    part = made.take(slice(1, 3))
    low = made.windows[1, 0]
    assert np.array_equal(part.weights, made.weights[low:])
    both = made.concat([tiny.text_data(64, 128), part], "mix")
    assert (both.weights[:128] == 1).all() and np.array_equal(both.weights[128:], part.weights)
    with pytest.raises(DataError, match="weights has shape"):
        type(made)(made.tokens, made.windows, "x", np.ones(3))


def test_scoring_text_of_a_task():
    text = diagnostics.scoring_text("diagnostic:phone_book", tiny.tokenizer(), 3, 300, seed=4)
    assert text.label == "diagnostic:phone_book" and len(text) == 3
    assert (
        text.fingerprint() == diagnostics.make("phone_book", tiny.tokenizer(), 3, 300, 4).data.fingerprint()
    )


def test_exact_match_counts_right_answers(monkeypatch):
    model = tiny.teacher(max_position_embeddings=512)
    found = evaluate.recall(model, "needle", n=3, seq_len=300, batch_size=2)
    assert found["accuracy"] == 0.0 and found["correct"] == [False] * 3
    assert found["answer_nll"] > 1.0
    made = diagnostics.make("needle", model.tokenizer, 3, 300, 0)
    by_prompt = {tuple(p): a.tolist() for p, a in zip(made.prompts, made.answers, strict=True)}

    def oracle(self, prompts, max_new_tokens):
        """Right but for the last example, and goes on after the answer."""
        made = [by_prompt[tuple(p)] for p in prompts]
        if len(prompts) == 1:
            made[0] = made[0][:-1]
        return [[*tokens, 65] for tokens in made]

    monkeypatch.setattr(type(model), "generate", oracle)
    found = evaluate.recall(model, "needle", n=3, seq_len=300, batch_size=2)
    assert found["correct"] == [True, True, False] and found["accuracy"] == pytest.approx(2 / 3)


def test_selector_is_the_loss_of_the_answers():
    teacher = tiny.teacher(max_position_embeddings=512)
    probe = teacher.to_probe(tiny.MIXERS[0])
    like = tiny.text_data(300, 700)
    scores = select.score(probe, like, "diagnostic:needle", seed=3, progress=False)
    assert scores.text == "diagnostic:needle" and scores.num_sequences == len(like)
    made = diagnostics.make("needle", teacher.tokenizer, len(like), 300, 3)
    base = _answer_nll(teacher, made.data)
    assert scores.options["answer_nll"] == pytest.approx(base, rel=1e-5)
    for layer in range(3):
        hybrid = probe.to_hybrid(set(range(3)) - {layer})
        lost = _answer_nll(hybrid, made.data) - base
        assert scores.values[layer] == pytest.approx(lost, rel=1e-2, abs=2e-4)
