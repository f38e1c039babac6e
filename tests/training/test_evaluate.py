"""Perplexity, windows and cost of tiny models."""

import json
import math

import pytest
import tiny

from hybridattn import evaluate, measure, radlads
from hybridattn._core import Cache
from hybridattn.errors import ConfigError
from hybridattn.evaluate.text import spans

pytestmark = pytest.mark.usefixtures("one_thread")


def test_plain_perplexity_is_the_mean_nll(data):
    model = tiny.teacher()
    found = evaluate.perplexity(model, data, batch_size=3)
    by_hand = [model.nll(data.tokens[None, start:stop]).astype(float).sum() for start, stop in data.windows]
    assert found["tokens"] == data.num_tokens - len(data)
    assert found["nll"] == pytest.approx(sum(by_hand) / found["tokens"], rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(found["nll"]))


@pytest.mark.parametrize(
    ("n", "seq_len", "stride"), [(50, 16, 16), (50, 16, 5), (49, 16, 16), (10, 16, 4), (33, 16, 16)]
)
def test_spans_count_every_token_once(n, seq_len, stride):
    windows, first = spans(n, seq_len, stride)
    counted = [t for (start, stop), skip in zip(windows, first) for t in range(start + skip, stop)]
    left_out = set(range(n)) - set(counted)
    assert len(counted) == len(set(counted))
    assert left_out == ({0} if stride < seq_len else set(range(0, n, seq_len)))
    assert (windows[:, 1] - windows[:, 0] <= seq_len).all()


def test_sliding_perplexity_has_more_context(data):
    model = tiny.teacher()
    radlads.finetune(model, data, steps=40, batch_size=4, lr_mixers=3e-3, lr_rest=3e-3, progress=False)
    plain, sliding = (
        evaluate.perplexity(model, tiny.TEXT, seq_len=32, stride=stride) for stride in (None, 8)
    )
    assert sliding["tokens"] == len(model.tokenizer.encode(tiny.TEXT)) - 1
    assert sliding.perplexity < plain.perplexity
    bits = sliding["nll"] / math.log(2)
    assert sliding["bits_per_byte"] == pytest.approx(bits, rel=1e-3)  # one token is one byte here
    assert sliding.word_perplexity > sliding.perplexity


def test_evaluate_refuses_by_name(data):
    model = tiny.teacher()
    for options, message in (
        ({"seq_len": 1}, "seq_len is 1"),
        ({"seq_len": 257}, "seq_len is 257; allowed: 2 to the model's 256 positions"),
        ({"seq_len": 32, "stride": 33}, "stride is 33"),
    ):
        with pytest.raises(ConfigError, match=message):
            evaluate.perplexity(model, tiny.TEXT, **options)
    with pytest.raises(ConfigError, match="seq_len is 32; allowed: 48"):
        evaluate.perplexity(model, data, seq_len=32)


def test_measure(aligned):
    hybrid = aligned.to_hybrid([0])
    found = measure.latency(hybrid, (16, 64), decode_tokens=2, repeats=2)
    assert list(found["prefill"]) == list(found["decode"]) == list(found["cache_bytes"]) == [16, 64]
    assert min([*found["prefill"].values(), *found["decode"].values()]) > 0
    json.dumps(found.to_dict())
    sizes = [Cache(aligned.to_hybrid(range(n))).bytes_per_token for n in range(4)]
    assert sizes == [n * 2 * 4 * 2 * 8 for n in range(4)]  # linear layers hold nothing per token
    with pytest.raises(ConfigError, match="lengths is 500"):
        measure.latency(hybrid, (500,))
