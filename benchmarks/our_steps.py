"""Our side of `steps.py`: one RADLADS step, or one forward pass, on SmolLM2-135M. Run by the driver, not by
hand.

`our_steps.py --prepare FOLDER MODEL SOFTMAX_LAYERS` writes teacher/, probe/ and hybrid/ there, which both
sides then read.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def begin(threads: int) -> dict:
    global core, Model
    from hybridattn import _core as core
    from hybridattn.model.model import Model

    core.set_num_threads(threads)
    return {"numpy": np.__version__, "python": sys.version.split()[0], **core.show_config()}


def prepare(folder: Path, model: str, softmax_layers: int) -> None:
    """Teacher, probe with gated_delta in every layer, and the hybrid with evenly spread softmax layers."""
    begin(2)
    teacher = Model.from_pretrained(model)
    probe = teacher.to_probe({"kind": "gated_delta"}, seed=0)
    count = len(teacher.layers)
    keep = [int((i + 0.5) * count / softmax_layers) for i in range(softmax_layers)]
    for name, value in (("teacher", teacher), ("probe", probe), ("hybrid", probe.to_hybrid(keep))):
        value.save_pretrained(folder / name)


def norm(x):
    return float(np.sqrt(np.square(x.astype(np.float64)).sum()))


def distiller(case, inputs, student, teacher, stage, cached=False):
    """One step a call; `cached`: the teacher's hidden states were computed before. The check is the loss of
    a step whose learning rate is 0, so that weights stay.
    """
    batch, length = inputs["tokens"].shape
    tokens = np.ascontiguousarray(inputs["tokens"].reshape(-1))
    start, most = np.arange(batch, dtype=np.int64) * length, 1000
    windows = np.ascontiguousarray(np.broadcast_to(np.stack([start, start + length], -1), (most, batch, 2)))
    lr = np.tile(np.array([1e-3, 0] if stage == "align" else [1e-4, 1e-5], np.float32), (most, 1))
    lr[0] = 0
    trainer = core.Distiller(student, teacher, stage, micro_batch=case["micro_batch"])
    known = None
    if cached:
        known = np.empty((len(tokens), teacher.config["hidden_size"]), np.float32)
        teacher.forward_windows(tokens, windows[0], known)

    def step():
        return trainer.run(tokens, windows, lr, trainer.step, trainer.step + 1, teacher_hidden=known)

    return {"step": step, "check": lambda: [float(step().mean())]}


def load(case, name):
    """A model of the case, in its arithmetic."""
    return Model.from_pretrained(case[name], compute=case.get("compute", "float32"))


def align(case, inputs):
    return distiller(case, inputs, load(case, "probe"), None, "align")


def distill(case, inputs, cached=False):
    student, teacher = load(case, "hybrid"), load(case, "teacher")
    return distiller(case, inputs, student, teacher, "distill", cached)


def distill_cached(case, inputs):
    return distill(case, inputs, True)


def forward(case, inputs):
    model, tokens = load(case, "hybrid"), inputs["tokens"]

    def check():
        return [norm(model.hidden(tokens))]

    return {"step": lambda: model.hidden(tokens), "check": check}


def decode(case, inputs):
    """`new` tokens, one by one, after a prompt of length T: each is the likeliest one."""
    model, tokens = Model.from_pretrained(case["hybrid"]), inputs["tokens"]
    prompt = core.Cache(model, batch=len(tokens))
    first = model.logits(tokens, cache=prompt, last=True)

    def run(hidden=False):
        cache, logits = prompt.fork(), first
        for i in range(case["new"]):
            chosen = logits.argmax(-1).astype(np.int32)[:, None]
            if hidden and i + 1 == case["new"]:
                return model.hidden(chosen, cache=cache)
            logits = model.logits(chosen, cache=cache, last=True)
        return logits

    return {"step": run, "check": lambda: [norm(run(True))]}


BUILDERS = {f.__name__: f for f in (align, distill, distill_cached, forward, decode)}

if __name__ == "__main__":
    if sys.argv[1] == "--prepare":
        prepare(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        from protocol import serve

        serve(begin, BUILDERS)
