"""What KL-guided choices are held against: fixed patterns, step 1's loss, perplexity, and SMART."""

from __future__ import annotations

from .kl import restore
from .task import Result, Task


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


def mse(task: Task, *, relative: bool = True) -> Result:
    """What step 1 left: mean over tokens of |softmax output - linear output|, over that of |softmax
    output|.

    relative=False: times hidden_size**-0.5 instead, the loss that step 1 trains. It grows with the
    outputs, so it ranks the last layers first.
    """
    error, zero = task.alignment()
    return Result(error / zero if relative else error, options={"relative": relative})


def perplexity(task: Task) -> Result:
    """Rise of the negative log-likelihood, nats per token, when the layer's attention output is zero."""
    silent = task.probe.to_hybrid(list(range(task.layers))).to_probe({"kind": "linear"})
    for name, array in silent.arrays().items():
        if ".linear.o_proj." in name:
            array[...] = 0.0
    own = Task(silent, task.data, task.name, task.progress)
    base, rows = own.flip_teacher(nll=True)
    task.extra += own.passes
    return Result(rows - base)


def smart(task: Task) -> Result:
    """SMART's sensitivities (Zebra-Llama, arXiv 2505.17272): the KL that one restored layer wins back.
    Its rule for the set, `plan.smart`, keeps a layer near each end and near-even distances between.
    """
    return restore(task)
