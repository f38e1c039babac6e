"""Calls of the C core, and of the functions around it, with odd arguments in the place of good ones.

Every call is a whole one of which one to three arguments are changed: another shape, type, order in memory or
number, something else altogether, left out, or one more. What the core answers must be one of `ANSWERS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cases
import numpy as np
import tiny

import hybridattn as ha
from fuzz.mutate import NASTY
from hybridattn import _core, tasks
from hybridattn.data.prompts import answer_tokens

ANSWERS = (
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    BufferError,
    IndexError,
    KeyError,
    AttributeError,
)
DTYPES = (
    np.float32,
    np.float64,
    np.float16,
    np.int32,
    np.int64,
    np.int8,
    np.uint8,
    np.bool_,
    np.complex64,
    object,
)
NUMBERS = (0, 1, -1, 2, 255, 256, 257, 2**31 - 1, -(2**31), 0.5, np.inf, -np.inf, np.nan, 1e38, 1e-45)
MOST_ROWS = 90  # of the whole calls of operations: larger ones cost time and reach no other line


@dataclass(frozen=True)
class Call:
    """A call that is right. make: gives the function anew where it keeps a state, such as a cache."""

    make: Callable[[], Callable[..., Any]]
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def calls() -> dict[str, list[Call]]:
    """By the name that figures are counted under."""
    return {
        "operations": _operations(),
        "models": _models(),
        "types": _types(),
        "training": _training(),
        "functions": _functions(),
    }


def odd(call: Call, rng: random.Random) -> None:
    """The call, damaged."""
    given, options = list(call.arguments), dict(call.options)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(given) + len(options) + 1)
        if at < len(given):
            given[at] = _changed(given[at], rng)
        elif at < len(given) + len(options):
            name = list(options)[at - len(given)]
            options[name] = _changed(options[name], rng)
        elif rng.random() < 0.5:
            options[rng.choice((*call.options, "a", "mask", "dtype", "lengths"))] = rng.choice(NASTY)
        elif given and rng.random() < 0.5:
            given.pop()
        else:
            given.append(rng.choice(NASTY))
    call.make()(*given, **options)


def _changed(value: Any, rng: random.Random) -> Any:
    """Another value in an argument's place; of an array mostly another array."""
    if not isinstance(value, np.ndarray) or rng.random() < 0.15:
        return rng.choice(NASTY) if rng.random() < 0.9 else np.full((2, 3), rng.choice(NUMBERS), np.float64)
    kind = rng.randrange(10)
    out = value
    if kind == 0:
        out = value.astype(rng.choice(DTYPES)) if value.dtype != object else value
    elif kind == 1 and value.size:
        out = value.copy()
        with np.errstate(all="ignore"):
            out.flat[rng.randrange(value.size)] = np.asarray(rng.choice(NUMBERS)).astype(value.dtype)
    elif kind == 2 and value.ndim:
        out = np.delete(value, 0, axis=rng.randrange(value.ndim)) if value.size else value
    elif kind == 3 and value.ndim:
        axis = rng.randrange(value.ndim)
        out = np.concatenate([value, value.take([0], axis)] if value.shape[axis] else [value], axis)
    elif kind == 4:
        out = value[..., ::-1] if value.ndim else value
    elif kind == 5:
        out = value.T
    elif kind == 6:
        out = value[None] if rng.random() < 0.5 else value.reshape(-1)
    elif kind == 7:
        out = value[:0] if value.ndim else value
    elif kind == 8:
        out = np.broadcast_to(value.reshape(-1)[:1], value.shape) if value.size else value
    else:
        out = value.view()
        out.flags.writeable = False
    return out


