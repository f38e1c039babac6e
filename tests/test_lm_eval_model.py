"""The lm-eval model: its plain methods against whole sequences; lm-eval's own tasks on local data where it is
installed.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from tokenizer_cases import roberta, sentence_piece

from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import ConfigError, DataError
from hybridattn.evaluate import lm_eval as lm_eval_model
from hybridattn.evaluate.lm_eval import HybridAttnLM, rolling


def ask(*rows):
    return [SimpleNamespace(args=row) for row in rows]


def plain(model, context, text):
    """log p of the tokens of `text` after those of `context`."""
    tokens = np.array([[*context, *text]], np.int32)
    return -float(model.nll(tokens)[0, len(context) - 1 :].astype(np.float64).sum())


@pytest.fixture(params=["softmax", "window_linear"])
def model(request):
    teacher = tiny.teacher()
    return teacher if request.param == "softmax" else teacher.to_probe({"kind": request.param}).to_hybrid([1])


def test_loglikelihood(model):
    lm, ids = HybridAttnLM(model, batch_size=2, progress=False), model.tokenizer.encode
    rows = [("A cat", " sat"), ("", "abc"), ("A cat", " slept on"), ("Dogs ", "run"), ("x" * 400, " y")]
    found = lm.loglikelihood(ask(*rows))
    want = [
        plain(model, ids("A cat"), ids(" sat")),
        plain(model, [tiny.EOS], ids("abc")),
        plain(model, ids("A cat"), ids(" slept on")),
        plain(model, ids("Dogs"), ids(" run")),
        plain(model, ids("x" * 255), ids(" y")),
    ]
    np.testing.assert_allclose([value for value, _ in found], want, rtol=1e-4)
    assert not any(greedy for _, greedy in found)
    short = HybridAttnLM(model, max_length=40, progress=False)
    ((value, _),) = short.loglikelihood(ask(("A cat", " " + "x" * 39)))  # 40 tokens are read: "t" and 39
    assert value == pytest.approx(plain(model, ids("t"), ids(" " + "x" * 39)), rel=1e-4)
    with pytest.raises(DataError, match="40 tokens are to be read after the prompt; allowed: 39"):
        short.loglikelihood(ask(("A cat", " " + "x" * 40)))


def test_greedy_continuations_are_told(model):
    lm, asked = HybridAttnLM(model, batch_size=2, progress=False), []
    for context in ("A cat", "Dogs", "It", "b", "c", "d", "e", "f"):
        tokens = np.array([model.tokenizer.encode(context)], np.int32)
        best = int(model.logits(tokens)[0, -1].argmax())
        text = model.tokenizer.decode([best])
        if model.tokenizer.encode(text) == [best]:  # not a byte within a character
            asked.append((context, text))
    assert len(asked) >= 2
    assert [greedy for _, greedy in lm.loglikelihood(ask(*asked))] == [True] * len(asked)


def test_rolling_predicts_every_token_once(model):
    ids = model.tokenizer.encode
    text = tiny.TEXT[:100]
    lm = HybridAttnLM(model, progress=False)
    assert lm.loglikelihood_rolling(ask((text,)))[0] == pytest.approx(
        plain(model, [tiny.EOS], ids(text)), rel=1e-5
    )
    lm = HybridAttnLM(model, max_length=40, progress=False)
    tokens = [tiny.EOS, *ids(text)]
    # as lm-eval: windows of 40 predicted tokens, the last one moved to the front to be as long
    assert rolling(100, 40) == [(0, 1, 41), (40, 41, 81), (60, 81, 101)]
    windows = rolling(100, 40)
    want = sum(plain(model, tokens[start:first], tokens[first:stop]) for start, first, stop in windows)
    assert lm.loglikelihood_rolling(ask((text,), (text,))) == pytest.approx([want] * 2, rel=1e-5)


def test_generate_until(model):
    lm, ids = HybridAttnLM(model, batch_size=2, max_gen_toks=9, progress=False), model.tokenizer.encode
    greedy = lambda text, n: model.tokenizer.decode(model.generate([ids(text)], max_new_tokens=n)[0])  # noqa: E731
    texts = ["A cat", "Dogs run far", "It"]
    whole = [greedy(text, 9) for text in texts]
    assert lm.generate_until(ask(*((text, {"until": []}) for text in texts))) == whole
    stop = whole[1][3]
    rows = [
        (texts[0], {"max_gen_toks": 4}),
        (texts[1], {"until": stop, "do_sample": False, "temperature": 0.7}),
    ]
    found = lm.generate_until(ask(*rows))
    assert found == [greedy(texts[0], 4), whole[1][: whole[1].index(stop)]]
    assert lm.generate_until(ask(("y" * 400, {})))[0] == greedy("y" * 247, 9)
    drawn = [lm.generate_until(ask(("A", {"do_sample": True, "seed": seed})))[0] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(ConfigError, match="generation option beams is 3; allowed: until, max_gen_toks"):
        lm.generate_until(ask(("A", {"beams": 3})))


def test_settings(tmp_path):
    model = tiny.teacher()
    model.save_pretrained(tmp_path / "m")
    lm = HybridAttnLM(str(tmp_path / "m"), batch_size="4", max_length=64)
    assert (lm.batch_size, lm.max_length) == (4, 64) and HybridAttnLM(model, "auto").batch_size == 8
    with pytest.raises(ConfigError, match="device is 'cuda'; allowed: cpu"):
        HybridAttnLM(model, device="cuda")
    with pytest.raises(ConfigError, match="max_length is 257; allowed: an integer from 2 to 256"):
        HybridAttnLM(model, max_length=257)
    model.tokenizer.chat_template = "<|im_start|><|im_end|>"
    lm = HybridAttnLM(model)
    assert lm.apply_chat_template([{"role": "user", "content": "Hi"}]) == "<|im_start|><|im_end|>"
    assert lm.chat_template(True) == "<|im_start|><|im_end|>" and lm.chat_template() == ""
    model.tokenizer = None
    with pytest.raises(DataError, match="tokenizer is None"):
        HybridAttnLM(model)


TASKS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "Is {{q}} red?",
        "doc_to_choice": [" yes", " no, not"],
        "doc_to_target": "{{a}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{q}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
    "until": {
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{q}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 5},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
}


@pytest.mark.lm_eval
def test_tasks_of_lm_eval_on_local_data(tmp_path, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    docs = [{"q": q, "a": i % 2} for i, q in enumerate(["the cat", "a fire truck", "grass", "blood"])]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    for name, task in TASKS.items():
        data = {"data_files": {"test": str(tmp_path / "docs.jsonl")}}
        config = {
            "task": f"local_{name}",
            "dataset_path": "json",
            "dataset_kwargs": data,
            "test_split": "test",
        }
        config |= task
        (tmp_path / f"{name}.yaml").write_text(json.dumps(config))  # JSON is YAML
    model = tiny.teacher()
    lm = lm_eval_model.HybridAttnLM(model, batch_size=2, progress=False)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model=lm, tasks=[f"local_{name}" for name in TASKS], task_manager=manager, bootstrap_iters=0
    )["results"]  # fmt: skip
    ids, hits = model.tokenizer.encode, []
    for doc in docs:
        values = [plain(model, ids(f"Is {doc['q']} red?"), ids(c)) for c in (" yes", " no, not")]
        hits.append(int(np.argmax(values)) == doc["a"])
    assert found["local_choice"]["acc,none"] == np.mean(hits)
    nats = -sum(plain(model, [tiny.EOS], ids(doc["q"])) for doc in docs)
    size = sum(len(doc["q"].encode()) for doc in docs)
    assert found["local_rolling"]["bits_per_byte,none"] == pytest.approx(nats / size / np.log(2), rel=1e-4)
    assert found["local_until"]["exact_match,none"] == 0.0
    from lm_eval.api.registry import get_model

    assert get_model("hybridattn") is HybridAttnLM


# --- options, batch sizes, devices ---


@pytest.mark.parametrize(
    "more",
    [
        {"num_beams": 1},
        {"repetition_penalty": 1.0},
        {"num_beams": 1, "early_stopping": True, "length_penalty": 1.0},
        {"no_repeat_ngram_size": 0, "min_new_tokens": 0, "typical_p": 1.0, "penalty_alpha": None},
        {"do_sample": None, "temperature": None, "top_p": None},
        {"max_gen_toks": 6, "max_new_tokens": 3},
        {"max_gen_toks": 6, "max_tokens": 2, "max_completion_tokens": 1},
        {"max_gen_toks": None, "max_new_tokens": 6},
        {"max_gen_toks": "6"},
        {"max_gen_toks": 6.0},
        {"max_completion_tokens": 6},
        {"max_length": 7},  # one token of context and six more
        {"max_length": 7, "max_gen_toks": 9},
        {"use_cache": False, "frequency_penalty": 0.0, "min_p": 0.0},
        {"until": None},
        {"until": [""]},
    ],
)
def test_options_that_change_nothing(more):
    lm = HybridAttnLM(tiny.teacher(), max_gen_toks=6, progress=False)
    assert lm.generate_until(ask(("A", {"until": [], **more}))) == lm.generate_until(ask(("A", {})))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"num_beams": 10}, "generation option num_beams is 10; allowed: 1, which changes nothing"),
        ({"repetition_penalty": 1.1}, "repetition_penalty is 1.1; allowed: 1"),
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size is 3; allowed: 0"),
        ({"max_gen_toks": 0}, "max_gen_toks is 0"),
        ({"max_new_tokens": "many"}, "max_new_tokens is 'many'"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"do_sample": "yes"}, "do_sample is 'yes'"),
        ({"until": [3]}, "until is .3."),
        ({"top_p": 2.0}, "top_p is 2.0"),
        ({"suppress_tokens": [1]}, "generation option suppress_tokens is .1.; allowed: until, max_gen_toks"),
    ],
)
def test_options_that_would_change_something_are_named(more, message):
    with pytest.raises(ConfigError, match=message):
        HybridAttnLM(tiny.teacher(), progress=False).generate_until(ask(("A", more)))


def test_a_context_longer_than_max_length():
    with pytest.raises(DataError, match="max_length is 4 with 6 tokens of context"):
        HybridAttnLM(tiny.teacher(), progress=False).generate_until(
            ask(("abcdef", {"max_length": 4, "max_gen_toks": 5}))
        )


def test_batch_sizes_and_devices():
    model = tiny.teacher(layers=1)
    for given, want in (("auto", 8), ("auto:4", 8), ("auto:0.5", 8), (3, 3), ("16", 16)):
        assert HybridAttnLM(model, batch_size=given).batch_size == want
    for given, most, want in (("auto", 3, 3), ("auto:2", 30, 8), (16, 4, 16)):
        assert HybridAttnLM(model, batch_size=given, max_batch_size=most).batch_size == want
    for given in ("auto:", "auto:x", "auto:-1", "many", 0, "0", -2, 1.5):
        with pytest.raises(ConfigError, match="batch_size is"):
            HybridAttnLM(model, batch_size=given)
    for device in (None, "cpu", "cpu:0", "mps", "xpu"):
        HybridAttnLM(model, device=device)
    for device in ("cuda", "cuda:1", "CUDA:0"):
        with pytest.raises(ConfigError, match=r"(?i)device is 'cuda"):
            HybridAttnLM(model, device=device)


@pytest.mark.parametrize("context", ["A cat\n", "A cat \n\n", "A\tcat\t", "A cat\r\n ", "A cat\u00a0", " \n"])
def test_all_white_space_moves(model, context):
    """The pairs that lm-eval makes: white space at the end of a context is the continuation's."""
    lm, ids = HybridAttnLM(model, progress=False), model.tokenizer.encode
    bare = context.rstrip()
    want = plain(model, ids(bare) or [tiny.EOS], ids(context[len(bare) :] + "sat"))
    assert lm.loglikelihood(ask((context, "sat")))[0][0] == pytest.approx(want, rel=1e-4)


