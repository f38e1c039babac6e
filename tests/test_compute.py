"""compute="bfloat16": what it computes, who it is passed on to, and what is refused."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tiny
from golden import recipe as golden
from test_checkpoint import MIXER, distill, interrupt

import hybridattn
from hybridattn import _core, compute
from hybridattn.errors import CheckpointError, ConfigError
from hybridattn.model.model import Model
from hybridattn.pipeline.recipe import Recipe

NATIVE = hybridattn.show_config()["bfloat16"] != "portable"
pytestmark = pytest.mark.filterwarnings("ignore:compute is 'bfloat16':RuntimeWarning")


@pytest.fixture(scope="module")
def data():
    return tiny.text_data(seq_len=24)


def tokens(model, rows=2, length=40):
    return np.random.default_rng(0).integers(0, model.config["vocab_size"], (rows, length)).astype(np.int32)


def away(found, wanted):
    """Relative distance; of random models with large logits, 1 to 3 percent."""
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def first_gradients(arithmetic, stage):
    """{name: gradient} of one step, from AdamW's first moments."""
    teacher = tiny.teacher()
    teacher.compute = arithmetic
    student = teacher.to_probe(MIXER)
    if stage == "distill":
        student = student.to_hybrid([1])
    data = tiny.text_data(seq_len=48)
    trainer = _core.Distiller(student, teacher if stage == "distill" else None, stage, clip=0.0)
    windows = np.ascontiguousarray(data.windows[None, :2])
    trainer.run(data.tokens, windows, np.full((1, 2), 1e-4, np.float32), 0, 1)
    return {name: tensor.numpy().copy() for name, tensor in trainer.moments()["m"].items()}


def test_it_is_float32_until_told_and_passed_on_to_copies():
    teacher = tiny.teacher()
    assert teacher.compute == "float32" and teacher.to_probe(MIXER).compute == "float32"
    teacher.compute = "bfloat16"
    probe = teacher.to_probe(MIXER)
    for model in (teacher.copy(), teacher.like(), probe, probe.to_hybrid([0]), teacher.astype("float16")):
        assert model.compute == "bfloat16"
    probe.compute = "float32"
    assert teacher.compute == "bfloat16" and probe.compute == "float32"


def test_it_is_read_with_the_model():
    assert Model.from_pretrained(golden.MODELS / "base").compute == "float32"
    assert Model.from_pretrained(golden.MODELS / "base", compute="bfloat16").compute == "bfloat16"
    auto = Model.from_pretrained(golden.MODELS / "base", compute="auto").compute
    assert auto == ("bfloat16" if NATIVE else "float32")


@pytest.mark.parametrize("wrong", ["float16", "bf16", "", 16, None])
def test_another_name_is_refused(wrong):
    model = tiny.teacher()
    with pytest.raises(ConfigError, match=r"compute is .*; allowed: float32, bfloat16, auto"):
        model.compute = wrong
    with pytest.raises(ConfigError, match="compute is"):
        Model.from_pretrained(golden.MODELS / "base", compute=wrong)
    with pytest.raises(ConfigError, match="compute"):
        Recipe.from_dict({"compute": wrong})
    assert model.compute == "float32"


def test_it_stays_close_to_float32_and_is_not_the_same():
    model = Model.from_pretrained(golden.MODELS / "base")
    ids = tokens(model)
    exact = model.logits(ids)
    model.compute = "bfloat16"
    rounded = model.logits(ids)
    assert 1e-5 < away(rounded, exact) < 3e-2
    model.compute = "float32"
    assert np.array_equal(model.logits(ids), exact)


def test_few_rows_are_computed_in_float32():
    model = tiny.teacher()
    ids = tokens(model, 1, 16)
    exact = model.logits(ids)
    model.compute = "bfloat16"
    assert np.array_equal(model.logits(ids), exact)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "q8_0", "q4_0", "q4_1"])
def test_stored_weights(dtype):
    model = tiny.teacher(intermediate_size=64).astype(dtype)
    ids = tokens(model)
    exact = model.logits(ids)
    model.compute = "bfloat16"
    assert away(model.logits(ids), exact) < 3e-2


