"""Checkpoints: a resumed run is the uninterrupted one bit for bit; a file of another run, or half a file,
is refused.
"""

import json
import signal
import threading

import numpy as np
import pytest
import tiny
from safetensors import safe_open
from tqdm import tqdm

from hybridattn import checkpoint, elastic, radlads
from hybridattn.errors import CheckpointError
from hybridattn.select import LayerScores

pytestmark = pytest.mark.usefixtures("one_thread")

MIXER = tiny.MIXERS[0]
STEPS = 8


def interrupt(monkeypatch, after, act=None):
    """Ctrl-C, or `act`, in the `after`-th step of all training from here on."""
    from hybridattn.radlads import loop as training

    count = 0

    class Bar(tqdm):
        def set_postfix(self, *args, **kwargs):
            nonlocal count
            count += 1
            if count == after:
                if act is None:
                    raise KeyboardInterrupt
                act()
            super().set_postfix(*args, **kwargs)

    monkeypatch.setattr(training, "make_bar", lambda *args, **options: Bar(disable=True))


@pytest.fixture(scope="module")
def data():
    return tiny.text_data(seq_len=24)


def align(data, **options):
    options = {"steps": STEPS, "batch_size": 2, "progress": False, **options}
    return radlads.align(tiny.teacher(), options.pop("mixer", MIXER), data, **options)


def distill(data, hybrid=None, stage="distill", **options):
    hybrid = hybrid or tiny.teacher().to_probe(MIXER).to_hybrid([1])
    options = {
        "steps": STEPS,
        "batch_size": 2,
        "lr_mixers": 1e-3,
        "lr_rest": 1e-3,
        "progress": False,
        **options,
    }
    if stage == "distill":
        return hybrid, radlads.distill(hybrid, tiny.teacher(), data, **options)
    return hybrid, radlads.finetune(hybrid, data, **options)


@pytest.mark.parametrize(
    ("layerwise", "after", "moments"),
    [
        (False, 1, "float32"),
        (False, 5, "float32"),
        (False, 5, "bfloat16"),
        (True, 1, "float32"),
        (True, 5, "float32"),
        (True, 13, "float32"),  # layer by layer goes on past STEPS
        (True, 13, "bfloat16"),
    ],
)
def test_interrupted_align_goes_on_bit_for_bit(tmp_path, monkeypatch, data, layerwise, after, moments):
    options = {"layerwise": layerwise, "moments": moments}
    straight = align(data, **options)
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        with pytest.raises(KeyboardInterrupt):
            align(data, checkpoint=tmp_path, **options)
    resumed = align(data, checkpoint=tmp_path, **options)
    tiny.assert_same_weights(tiny.weights(resumed), tiny.weights(straight))
    assert resumed.train_result.losses.shape == (STEPS, 3)
    assert np.isfinite(resumed.train_result.losses).all()
    assert np.array_equal(resumed.train_result.losses, straight.train_result.losses)


@pytest.mark.parametrize(
    ("stage", "moments"), [("distill", "float32"), ("finetune", "float32"), ("distill", "bfloat16")]
)
def test_interrupted_distillation_goes_on_bit_for_bit(tmp_path, monkeypatch, data, stage, moments):
    straight, result = distill(data, stage=stage, moments=moments)
    file = tmp_path / "x" / "state.safetensors"
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            distill(data, stage=stage, moments=moments, checkpoint=file)
    other = "bfloat16" if moments == "float32" else "float32"
    with pytest.raises(CheckpointError, match=f'moments is "{moments}" in the checkpoint and "{other}"'):
        distill(data, stage=stage, moments=other, checkpoint=file)
    resumed, again = distill(data, stage=stage, moments=moments, checkpoint=file)
    tiny.assert_same_weights(tiny.weights(resumed), tiny.weights(straight))
    assert np.array_equal(again.losses, result.losses)
    assert [f.name for f in file.parent.iterdir()] == ["state.safetensors"]


def test_interrupted_model_is_usable_and_goes_on_itself(tmp_path, monkeypatch, data):
    straight, _ = distill(data)
    hybrid = tiny.teacher().to_probe(MIXER).to_hybrid([1])
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            distill(data, hybrid, checkpoint=tmp_path)
    assert hybrid.generate("The mill", max_new_tokens=4) is not None
    distill(data, hybrid, checkpoint=tmp_path)
    tiny.assert_same_weights(tiny.weights(hybrid), tiny.weights(straight))


