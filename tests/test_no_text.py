"""None, and other things that are no text, where rows of data sets have them: an error names the row."""

import numpy as np
import pytest
import tiny

import hybridattn as ha
from hybridattn import diagnostics
from hybridattn.data.prompts import encode_pair
from hybridattn.errors import HybridAttnError
from hybridattn.evaluate import choices, glue, squad
from hybridattn.evaluate.lm_eval import HybridAttnLM

MODEL = tiny.teacher(layers=1)
TOKENIZER = MODEL.tokenizer
QUESTION = squad.Question("1", "t", "c", "q", ("moon",))
YES_NO = choices.Prompt("{text_a}? {text_b}", (" yes", " no"))


class Request:
    def __init__(self, *args):
        self.args = args


def classified(text_a, text_b, prompt=YES_NO):
    rows = [glue.Example("7", text_a, text_b, 1)]
    return choices.classify(MODEL, glue.Split(glue.TASKS["RTE"], "validation", rows), prompt)


CALLS = {
    "texts": (lambda: ha.TokenData.from_text(["the moon", None], TOKENIZER, 8), "text 1 is None"),
    "no texts": (lambda: ha.TokenData.from_text(None, TOKENIZER, 8), "texts is None"),
    "a number among texts": (
        lambda: ha.TokenData.from_text(["a b", float("nan")], TOKENIZER, 8), "text 1 is nan",
    ),
    "first text": (lambda: classified(None, "a"), "text_a of example 7 is None"),
    "second text": (lambda: classified("a", None), "text_b of example 7 is None"),
    "context": (lambda: squad.Question("1", "t", None, "q", ()), "context of question '1' is None"),
    "question": (lambda: squad.Question("1", "t", "c", 5, ()), "question of question '1' is 5"),
    "answers": (lambda: squad.Question("1", "t", "c", "q", ("a", None)), "answers of question '1'"),
    "prediction": (lambda: squad.evaluate([QUESTION], {"1": None}, resamples=0), "question '1' is None"),
    "a list of predictions": (lambda: squad.evaluate([QUESTION], ["moon"], resamples=0), "predictions is "),
    "label": (lambda: glue.evaluate(glue.TASKS["RTE"], [1, None], [1, 0]), "predictions"),
    "pair": (lambda: encode_pair(TOKENIZER, None, "a"), "context is None"),
    "continuation": (
        lambda: HybridAttnLM(MODEL, progress=False).loglikelihood([Request("a", None)]),
        "continuation is None",
    ),
    "rolling": (
        lambda: HybridAttnLM(MODEL, progress=False).loglikelihood_rolling([Request(None)]), "is None",
    ),
    "prompt": (lambda: MODEL.generate(["a", None]), "prompt is None"),
    "temperature": (lambda: MODEL.generate("a", temperature=None), "temperature is None"),
    "top_p": (lambda: MODEL.generate("a", top_p="0.9"), "top_p is '0.9'"),
    "stop": (lambda: MODEL.generate("a", stop=[None]), "stop is None"),
    "ids": (lambda: TOKENIZER.decode([1, None]), "ids is "),
    "text as ids": (lambda: TOKENIZER.decode("abc"), "ids is 'abc'"),
    "a share of an id": (lambda: TOKENIZER.decode([1.5]), "ids is "),
    "examples": (lambda: diagnostics.make("needle", TOKENIZER, None, 64, 0), "n is None"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_text_is_named(name):
    call, says = CALLS[name]
    with pytest.raises(HybridAttnError) as caught:
        call()
    assert says in str(caught.value)


def test_what_is_not_needed_may_be_none():
    one = choices.Prompt("{text_a}?", (" yes", " no"))
    assert classified("a", None, one).scores.shape == (1, 2)
    assert MODEL.generate("a", stop=None, max_new_tokens=3) == MODEL.generate("a", max_new_tokens=3)
    lm = HybridAttnLM(MODEL, progress=False, max_gen_toks=2)
    assert lm.generate_until([Request("a", None)]) == lm.generate_until([Request("a", {})])


@pytest.mark.parametrize("ids", [np.array([1, 2]), [np.int64(1), 2], (1, 2), iter([1, 2])])
def test_ids_of_every_kind(ids):
    assert TOKENIZER.decode(ids) == TOKENIZER.decode([1, 2])
