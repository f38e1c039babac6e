"""A budget of memory: the process stays within it, the model is the one that the chosen settings give, and
less than the least is refused with the figure.
"""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from hybridattn import ConfigError, _core, radlads
from hybridattn.checks import bytes_of

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc"),
]

TESTS = Path(__file__).parents[1]
OPTIONS = {"steps": 2, "batch_size": 2, "progress": False}


@pytest.fixture(scope="module")
def data():
    return tiny.text_data(seq_len=32)


def hybrid():
    return tiny.teacher().to_probe(tiny.MIXERS[1]).to_hybrid([1])


def test_sizes():
    assert (
        bytes_of("2GiB") == 2**31 and bytes_of("1.5 MB") == 1_500_000 and bytes_of("77") == bytes_of(77) == 77
    )
    for wrong in ("2 gigs", "", "-1", "GiB", "2GiB of it", 0, -5, True, 1.5, "0"):
        with pytest.raises(ConfigError, match="memory is"):
            bytes_of(wrong)
    with pytest.raises(ConfigError, match="memory is '2 gigs'"):
        radlads.distill(hybrid(), tiny.teacher(), None, 1, 1, memory="2 gigs")


@pytest.mark.parametrize("stage", ["align", "distill", "finetune"])
def test_less_than_the_least_says_the_least(data, stage):
    def train(memory):
        if stage == "align":
            return radlads.align(tiny.teacher(), tiny.MIXERS[1], data, memory=memory, **OPTIONS)
        if stage == "distill":
            return radlads.distill(hybrid(), tiny.teacher(), data, memory=memory, **OPTIONS)
        return radlads.finetune(hybrid(), data, memory=memory, **OPTIONS)

    with pytest.raises(ConfigError, match=r"memory is '1MiB'; allowed: at least [\d,]+ MiB") as error:
        train("1MiB")
    least = int(re.search(r"\((\d+) bytes\)", str(error.value))[1])
    train(least + (64 << 20))  # what else the process came to hold since


def test_a_large_budget_keeps_the_bits(data):
    plain, budget = hybrid(), hybrid()
    losses = radlads.distill(plain, tiny.teacher(), data, **OPTIONS).losses
    assert np.array_equal(
        radlads.distill(budget, tiny.teacher(), data, memory="1TiB", **OPTIONS).losses, losses
    )
    tiny.assert_same_weights(tiny.weights(budget), tiny.weights(plain))


def test_recomputing_some_layers_keeps_the_bits(data):
    found = []
    for recompute in (0, 2, True, 99):
        model = hybrid()
        radlads.distill(model, tiny.teacher(), data, recompute=recompute, **OPTIONS)
        found.append(tiny.weights(model))
    for other in found[1:]:
        tiny.assert_same_weights(other, found[0])


@pytest.mark.parametrize("stage", ["distill", "finetune"])
def test_a_rehearsal_tells_the_peak_and_changes_nothing(data, stage):
    model, teacher = hybrid(), tiny.teacher()
    before, windows = tiny.weights(model), data.windows[None, :3]
    trainer = _core.Distiller(model, teacher if stage == "distill" else None, stage, recompute=True)
    peak, kept = trainer.rehearse(data.tokens, windows)
    assert (peak, kept.tolist()) == (lambda again: (again[0], again[1].tolist()))(
        trainer.rehearse(data.tokens, windows)
    )
    assert kept.shape == (3,) and (kept > 0).all() and peak > 3 * 96 * 4
    tiny.assert_same_weights(tiny.weights(model), before)
    assert not any(view.numpy().any() for table in trainer.moments().values() for view in table.values())
    rates = np.full((1, 2), 1e-3, np.float32)
    first = _core.Distiller(hybrid(), teacher if stage == "distill" else None, stage, micro_batch=3)
    trainer.reserve(peak)
    assert trainer.run(data.tokens, windows, rates, 0, 1) == first.run(data.tokens, windows, rates, 0, 1)
    with pytest.raises(ValueError, match="bytes is -1"):
        trainer.reserve(-1)


def test_a_run_goes_on_as_it_was_chosen(tmp_path, data):
    model, straight = hybrid(), hybrid()
    options = {**OPTIONS, "moments": "bfloat16", "micro_batch": 1}
    radlads.distill(straight, tiny.teacher(), data, **options)
    radlads.distill(model, tiny.teacher(), data, memory="1TiB", checkpoint=tmp_path, **options)
    tiny.assert_same_weights(tiny.weights(model), tiny.weights(straight))
    again = hybrid()  # without a budget, the same settings said by name
    radlads.distill(again, tiny.teacher(), data, checkpoint=tmp_path, **options)
    tiny.assert_same_weights(tiny.weights(again), tiny.weights(straight))


PEAK = """
import json
import logging
import re
import sys
sys.path.insert(0, sys.argv[1])
import tiny
from hybridattn import _core, radlads
_core.set_num_threads(1)
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
sizes = {"hidden_size": 256, "intermediate_size": 1024, "vocab_size": 12_000, "head_dim": 64,
         "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512}
teacher = tiny.teacher(layers=4, **sizes)
hybrid = teacher.to_probe({"kind": "gated_delta"}, seed=0).to_hybrid([1])
data = tiny.text_data(256)
def hwm():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\\s+(\\d+)", file.read())[1]) << 10
at_start, error = hwm(), ""
try:
    radlads.distill(hybrid, teacher, data, 1, 2, progress=False, memory=int(sys.argv[2]))
except Exception as wrong:
    error = str(wrong)
print(json.dumps([at_start, hwm(), error]))
"""


def in_a_process(memory):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(TESTS), str(memory)], capture_output=True, text=True, check=True
    )
    return *json.loads(done.stdout), done.stderr


def test_the_peak_of_a_process_keeps_within_the_budget():
    start, _, error, _ = in_a_process(1)
    least = int(re.search(r"\((\d+) bytes\)", error)[1])
    assert start < least
    budget = least + (2 << 20)
    _, peak, error, said = in_a_process(budget)
    assert not error and peak <= budget, said
    assert "moments bfloat16" in said and peak > 0.8 * budget


def test_what_is_chosen_is_said(data, caplog):
    with caplog.at_level(logging.INFO):
        radlads.finetune(hybrid(), data, memory="1TiB", **OPTIONS)
    assert "finetune within" in caplog.text and "moments float32" in caplog.text