def test_an_interrupted_model_with_other_gates_is_another_run(tmp_path, monkeypatch, data):
    order = LayerScores("kl_gate", np.array([[1.0], [0.0], [2.0]]))
    model = elastic.make(tiny.teacher().to_probe(MIXER), order)
    model.set_softmax_layers(1)
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            distill(data, model, checkpoint=tmp_path)
    model.set_softmax_layers(2)
    with pytest.raises(CheckpointError, match=r"gates is \[0.0, 0.0, 1.0\] in the checkpoint"):
        distill(data, model, checkpoint=tmp_path)
    model.set_softmax_layers(1)
    distill(data, model, checkpoint=tmp_path)


def test_a_signal_within_a_step_leaves_the_last_whole_step(tmp_path, monkeypatch, data):
    hybrid = tiny.teacher().to_probe(MIXER).to_hybrid([1])
    # a process started in the background ignores SIGINT until it says otherwise
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            interrupt(patch, 3, threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start)
            with pytest.raises(KeyboardInterrupt):
                distill(data, hybrid, steps=50_000, checkpoint=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    with safe_open(tmp_path / checkpoint.FILE_NAME, framework="numpy") as file:
        done = json.loads(file.metadata()["position"])["step"]
        assert np.isfinite(file.get_tensor("losses")[:done]).all()
    assert done >= 3
    straight, _ = distill(data, steps=done)  # the schedule is constant, so this is how the long run began
    tiny.assert_same_weights(tiny.weights(hybrid), tiny.weights(straight))


def test_a_finished_run_is_not_run_again(tmp_path, data):
    first, result = distill(data, checkpoint=tmp_path)
    again, repeated = distill(data, checkpoint=tmp_path)
    tiny.assert_same_weights(tiny.weights(again), tiny.weights(first))
    assert np.array_equal(result.losses, repeated.losses) and repeated.tokens_per_second == 0


def test_checkpoints_are_written_every_so_many_steps(tmp_path, monkeypatch, data):
    written = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint,
        "save",
        lambda path, run, at, arrays: (written.append(dict(at)), save(path, run, at, arrays)),
    )
    distill(data, checkpoint=tmp_path, checkpoint_steps=3)
    assert [at["step"] for at in written] == [3, 6, 8]
    written.clear()
    (tmp_path / checkpoint.FILE_NAME).unlink()
    distill(data, checkpoint=tmp_path, checkpoint_seconds=1e-9)
    assert written[0] == {"phase": 0, "step": 1}


def test_shared_training_slices_do_not_change_the_result(tmp_path, data):
    one, _ = distill(data, checkpoint=tmp_path, checkpoint_steps=1)
    other, _ = distill(data)
    tiny.assert_same_weights(tiny.weights(one), tiny.weights(other))


@pytest.mark.parametrize(("change", "field"), [
    ({"steps": 9}, "steps is 8 in the checkpoint and 9 in this run"),
    ({"batch_size": 3}, "batch_size is 2"),
    ({"seed": 1}, "seed is 0 in the checkpoint and 1 in this run"),
    ({"lr_rest": 1e-4}, "lr_rest is 0.001 in the checkpoint and 0.0001 in this run"),
    ({"schedule": "cosine"}, 'schedule is "constant"'),
    ({"clip": 0.5}, "clip is 1.0"),
    ({"betas": (0.9, 0.99)}, "betas is"),
    ({"stage": "finetune"}, 'stage is "distill"'),
])  # fmt: skip
def test_another_run_is_refused_by_name(tmp_path, data, change, field):
    distill(data, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match=field) as error:
        distill(data, checkpoint=tmp_path, **change)
    assert str(tmp_path / checkpoint.FILE_NAME) in str(error.value)


