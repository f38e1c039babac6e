"""What every linear mixer keeps to, whatever its formula: built in, or registered from Python."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..checks import check_choice
from ..model.model import Model
from ..radlads.steps import align
from .checks import run_checks
from .closeness import assert_models_close
from .gradients import gradients_are_slopes
from .models import tiny_model, tiny_text

LENGTH = 70  # tokens of a row: beyond one chunk of 64 of the core
ROUNDING = 1e-4  # of the largest value: float32 sums in another order


@dataclass(frozen=True)
class MixerCase:
    """A mixer to check: its spec, and what it is tried on."""

    spec: dict[str, Any]
    seed: int
    family: str

    @property
    def kind(self) -> str:
        return str(self.spec["kind"])

    @property
    def directions(self) -> list[bool]:
        """Whether bidirectional, for each direction that the spec serves: a convolution looks back only."""
        found = [mask == "bidirectional" for mask in _core.mixers()[self.kind]["masks"]]
        return [both for both in found if not (both and self.spec.get("conv"))]

    @property
    def decodes(self) -> bool:
        return False in self.directions

    @cached_property
    def tokens(self) -> npt.NDArray[np.int32]:
        """int32 [2, LENGTH]"""
        return (np.arange(2 * LENGTH, dtype=np.int32).reshape(2, LENGTH) * 37) % 256

    def teacher(self, bidirectional: bool, seed: int | None = None) -> Model:
        at = self.seed if seed is None else seed
        return tiny_model(self.family, seed=at, bidirectional=bidirectional)

    def probe(self, bidirectional: bool) -> Model:
        return self.teacher(bidirectional).to_probe(self.spec, seed=self.seed + 1)

    def hybrid(self, bidirectional: bool) -> Model:
        """Softmax, linear, linear."""
        return self.probe(bidirectional).to_hybrid([0])

    def linear(self, bidirectional: bool) -> Model:
        """No softmax layer."""
        return self.probe(bidirectional).to_hybrid([])

    def own(self, model: Model) -> dict[str, npt.NDArray[np.float32]]:
        """The mixer's parameters, by their names in the model."""
        mark = f".{self.kind}."
        return {name: array for name, array in model.arrays().items() if mark in name}


def check_mixer(
    mixer: str | Mapping[str, Any],
    *,
    family: str = "llama",
    seed: int = 0,
    only: Collection[str] | None = None,
    skip: Collection[str] = (),
) -> None:
    """Try a mixer, by its kind or its spec, on tiny models of `family`: every check of MIXER_CHECKS, or those
    of `only`, without those of `skip`. It takes some seconds.

    AssertionError lists every check that failed, with the figures. Raises ConfigError for a kind that is not
    registered, or a check that is not there.
    """
    spec = {"kind": mixer} if isinstance(mixer, str) else dict(mixer)
    kinds = [name for name in _core.mixers() if name != "softmax"]
    check_choice("mixer kind", spec.get("kind"), kinds)
    run_checks(f"mixer {spec['kind']}", MIXER_CHECKS, MixerCase(spec, seed, family), only, skip)


def _close(found: npt.NDArray[Any], wanted: npt.NDArray[Any], what: str) -> None:
    assert np.isfinite(found).all(), f"{what}: not finite"
    error = float(np.abs(found - wanted).max() / (np.abs(wanted).max() or 1.0))
    assert error <= ROUNDING, f"{what}: differ by {error:.1e} of the largest, allowed {ROUNDING:.0e}"


def _gradients(case: MixerCase) -> None:
    """Of every parameter of the mixer, of the norm before it (which its dx alone reaches) and of the gates,
    the gradient is the slope that differences show.
    """
    for bidirectional in case.directions:
        hybrid, teacher = case.hybrid(bidirectional), case.teacher(bidirectional, case.seed + 5)
        linear = [i for i, specs in enumerate(hybrid.layers) if specs[0]["kind"] == case.kind]
        parts = [f"layers.{i}.{part}." for i in linear for part in (case.kind, "mixer_norm")]
        gradients_are_slopes(hybrid, teacher, case.tokens.ravel(), parts)


