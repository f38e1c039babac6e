"""Parity with PyTorch and transformers through the golden files (`golden/README.md`)."""

from __future__ import annotations

import numpy as np
import pytest
from golden import recipe

from hybridattn import _core
from hybridattn.model.model import Model

RELATIVE = 1e-4  # largest difference over largest value; float32 sums in another order


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(recipe.HERE / name) as file:
        return {key: file[key] for key in file.files}


def load(name: str = "base") -> Model:
    return Model.from_pretrained(recipe.MODELS / name)


def assert_close(actual, expected, relative=RELATIVE, what=""):
    """Largest absolute difference, relative to the largest expected value."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    assert np.isfinite(actual).all(), f"{what}: not finite"
    scale = np.abs(expected).max()
    error = np.abs(actual - expected).max() / (scale if scale > 0 else 1.0)
    assert error <= relative, f"{what}: relative difference {error:.2e} is above {relative:.0e}"


def set_weights(model: Model, weights: dict[str, np.ndarray]) -> None:
    parameters = model.parameters()
    for name, value in weights.items():
        parameters[name].numpy()[...] = value


def weights_of(model: Model) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in model.parameters().items()}


def stream(batches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[steps, batch, T] tokens as one flat stream and windows int64 [steps, batch, 2], half open."""
    steps, batch, length = batches.shape
    start = np.arange(steps * batch, dtype=np.int64).reshape(steps, batch) * length
    return np.ascontiguousarray(batches.reshape(-1)), np.stack([start, start + length], -1)


def train(
    student,
    teacher,
    stage,
    lr=recipe.ADAMW["lr"],
    clip=recipe.ADAMW["clip"],
    steps=recipe.STEPS,
    micro_batch=1,
):
    """Runs the ten golden batches; gives (distiller, losses [steps, k], gradient norms [steps])."""
    base = recipe.CONFIGS["base"][0]
    tokens, windows = stream(recipe.training_tokens(base))
    distiller = _core.Distiller(student, teacher, stage, clip=clip, micro_batch=micro_batch)
    norms = []
    losses = distiller.run(
        tokens,
        windows,
        np.full((len(windows), 2), lr, np.float32),
        0,
        steps,
        callback=lambda step, loss, norm, done: norms.append(norm),
    )
    return distiller, losses, np.array(norms)


def gradients(student, teacher, stage) -> dict[str, np.ndarray]:
    """Gradients of the first batch, read from AdamW's first moment: after one step it is (1 - beta1) g."""
    distiller, _, _ = train(student, teacher, stage, lr=0.0, clip=1e9, steps=1)
    return {name: np.asarray(m) / 0.1 for name, m in distiller.moments()["m"].items()}


@pytest.mark.parametrize("name", recipe.CONFIGS)
def test_logits(name):
    expected, model = golden(f"models/{name}/golden.npz"), load(name)
    assert_close(model.model_config.rope_inv_freq, expected["rope_inv_freq"], 1e-6, "rope_inv_freq")
    assert_close(model.logits(expected["tokens"]), expected["logits"], what="logits")
    assert_close(model.nll(expected["tokens"]).mean(), expected["loss"], 1e-5, "loss")


def test_gradients():
    expected, actual = golden("base_train.npz"), gradients(load(), None, "finetune")
    names = {key.removeprefix("grad/") for key in expected if key.startswith("grad/")}
    assert set(actual) == names
    for name in sorted(names):
        assert_close(actual[name], expected["grad/" + name], what=name)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_ten_training_losses(micro_batch):
    expected = golden("base_train.npz")
    _, losses, norms = train(load(), None, "finetune", micro_batch=micro_batch)
    assert_close(losses[:, 0], expected["losses"], what="losses")
    assert_close(norms, expected["grad_norms"], 1e-3, "gradient norms")


def perturbed_student() -> Model:
    student = load()
    set_weights(student, recipe.perturbed(weights_of(student)))
    return student


def test_distillation_gradients():
    expected, actual = golden("base_distill.npz"), gradients(perturbed_student(), load(), "distill")
    for name, g in actual.items():
        assert_close(np.linalg.norm(g), expected["grad_norm/" + name], what=name)


def test_ten_distillation_losses():
    expected = golden("base_distill.npz")
    _, losses, norms = train(perturbed_student(), load(), "distill")
    assert_close(losses[:, 0], expected["losses"], what="losses")
    assert_close(norms, expected["grad_norms"], 1e-3, "gradient norms")


def probe(name: str) -> Model:
    """`base` with transferred mixers in every layer and the golden extras in them."""
    model = load().to_probe(recipe.MIXERS[name], seed=0)
    shapes = {p: tuple(shape) for p, shape, _ in model.parameter_info()}
    set_weights(model, getattr(recipe, recipe.MIXERS[name]["kind"] + "_extras")(shapes))
    return model


@pytest.mark.parametrize("name", recipe.MIXERS)
def test_hybrid_logits(name):
    hybrid = probe(name).to_hybrid([0])
    tokens = recipe.training_tokens(recipe.CONFIGS["base"][0])[0, :1]
    assert_close(
        hybrid.logits(np.ascontiguousarray(tokens)), golden(f"hybrid_{name}.npz")["logits"], what="logits"
    )


@pytest.mark.parametrize("name", recipe.MIXERS)
def test_align(name):
    """Step 1: losses per layer over ten steps; of window_linear only the feature maps and gates train."""
    distiller, losses, _ = train(probe(name), None, "align", clip=0.0)
    expected = golden(f"hybrid_{name}.npz")
    wanted = {key.removeprefix("align_grad_norm/") for key in expected if key.startswith("align_grad_norm/")}
    assert set(distiller.trainable()) == wanted
    assert_close(losses, expected["align_losses"], what="losses")


@pytest.mark.parametrize("name", recipe.MIXERS)
def test_align_gradients(name):
    expected = golden(f"hybrid_{name}.npz")
    largest = max(value for key, value in expected.items() if key.startswith("align_grad_norm/"))
    for parameter, g in gradients(probe(name), None, "align").items():
        difference = np.linalg.norm(g) - expected["align_grad_norm/" + parameter]
        assert abs(difference) < RELATIVE * largest, parameter


@pytest.mark.parametrize("name", recipe.MIXERS)
def test_hybrid_distillation(name):
    expected, teacher = golden(f"hybrid_{name}.npz"), load()
    for parameter, g in gradients(probe(name).to_hybrid([0]), teacher, "distill").items():
        assert_close(np.linalg.norm(g), expected["grad_norm/" + parameter], 3e-4, what=parameter)
    _, losses, _ = train(probe(name).to_hybrid([0]), teacher, "distill")
    assert_close(losses[:, 0], expected["losses"], 3e-4, what="losses")