def test_other_data_model_or_teacher_is_refused(tmp_path, data):
    distill(data, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="data is"):
        distill(tiny.text_data(seq_len=16), checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="layers is"):
        distill(data, tiny.teacher().to_probe(MIXER).to_hybrid([0]), checkpoint=tmp_path)
    hybrid = tiny.teacher().to_probe(MIXER).to_hybrid([1])
    with pytest.raises(CheckpointError, match="teacher is"):
        radlads.distill(hybrid, tiny.teacher(seed=1), data, STEPS, 2, lr_mixers=1e-3, lr_rest=1e-3,
                        checkpoint=tmp_path, progress=False)  # fmt: skip
    with pytest.raises(CheckpointError, match=r"model\.num_layers is 3"):
        distill(data, tiny.teacher(layers=2).to_probe(MIXER).to_hybrid([1]), checkpoint=tmp_path)


def test_another_start_is_refused(tmp_path, monkeypatch, data):
    """The same settings from other starting weights are another run."""
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            distill(data, checkpoint=tmp_path)
    hybrid = tiny.teacher().to_probe(MIXER).to_hybrid([1])
    hybrid.arrays()["embed.weight"][0, 0] *= 1.001
    before = tiny.weights(hybrid)
    with pytest.raises(CheckpointError, match="start is"):
        distill(data, hybrid, checkpoint=tmp_path)
    tiny.assert_same_weights(tiny.weights(hybrid), before)
    distill(data, checkpoint=tmp_path)  # the right one goes on


def test_another_version_is_refused(tmp_path, monkeypatch, data):
    distill(data, checkpoint=tmp_path)
    monkeypatch.setattr("hybridattn.radlads.steps.__version__", "0.0.9")
    with pytest.raises(CheckpointError, match="version is"):
        distill(data, checkpoint=tmp_path)


def test_the_last_checkpoint_can_be_left_out(tmp_path, data):
    distill(data, checkpoint=tmp_path, checkpoint_steps=3, checkpoint_last=False)
    assert checkpoint.load(tmp_path).position["step"] == 6
    again, _ = distill(data, checkpoint=tmp_path, checkpoint_last=False)
    straight, _ = distill(data)
    tiny.assert_same_weights(tiny.weights(again), tiny.weights(straight))
    distill(data, checkpoint=tmp_path / "none", checkpoint_last=False)
    assert not (tmp_path / "none").exists()


def test_a_refused_checkpoint_leaves_the_model_alone(tmp_path, data):
    distill(data, checkpoint=tmp_path)
    hybrid = tiny.teacher().to_probe(MIXER).to_hybrid([1])
    before = tiny.weights(hybrid)
    with pytest.raises(CheckpointError):
        distill(data, hybrid, checkpoint=tmp_path, steps=9)
    tiny.assert_same_weights(tiny.weights(hybrid), before)


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, -1])
def test_a_truncated_file_is_refused_by_name(tmp_path, data, keep):
    distill(data, checkpoint=tmp_path)
    file = tmp_path / checkpoint.FILE_NAME
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match="not a whole checkpoint") as error:
        distill(data, checkpoint=tmp_path)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_other_safetensors_files_are_refused(tmp_path, data):
    tiny.teacher().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").replace(tmp_path / checkpoint.FILE_NAME)
    with pytest.raises(CheckpointError, match="format is 'pt'"):
        distill(data, checkpoint=tmp_path)


def test_tensors_that_do_not_fit_are_named(tmp_path):
    arrays = {"a": np.zeros(3, np.float32)}
    checkpoint.save(tmp_path, {}, {"phase": 0, "step": 1}, arrays)
    for wanted, message in (
        ({"a": np.zeros(4, np.float32)}, r"tensor 'a' is float32 \[3\]; this run needs float32 \[4\]"),
        ({"a": np.zeros(3)}, "needs float64"),
        ({}, "'a' is not part of this run"),
        ({**arrays, "b": np.zeros(1)}, "'b' is missing"),
    ):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.fill(tmp_path / checkpoint.FILE_NAME, wanted)


def test_what_is_in_the_file(tmp_path, data):
    align(data, checkpoint=tmp_path)
    with safe_open(tmp_path / checkpoint.FILE_NAME, framework="numpy") as file:
        names, metadata = set(file.keys()), file.metadata()
        assert file.get_tensor("losses").dtype == np.float64
    assert json.loads(metadata["position"]) == {"phase": 0, "step": STEPS}
    assert json.loads(metadata["run"])["stage"] == "align"
    assert {"param", "m", "v"} == {name.split(".")[0] for name in names - {"losses"}}
    assert all(".window_linear." in name for name in names - {"losses"})  # nothing frozen is stored