def _gate_slopes(case: MixerCase) -> None:
    for bidirectional in case.directions:
        probe, teacher = case.probe(bidirectional), case.teacher(bidirectional, case.seed + 5)
        scorer, windows = _core.KLScorer(probe, teacher), np.array([[0, LENGTH], [LENGTH, LENGTH + 5]])
        stream, layers = case.tokens.ravel(), len(probe.layers)
        for gate in (0.02, 0.5, 0.98):
            gates = np.full(layers, gate, np.float32)
            _, slopes = scorer.gate_gradient(stream, windows, gates)
            for layer in range(layers):
                slope, tried = float(slopes[:, layer].mean()), []
                for size in (5e-4, 1e-4):  # the smaller one where the larger crosses a corner
                    step = np.zeros(layers, np.float32)
                    step[layer] = size
                    up, down = (scorer.kl(stream, windows, gates + sign * step) for sign in (1, -1))
                    tried.append(float((up - down).mean() / (2 * size)))
                    if abs(tried[-1] - slope) <= 0.04 * abs(tried[-1]) + 6e-3:
                        break
                else:
                    raise AssertionError(
                        f"with all gates at {gate:g} the slope of layer {layer}'s gate is {slope:.4g}; "
                        f"differences show {tried[0]:.4g}"
                    )


def _decoded(model: Model, tokens: npt.NDArray[np.int32], cuts: list[int]) -> npt.NDArray[np.float32]:
    cache = _core.Cache(model, len(tokens))
    return np.concatenate([model.logits(p, cache=cache) for p in np.split(tokens, cuts, axis=1)], axis=1)


def _step_is_forward(case: MixerCase) -> None:
    if case.decodes:
        model = case.hybrid(False)
        steps = _decoded(model, case.tokens, list(range(1, LENGTH)))
        _close(steps, model.logits(case.tokens), "logits of single tokens, beside those of one pass")


def _chunk_is_whole(case: MixerCase) -> None:
    if not case.decodes:
        return
    model = case.hybrid(False)
    whole = model.logits(case.tokens)
    for cuts in ([1], [5, 6, 7, 40], [64], [LENGTH - 1]):
        _close(_decoded(model, case.tokens, cuts), whole, f"a text cut at {cuts}, beside the whole")


def _causal(case: MixerCase) -> None:
    if case.decodes:
        model, changed = case.hybrid(False), case.tokens.copy()
        changed[:, -1] = (changed[:, -1] + 1) % 256
        before, after = (model.logits(tokens)[:, :-1] for tokens in (case.tokens, changed))
        _close(after, before, "logits before a token that was changed")


def _state(case: MixerCase) -> None:
    if not case.decodes:
        return
    model = case.linear(False)
    cache = _core.Cache(model, 1)
    before = cache.nbytes
    model.logits(case.tokens[:1], cache=cache)
    assert cache.nbytes == before and cache.bytes_per_token == 0, (
        f"the state grew from {before} to {cache.nbytes} bytes over {LENGTH} tokens, "
        f"{cache.bytes_per_token} a token"
    )


def _threads(case: MixerCase) -> None:
    for bidirectional in case.directions:
        teacher, found = case.teacher(bidirectional), []
        probe, windows = case.probe(bidirectional), np.array([[0, 70], [70, 71], [71, 140]])
        probe.gates[:] = 0.5
        before = _core.get_num_threads()
        try:
            for count in (1, 2):
                _core.set_num_threads(count)
                scorer, twin = _core.KLScorer(probe, teacher), probe.copy()
                kl, slopes = scorer.gate_gradient(case.tokens.ravel(), windows, probe.gates)
                _train(twin, teacher, case)
                arrays: dict[str, npt.NDArray[Any]] = {"logits": probe.logits(case.tokens)}
                arrays |= {"KL": kl, "slopes of gates": slopes}
                found.append({n: a.tobytes() for n, a in {**arrays, **twin.arrays()}.items()})
        finally:
            _core.set_num_threads(before)
        moved = [name for name in found[0] if found[0][name] != found[1][name]]
        assert not moved, f"1 and 2 threads give other bits of {', '.join(moved[:3])}"