class _Recorder:
    """A stand-in for a module of operations that notes the calls made of it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(_core.ops, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append(Call(lambda: function, arguments, options))
            return function(*arguments, **options)

        return call


def _operations() -> list[Call]:
    """Every operation and its gradient, as the tests of operations call them."""
    recorder = _Recorder()
    for case in cases.CASES:
        arrays = case.arrays()
        if max(len(array) for array in arrays.values() if array.ndim) > MOST_ROWS:
            continue
        results = case.call(recorder, arrays)
        if case.gradient:
            case.vjp(recorder, arrays, results)
    matrix = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
    for dtype in cases.STORAGE_TYPES:
        recorder.calls.append(Call(lambda: _core.pack, (matrix, dtype), {"factor": np.ones(64, np.float32)}))
        recorder.calls.append(Call(lambda: _core.unpack, (_core.pack(matrix, dtype), dtype)))
    missing = (
        {name for name in dir(_core.ops) if name[0] != "_"}
        - {call.make().__name__ for call in recorder.calls}
        - {"adamw"}
    )
    assert not missing, f"operations without a call: {sorted(missing)}"
    four = tuple(np.ones(5, np.float32) for _ in range(4))
    return [
        *recorder.calls,
        Call(lambda: _core.ops.adamw, (*four, 0.1, 3), {"betas": (0.9, 0.95), "clip": 1.0}),
    ]


TOKENS = np.arange(24, dtype=np.int32).reshape(2, 12)
FLAT, WINDOWS = TOKENS.reshape(-1), np.array([[0, 12], [12, 20]], np.int64)


def _small(**changes: Any) -> ha.Model:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 8}
    return tiny.teacher(layers=2, **{**sizes, **changes})


def _models() -> list[Call]:
    """Methods of the C model and its cache."""
    found = []
    plain = _small()
    for model in (plain, plain.to_probe(tiny.MIXERS[0]), plain.to_probe(tiny.MIXERS[1]).to_hybrid([1])):
        out = np.zeros((24, 8), np.float32)

        def with_cache(name: str, model: ha.Model = model) -> Callable[[], Callable[..., Any]]:
            return lambda: getattr(_core.Cache(model, 2), name)

        def state(model: ha.Model = model) -> dict[str, Any]:
            cache = _core.Cache(model, 2)
            model.hidden(TOKENS, cache=cache)
            return cache.state()

        def load(part: str, array: Any, model: ha.Model = model, state: Any = state) -> None:
            cache = _core.Cache(model, 2)
            cache.load_state({**state(model), part: array})
            model.hidden(TOKENS[:, :2], cache=cache)

        mask = np.ones((2, 12), np.uint8)
        found += [
            Call(lambda model=model: model.logits, (TOKENS,), {"mask": mask, "last": True}),
            Call(lambda model=model: model.hidden, (TOKENS,), {"mask": mask, "segments": TOKENS * 0}),
            Call(lambda model=model: model.hidden, (TOKENS,), {"cache": _core.Cache(model, 2)}),
            Call(lambda model=model: model.nll, (TOKENS, mask)),
            Call(lambda model=model: model.forward_windows, (FLAT, WINDOWS, out), {"segments": FLAT * 0}),
            Call(lambda model=model: model.moments, (FLAT, WINDOWS, model.matrices()[:1])),
            Call(lambda model=model: model.trace_layer, (0, FLAT, WINDOWS), {"segments": FLAT * 0}),
            Call(lambda model=model: model.cost, (64.0,)),
            Call(with_cache("reserve"), (np.array([20, 20]),)),
            Call(with_cache("fork"), (2,)),
            Call(with_cache("load_state"), (state(),)),
            *(Call(lambda load=load: load, pair) for pair in state().items()),
            Call(lambda: _core.Cache, (model, 2), {"dtype": "f16"}),
            Call(lambda model=model: tasks.predict, (model, [np.array([5, 6, 7])])),
        ]
    return found


def _types() -> list[Call]:
    """Constructors, tensors and weights kept in other types."""
    model = _small().to_probe(tiny.MIXERS[0])
    matrix = model.matrices()[0]
    array = model.arrays()[matrix]
    packed = _core.pack(array, "bfloat16")
    ones = np.ones((2, 3), np.float32)
    found = [
        Call(lambda: _core.Tensor, ((2, 3), "float16")),
        Call(lambda: _core.Tensor.from_numpy, (ones,)),
        Call(lambda: _core.Tensor.from_dlpack, (ones,)),
        Call(lambda: _core.Tensor.from_numpy(ones).to, ("bfloat16",)),
        Call(lambda: _core.Tensor.from_numpy(ones).__array__, (np.float32, True)),
        Call(lambda: _core.Tensor.from_numpy(ones).__dlpack__, (), {"copy": True, "max_version": (1, 0)}),
        Call(lambda: model.copy().store, (matrix, "bfloat16", packed)),
        Call(lambda: model.init_mixers, (3,)),
        Call(lambda: ha.set_num_threads, (1,)),
        Call(lambda: model.set_softmax_layers, ([1],)),
        Call(lambda: model.to_hybrid, ([1],)),
        Call(lambda: model.astype, ("q8_0",)),
    ]
    for spec in (*tiny.MIXERS, {"kind": "gla"}, {"kind": "window", "window": 4}):
        for name in spec:
            found.append(
                Call(
                    lambda spec=spec, name=name: lambda v: _small().to_probe({**spec, name: v}), (spec[name],)
                )
            )
    config, layers = dict(model.config), model.layers
    for name, good in config.items():
        found.append(Call(lambda name=name: lambda v: _core.Model({**config, name: v}, layers), (good,)))
    return found


def _training() -> list[Call]:
    """Scores and training steps."""
    teacher = _small()
    probe = teacher.to_probe(tiny.MIXERS[0])
    gates, states = np.array([1.0, 0.5], np.float32), np.zeros((24, 8), np.float32)
    extra = {"teacher_hidden": states, "weights": np.ones(24, np.float32), "segments": FLAT * 0}
    steps = WINDOWS[None]

    def distiller(stage: str) -> Callable[[], Callable[..., Any]]:
        return lambda: _core.Distiller(probe.copy(), teacher if stage == "distill" else None, stage).run

    found = [
        Call(lambda: _core.KLScorer, (probe, teacher)),
        Call(lambda: _core.KLScorer(probe, teacher).kl, (FLAT, WINDOWS, gates), extra),
        Call(lambda: _core.KLScorer(probe).evaluate, (FLAT, WINDOWS, gates), extra),
        Call(
            lambda: _core.KLScorer(probe, teacher).flip,
            (FLAT, WINDOWS, gates, [0, 1]),
            {**extra, "nll": True},
        ),
        Call(lambda: _core.KLScorer(probe).gate_gradient, (FLAT, WINDOWS, gates), extra),
        Call(lambda: _core.KLScorer(probe).alignment, (FLAT, WINDOWS)),
        Call(
            lambda: _core.Distiller,
            (probe, teacher, "distill"),
            {"betas": (0.9, 0.95), "eps": 1e-8, "layers": [1]},
        ),
        Call(
            lambda: _core.Distiller,
            (probe, None, "align"),
            {"clip": 1.0, "micro_batch": 2, "weight_decay": 0.1},
        ),
    ]
    rates = np.full((1, 2), 1e-3, np.float32)
    for stage in ("align", "distill", "finetune"):
        more = {"teacher_hidden": states} if stage == "distill" else {}
        found.append(Call(distiller(stage), (FLAT, steps, rates, 0, 1), {**more, "losses": np.zeros((1, 1))}))
    return found


def _functions() -> list[Call]:
    """Functions of Python that take arrays, texts and numbers."""
    model, tokenizer = _small(), tiny.tokenizer()
    ones, floats = np.ones(24, np.float32), np.zeros((2, 3))
    return [
        Call(lambda: ha.TokenData, (FLAT, WINDOWS), {"weights": ones, "segments": FLAT * 0}),
        Call(
            lambda: lambda texts, *sizes, **more: ha.TokenData.from_text(texts, tokenizer, *sizes, **more),
            (["the moon", "a mill"], 4),
            {"max_tokens": 8},
        ),
        Call(lambda: ha.TokenData(FLAT, WINDOWS).split, (1,)),
        Call(
            lambda: model.generate,
            ([5, 6],),
            {"max_new_tokens": 2, "temperature": 0.5, "top_k": 3, "seed": 1, "stop": "a"},
        ),
        Call(lambda: model.generate, ("the",), {"max_new_tokens": 1, "top_p": 0.5, "temperature": 1.0}),
        Call(lambda: tokenizer.encode, ("the moon",)),
        Call(lambda: tokenizer.decode, ([1, 2, 3],)),
        Call(lambda: tokenizer.encode_batch, (["a", "b"],)),
        Call(lambda: lambda *texts: answer_tokens(tokenizer, *texts), ("a", "b")),
        Call(lambda: ha.LayerScores, ("kl_replace", floats), {"mixer": {"kind": "gla"}}),
        Call(lambda: ha.Plan, ((1,), 2, "a", {"kind": "gla"})),
    ]