CLOSING = {
    "around": lambda: Tokenizer(sentence_piece("<s> $A </s>"), bos_token_id=1, eos_token_id=2),
    "after": lambda: Tokenizer(sentence_piece("$A </s>"), bos_token_id=1, eos_token_id=2),
    "an encoder's": lambda: Tokenizer(roberta(), bos_token_id=0, eos_token_id=2),
}


@pytest.mark.parametrize("kind", CLOSING)
def test_a_tokenizer_that_closes_texts_closes_none_here(kind):
    model = tiny.teacher(vocab_size=400)
    model.tokenizer = CLOSING[kind]()
    lm = HybridAttnLM(model, progress=False)
    rows = [("the moon", " wheel"), ("the", " moon a")]
    for (context, continuation), (score, _) in zip(rows, lm.loglikelihood(ask(*rows)), strict=True):
        bare = [model.tokenizer.core.encode(t, add_special_tokens=False).ids
                for t in (context, context + continuation)]  # fmt: skip
        before = [] if kind == "after" else [model.tokenizer.bos_token_id]
        assert bare[1][: len(bare[0])] == bare[0]
        want = plain(model, before + bare[0], bare[1][len(bare[0]) :])
        assert score == pytest.approx(want, rel=1e-4)


def test_rolling_with_learned_positions_reads_no_more_than_there_are():
    from hybridattn.model.model import Model

    folder = Path(__file__).parent / "golden" / "families" / "gpt2"
    model = Model.from_pretrained(folder)
    model.tokenizer = tiny.tokenizer()
    limit = model.model_config.max_positions
    lm = HybridAttnLM(model, progress=False)
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, model.model_config.vocab_size, 3 * limit + 5).astype(np.int32)
    windows = rolling(len(tokens) - 1, limit)
    assert sum(stop - first for _, first, stop in windows) == len(tokens) - 1
    for start, first, stop in windows:
        part = tokens[start : stop - 1]
        logits = model.logits(part[None])[0].astype(np.float64)
        logp = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        logp -= logits.max(1, keepdims=True)
        want = -logp[np.arange(first - start - 1, len(part)), tokens[first:stop]].sum()
        assert lm._nll(tokens, start, first, stop) == pytest.approx(want, rel=1e-5)