def _train(student: Model, teacher: Model, case: MixerCase, lr: float = 1e-2) -> None:
    """One step of distillation, which refuses a loss or a gradient that is not finite."""
    trainer = _core.Distiller(student, teacher, "distill")
    trainer.run(case.tokens.ravel(), np.array([[[0, LENGTH]]]), np.full((1, 2), lr, np.float32), 0, 1)


def _padding(case: MixerCase) -> None:
    for bidirectional in case.directions:
        model, short = case.hybrid(bidirectional), 23
        alone = model.logits(case.tokens[1:, :short])[0]
        for side, tokens, where in (
            ("right", case.tokens, slice(None, short)),
            ("left", np.roll(case.tokens, -short, axis=1), slice(-short, None)),
        ):
            mask = np.ones(tokens.shape, np.bool_)
            mask[1] = False
            mask[1, where] = True
            _close(
                model.logits(tokens, mask)[1, where], alone, f"a row padded on the {side}, beside it alone"
            )
        windows, stream = np.array([[0, 40], [40, 45], [45, 110]]), case.tokens.ravel()
        scorer = _core.KLScorer(model, case.teacher(bidirectional, case.seed + 5))
        one = np.concatenate([scorer.kl(stream, window[None]) for window in windows])
        _close(scorer.kl(stream, windows), one, "KL of windows in one pass, beside each alone")


def _gate_ends(case: MixerCase) -> None:
    for bidirectional in case.directions:
        probe = case.probe(bidirectional)
        assert_models_close(probe, case.teacher(bidirectional), "bits", tokens=case.tokens)
        probe.gates[:] = 0.0
        assert_models_close(probe, case.linear(bidirectional), tokens=case.tokens)


@contextmanager
def _changed(array: npt.NDArray[np.float32], values: npt.NDArray[np.float32]) -> Iterator[None]:
    kept = array.copy()
    array[...] = values
    try:
        yield
    finally:
        array[...] = kept


def _extremes(case: MixerCase) -> None:
    """Each parameter at zero, and ten times as large, so that gates made of it are open or shut."""
    for bidirectional in case.directions:
        model, teacher = case.hybrid(bidirectional), case.teacher(bidirectional)
        for name, array in case.own(model).items():
            for what, factor in (("zero", 0.0), ("times 10", 10.0), ("times -10", -10.0)):
                with _changed(array, array * np.float32(factor)):
                    assert np.isfinite(model.logits(case.tokens)).all(), f"logits with {name} {what}"
                    try:
                        _train(model.copy(), teacher, case, 1e-3)
                    except ValueError as error:
                        raise AssertionError(f"with {name} {what}: {error}") from None


def _saved(case: MixerCase) -> None:
    for bidirectional in [d for d in case.directions if not d]:  # a folder says which way its family reads
        model = case.hybrid(bidirectional)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            assert_models_close(Model.from_pretrained(folder), model, "bits", tokens=case.tokens)


def _learns(case: MixerCase) -> None:
    for bidirectional in case.directions:
        probe = align(
            case.teacher(bidirectional), case.spec, tiny_text(2, 48), 24, 2, seed=case.seed, progress=False
        )
        assert probe.train_result is not None
        first, last = probe.train_result.losses[0], probe.train_result.losses[-1]
        worse = np.flatnonzero(~((last < first) | (first < 1e-6)))
        assert not len(worse), (
            f"24 steps of alignment took layer {worse[0]} from {first[worse[0]]:.4g} to {last[worse[0]]:.4g}"
        )


MIXER_CHECKS = {
    "gradients": _gradients,
    "gate_slopes": _gate_slopes,
    "gate_ends": _gate_ends,
    "step_is_forward": _step_is_forward,
    "chunk_is_whole": _chunk_is_whole,
    "causal": _causal,
    "state": _state,
    "threads": _threads,
    "padding": _padding,
    "extremes": _extremes,
    "saved": _saved,
    "learns": _learns,
}
