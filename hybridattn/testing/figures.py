"""The figures of a run: how each is kept in a file that people read, and whether it has moved since."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import stats

Kept = dict[str, Any]  # one figure as the file has it

# What may differ without a reason in the software, as a share of the largest value: the digits that a file
# keeps, where the machine runs the same kernels; sums in another order, where it has other instructions.
SAME_KERNELS, OTHER_KERNELS = 1e-6, 1e-3
DIGITS = 9


def rounded(value: float) -> float:
    """With the digits that a file keeps."""
    return float(f"{value:.{DIGITS}g}")


def mean(value: float, stderr: float, sequences: Sequence[float]) -> Kept:
    """A mean over sequences, with its standard error and the value of each."""
    kept = {"kind": "mean", "value": rounded(value), "stderr": rounded(stderr)}
    return {**kept, "sequences": [rounded(v) for v in sequences]} if sequences else kept


def number(value: float) -> Kept:
    """A figure without an error of its own."""
    return {"kind": "number", "value": rounded(value)}


def layers(softmax_layers: Sequence[int], scores: Sequence[float], stderr: Sequence[float]) -> Kept:
    """The layers that stay softmax, with the scores that chose them."""
    errors = [rounded(v) for v in stderr]
    return {
        "kind": "layers",
        "softmax_layers": [int(i) for i in softmax_layers],
        "scores": [rounded(v) for v in scores],
        "stderr": errors,
    }


def text(prompt: str, made: str, tokens: Sequence[int], margins: Sequence[float]) -> Kept:
    """What a model writes after a prompt. margins: by how many nats each token was likelier than the next."""
    return {
        "kind": "text",
        "prompt": prompt,
        "text": made,
        "tokens": [int(t) for t in tokens],
        "margins": [rounded(m) for m in margins],
    }


def losses(curve: Sequence[float]) -> Kept:
    """The losses of a training run, a step each."""
    return {"kind": "losses", "curve": [rounded(v) for v in curve]}


def moved(pinned: Kept, found: Kept, same_kernels: bool, within: float = 0.0) -> str | None:
    """How a figure has moved, as the end of a sentence that begins with its name; None when it has not.

    within: standard errors by which a mean may move, and by which layers that change places may be apart.
    """
    kind = found["kind"]
    if pinned.get("kind") != kind:
        return f"is pinned as {pinned.get('kind')!r} and is {kind!r} now"
    try:
        return _MOVED[kind](pinned, found, SAME_KERNELS if same_kernels else OTHER_KERNELS, within)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return f"is damaged in the file ({type(error).__name__}: {error})"


def _value_moved(pinned: Kept, found: Kept, tolerance: float, within: float) -> str | None:
    old, new, stderr = float(pinned["value"]), float(found["value"]), pinned.get("stderr", math.nan)
    stderr = math.nan if stderr is None else float(stderr)
    allowed = max(tolerance * max(abs(old), 1e-12), within * stderr if stderr > 0 else 0.0)
    if abs(new - old) <= allowed or old == new or (math.isnan(old) and math.isnan(new)):
        return None
    said = f"moved from {old:.6g} to {new:.6g}"
    said += f" ({(new - old) / abs(old):+.2%})" if old else ""
    if stderr > 0:
        said += f", {abs(new - old) / stderr:.2g} of its standard errors"
    before, after = pinned.get("sequences"), found.get("sequences")
    if before and after and len(before) == len(after) > 1:
        shift, error = stats.paired(after, before)
        if error > 0:
            said += (
                f"; sequence by sequence by {shift:+.3g} +- {error:.2g}, "
                f"{abs(shift) / error:.2g} standard errors of {len(after)} pairs"
            )
    return said


def _layers_moved(pinned: Kept, found: Kept, tolerance: float, within: float) -> str | None:
    old, new = set(pinned["softmax_layers"]), set(found["softmax_layers"])
    if old == new:
        return None
    said = f"moved from {sorted(old)} to {sorted(new)}"
    lost, won, scores = sorted(old - new), sorted(new - old), pinned["scores"]
    if not scores or len(lost) != len(won):
        return said
    largest, errors = max(map(abs, scores)), pinned["stderr"]
    apart, near = [], True
    for out, into in ((a, b) for a in lost for b in won):
        gap = abs(scores[out] - scores[into])
        error = math.hypot(*(0.0 if e is None or math.isnan(e) else e for e in (errors[out], errors[into])))
        apart.append(f"{gap:.3g}" + (f" ({gap / error:.2g} standard errors)" if error > 0 else ""))
        near = near and gap <= max(within * error, tolerance * largest if tolerance > SAME_KERNELS else 0.0)
    if near:
        return None
    return f"{said}: {won} in the place of {lost}, whose pinned scores are {', '.join(apart)} apart"


def _text_moved(pinned: Kept, found: Kept, tolerance: float, within: float) -> str | None:
    if pinned["prompt"] != found["prompt"]:
        return f"is pinned for the prompt {pinned['prompt']!r} and is made from {found['prompt']!r} now"
    old, new = pinned["tokens"], found["tokens"]
    if old == new and pinned["text"] == found["text"]:
        return None
    at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    margin = pinned["margins"][at] if at < len(pinned["margins"]) else math.nan
    # two tokens that are equally likely but for the last bits: other kernels may take the other one
    if tolerance > SAME_KERNELS and margin <= 10 * tolerance:
        return None
    return (
        f"moved from {pinned['text']!r} to {found['text']!r}: token {at} is another, "
        f"which was likelier than the next by {margin:.3g} nats"
    )


def _losses_moved(pinned: Kept, found: Kept, tolerance: float, within: float) -> str | None:
    old, new = pinned["curve"], found["curve"]
    if len(old) != len(new):
        return f"have {len(new)} steps; pinned are {len(old)}"
    off = [i for i, (a, b) in enumerate(zip(old, new, strict=True)) if not abs(a - b) <= tolerance * abs(a)]
    if not off:
        return None
    first, worst = off[0], max(off, key=lambda i: abs(old[i] - new[i]))
    return (
        f"moved at {len(off)} of {len(old)} steps, first at step {first} from {old[first]:.6g} to "
        f"{new[first]:.6g}, most at step {worst} from {old[worst]:.6g} to {new[worst]:.6g}"
    )


_MOVED: dict[str, Callable[[Kept, Kept, float, float], str | None]] = {
    "mean": _value_moved,
    "number": _value_moved,
    "layers": _layers_moved,
    "text": _text_moved,
    "losses": _losses_moved,
}
