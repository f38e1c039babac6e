"""Our side of the prefill and decode rows of `compare.py`. Run by the driver, not by hand.

A case names a folder, the weights' type ("float32", or what Model.astype takes) and a length. Its parts are
the ways to store keys and values; the driver takes the best.
"""

from __future__ import annotations

import numpy as np
from our_steps import begin as begin
from our_steps import norm


def load(case):
    from hybridattn.model.model import Model

    compute = case.get("compute", "float32")
    return Model.from_pretrained(case["model"], dtype=case["weights"], compute=compute)


def prefill(case, inputs):
    """A prompt into a new cache, and the logits after it."""
    from hybridattn.model.generate import prefill as fill

    model, prompts = load(case), inputs["tokens"].tolist()

    def run(dtype):
        return fill(model, prompts, model.cache(len(prompts), dtype))

    parts = {f"{dtype} cache": (lambda dtype=dtype: run(dtype)) for dtype in ("f32", "f16")}
    return parts | {"check": lambda: [norm(run("f32"))]}


def decode(case, inputs):
    """`new` tokens one by one after a prompt; every call goes on where the one before ended."""
    from hybridattn.model.generate import prefill as fill

    model, prompts = load(case), inputs["tokens"].tolist()
    caches, token = {}, np.zeros((len(prompts), 1), np.int32)
    for dtype in ("f32", "f16"):
        caches[dtype] = model.cache(len(prompts), dtype)
        caches[dtype].reserve([len(p) + case["room"] for p in prompts])
        fill(model, prompts, caches[dtype])

    def run(dtype):
        for _ in range(case["new"]):
            logits = model.logits(token, cache=caches[dtype], last=True)
        return logits

    parts = {f"{dtype} cache": (lambda dtype=dtype: run(dtype)) for dtype in caches}
    return parts | {"check": lambda: [norm(run("f32"))]}


if __name__ == "__main__":
    from protocol import serve

    serve(begin, {"prefill": prefill, "decode": decode})