@pytest.mark.parametrize("stage", ["align", "distill", "finetune"])
def test_gradients_are_those_of_float32_up_to_rounding(stage):
    """Float32's are held against finite differences elsewhere."""
    exact, rounded = first_gradients("float32", stage), first_gradients("bfloat16", stage)
    assert exact.keys() == rounded.keys() and exact
    a = np.concatenate([x.ravel() for x in exact.values()]).astype(np.float64)
    b = np.concatenate([x.ravel() for x in rounded.values()]).astype(np.float64)
    assert 1e-5 < away(b, a) < 5e-2
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


def test_any_number_of_threads_gives_the_same_bits():
    before = hybridattn.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3, 8):
            hybridattn.set_num_threads(threads)
            found.append(first_gradients("bfloat16", "distill"))
    finally:
        hybridattn.set_num_threads(before)
    for other in found[1:]:
        tiny.assert_same_weights(other, found[0])


BITS = """
import sys
sys.path[:0] = ["tests"]
import numpy as np
import tiny
import zlib
from test_compute import first_gradients, tokens
model = tiny.teacher()
model.compute = "bfloat16"
found = [model.logits(tokens(model)), *first_gradients("bfloat16", "distill").values()]
print(zlib.crc32(b"".join(x.tobytes() for x in found)))
"""


def python(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **env}
    )


@pytest.mark.skipif(not NATIVE, reason="this processor has no bfloat16 instructions")
def test_the_portable_twin_gives_the_same_bits():
    """The rest of both levels is one table."""
    own, twin = python(BITS, HYBRIDATTN_ISA="avx512_bf16"), python(BITS, HYBRIDATTN_ISA="avx512")
    assert own.stdout == twin.stdout and own.stdout.strip().isdigit()


def test_without_instructions_one_warning_says_what_it_costs():
    code = (
        "import sys; sys.path[:0] = ['tests']; import tiny; m = tiny.teacher()\n"
        "m.compute = 'bfloat16'; m.compute = 'bfloat16'; print(m.compute)\n"
        "m.compute = 'auto'; print(m.compute)"
    )
    found = python(code, HYBRIDATTN_ISA="generic")
    assert found.stdout.split() == ["bfloat16", "float32"]
    assert found.stderr.count("RuntimeWarning: compute is 'bfloat16'") == 1
    assert "as long as in float32" in " ".join(found.stderr.split())


@pytest.mark.skipif(not NATIVE, reason="this processor has no bfloat16 instructions")
def test_with_instructions_nothing_is_said():
    compute._warn.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.teacher().compute = "bfloat16"


def low(model):
    model.compute = "bfloat16"
    return model


def hybrid():
    return low(tiny.teacher().to_probe(MIXER).to_hybrid([1]))


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch, data, one_thread):
    straight, _ = distill(data, hybrid())
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            distill(data, hybrid(), checkpoint=tmp_path)
    resumed, _ = distill(data, hybrid(), checkpoint=tmp_path)
    tiny.assert_same_weights(tiny.weights(resumed), tiny.weights(straight))


def test_a_checkpoint_of_another_arithmetic_is_refused_by_name(tmp_path, data, one_thread):
    distill(data, hybrid(), checkpoint=tmp_path)
    with pytest.raises(
        CheckpointError, match='compute is "bfloat16" in the checkpoint and "float32" in this'
    ):
        distill(data, checkpoint=tmp_path)


def test_a_recipe_has_it():
    assert Recipe.from_dict({}).compute == "float32"
    recipe = Recipe.from_dict({"compute": "bfloat16"})
    assert recipe.compute == "bfloat16" and 'compute = "bfloat16"' in recipe.to_toml()


def test_parity_with_autocast_of_pytorch():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = low(Model.from_pretrained(golden.MODELS / "base"))
    peer = transformers.AutoModelForCausalLM.from_pretrained(golden.MODELS / "base", dtype=torch.float32)
    ids = tokens(model, 4, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        theirs = float(peer(torch.from_numpy(ids).long(), labels=torch.from_numpy(ids).long()).loss)
    ours = float(model.nll(ids).mean())
    assert abs(ours - theirs) < 1e-2 * theirs
