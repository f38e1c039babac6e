"""Classification by likelihood: the choice with the largest log p, shots drawn by seed, normalisation."""

import numpy as np
import pytest
import tiny

from hybridattn import glue
from hybridattn.errors import ConfigError, DataError
from hybridattn.evaluate.choices import Prompt, classify, draw

SST2 = glue.TASKS["SST-2"]
PROMPT = Prompt("{text_a}\n?", (" negative", " fine"))


def split(texts, labels=None, task=SST2):
    labels = labels or [None] * len(texts)
    return glue.Split(
        task,
        "validation",
        [glue.Example(str(i), t, None, v) for i, (t, v) in enumerate(zip(texts, labels, strict=True))],
    )


def logp(model, context, choice):
    ids = model.tokenizer.encode(context + choice)
    return -model.nll(np.array([ids], np.int32))[0, len(model.tokenizer.encode(context)) - 1 :].sum()


@pytest.mark.parametrize("normalize, lengths", [("none", (1, 1)), ("tokens", (9, 5)), ("bytes", (9, 5))])
def test_the_likeliest_choice(normalize, lengths):
    model, texts = tiny.teacher(), ["a good film", "dull", "x y z"]
    found = classify(model, split(texts), PROMPT, normalize=normalize, batch_size=2)
    want = [[logp(model, f"{t}\n?", c) / n for c, n in zip(PROMPT.choices, lengths)] for t in texts]
    np.testing.assert_allclose(found.scores, want, rtol=1e-4)
    assert found.predictions == np.argmax(want, axis=1).tolist() and found.truncated == 0


def test_shots_go_before_the_question():
    model, pool = tiny.teacher(), split(["m", "n", "o", "p"], [0, 0, 0, 1])
    shots = draw(2, pool, seed=3)
    assert sorted(e.label for e in shots) == [0, 1]  # labels by turns, though one is rare
    assert draw(4, pool, 3)[:2] == shots and draw(2, pool, 3) == shots and draw(0, None, 3) == []
    before = "".join(f"{e.text_a}\n?{PROMPT.choices[e.label]}\n\n" for e in shots)
    found = classify(model, split(["dull"]), PROMPT, shots=2, pool=pool, seed=3)
    want = [logp(model, f"{before}dull\n?", choice) for choice in PROMPT.choices]
    np.testing.assert_allclose(found.scores[0], want, rtol=1e-4)
    for wrong in (None, pool.take(1)):
        with pytest.raises(ConfigError, match=r"shots is 2; allowed: 0 to [01], the examples to draw from"):
            classify(model, split(["dull"]), PROMPT, shots=2, pool=wrong)
    with pytest.raises(ConfigError, match="seed is -1; allowed: an integer of at least 0"):
        classify(model, split(["dull"]), PROMPT, shots=2, pool=pool, seed=-1)
    with pytest.raises(DataError, match="label of example 0 is None"):
        classify(model, split(["dull"]), PROMPT, shots=1, pool=split(["secret"]))


def test_regression_is_the_mean_of_the_values():
    model, task = tiny.teacher(), glue.TASKS["STS-B"]
    prompt = Prompt("{text_a}", (" 0", " 5"), (0.0, 5.0))
    found = classify(model, split(["close"], task=task), prompt)
    p = np.exp([logp(model, "close", c) for c in prompt.choices])
    assert found.predictions[0] == pytest.approx(5.0 * p[1] / p.sum(), rel=1e-3)
    assert prompt.answered(glue.Example("0", "a", None, 3.1)) == "a 5"
    assert glue.PROMPTS["STS-B"].answered(glue.Example("0", "a", "b", 3.4)).endswith("0 to 5: 3")


def test_long_prompts_lose_their_beginning():
    model = tiny.teacher(max_position_embeddings=32)
    found = classify(model, split(["dull", "dull " * 20]), PROMPT)
    assert found.truncated == 1
    want = logp(model, ("dull " * 20 + "\n?")[-24:], " negative")
    assert found.scores[1, 0] == pytest.approx(want, rel=1e-4)


def test_bad_requests():
    model = tiny.teacher()
    for changes, message in (
        (dict(template="{text}"), "template is '{text}'; allowed: text with {text_a} and {text_b}"),
        (dict(template="{text_a.foo}"), "template is '{text_a.foo}'; allowed: text with {text_a}"),
        (dict(template="{text_a[b]}"), r"template is '{text_a\[b\]}'; allowed: text with {text_a}"),
        (dict(choices=("a",)), "choices is"),
        (dict(choices=("a", "")), "choices is"),
        (dict(values=(1.0,)), r"values is \(1.0,\); allowed: 2 numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            Prompt(**{"template": "{text_a}", "choices": ("a", "b"), **changes})
    with pytest.raises(ConfigError, match="3, the labels of MNLI"):
        classify(model, split(["a"], task=glue.TASKS["MNLI"]), PROMPT)
    with pytest.raises(ConfigError, match="normalize is 'words'; allowed: none, tokens, bytes"):
        classify(model, split(["a"]), PROMPT, normalize="words")
    with pytest.raises(ConfigError, match="batch_size is 0; allowed: an integer of at least 1"):
        classify(model, split(["a"]), PROMPT, batch_size=0)
    with pytest.raises(DataError, match="SST-2 validation has no examples; allowed: 1 or more"):
        classify(model, split([]), PROMPT)
    model.tokenizer = None
    with pytest.raises(DataError, match="tokenizer is None"):
        classify(model, split(["a"]), PROMPT)
