"""What KL-guided choices are held against: fixed patterns, step 1's loss, perplexity, and SMART."""

from __future__ import annotations

from .kl import restore
from .scoring import Result, Scoring


def uniform(layers: int) -> dict[str, object]:
    """Even distances: no scores; `plan.uniform` places them."""
    return {}


def random(layers: int, *, seed: int = 0) -> dict[str, object]:
    """The order of a seeded permutation."""
    return {"seed": seed}


def first_last(layers: int) -> dict[str, object]:
    """From both ends inwards: 0, L-1, 1, L-2, .."""
    inwards = [end for i in range((layers + 1) // 2) for end in (i, layers - 1 - i)]
    return {"order": list(dict.fromkeys(inwards))}


def mse(scoring: Scoring, *, relative: bool = True) -> Result:
    """What step 1 left: mean over tokens of |softmax output - linear output|, over that of |softmax
    output|.

    relative=False: times hidden_size**-0.5 instead, the loss that step 1 trains. It grows with the
    outputs, so it ranks the last layers first.
    """
    error, zero = scoring.alignment()
    return Result(error / zero if relative else error, options={"relative": relative})


def perplexity(scoring: Scoring) -> Result:
    """Rise of the negative log-likelihood, nats per token, when the layer's attention output is zero."""
    silent = scoring.probe.to_hybrid(scoring.candidates).to_probe({"kind": "linear"})
    for name, array in silent.arrays().items():
        if ".linear.o_proj." in name:
            array[...] = 0.0
    own = Scoring(silent, scoring.data, scoring.name, scoring.progress)
    base, rows = own.flip_teacher(nll=True)
    scoring.extra += own.passes
    return Result(rows - base)


def smart(scoring: Scoring) -> Result:
    """SMART's sensitivities (Zebra-Llama, arXiv 2505.17272): the KL that one restored layer wins back.
    Its rule for the set, `plan.smart`, keeps a layer near each end and near-even distances between.
    """
    return restore(scoring)
