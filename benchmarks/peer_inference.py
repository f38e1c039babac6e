"""PyTorch in the prefill and decode rows of `compare.py`. Run by the driver, not by hand.

case["peer"]: "eager", our own decoder with PyTorch's fast paths and a cache in place (`peer_model.py`); or
"transformers", the library's model with SDPA, its own cache, and logits of the last token only.
"""

from __future__ import annotations

from peer_steps import begin as begin_torch


def begin(threads: int) -> dict:
    global torch, F, P, peer_model
    versions = begin_torch(threads)
    import peer_model
    import peers_torch as P
    import torch
    import torch.nn.functional as F
    import transformers

    torch.set_grad_enabled(False)
    transformers.utils.logging.disable_progress_bar()
    return versions | {"transformers": transformers.__version__}


class Eager:
    """`peer_model` with states in place."""

    def __init__(self, case, batch):
        self.model, self.batch, self.most = (
            peer_model.load(case["model"]),
            batch,
            case["length"] + case["room"],
        )

    def start(self):
        self.states, self.at = self.model.states(self.batch, self.most), 0

    def put(self, tokens):
        hidden = self.model(tokens, self.states, self.at)
        self.at += tokens.shape[1]
        return F.linear(hidden[:, -1], self.model.embed.weight)


class Transformers:
    """The library's Llama."""

    def __init__(self, case, batch):
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(
            case["model"], dtype=torch.float32, attn_implementation="sdpa"
        ).eval()

    def start(self):
        from transformers import DynamicCache

        self.states = DynamicCache()

    def put(self, tokens):
        found = self.model(tokens, past_key_values=self.states, use_cache=True, logits_to_keep=1)
        return found.logits[:, -1]


def norm(x):
    return float(x.double().square().sum().sqrt())


def begun(case, inputs):
    tokens = torch.from_numpy(inputs["tokens"]).long()
    return {"eager": Eager, "transformers": Transformers}[case["peer"]](case, len(tokens)), tokens


def prefill(case, inputs):
    """A prompt into a new cache, and the logits after it."""
    side, tokens = begun(case, inputs)

    def run():
        side.start()
        with P.arithmetic(case):
            return side.put(tokens)

    return {"run": run, "check": lambda: [norm(run())]}


def decode(case, inputs):
    """`new` tokens one by one after a prompt; every call goes on where the one before ended."""
    side, tokens = begun(case, inputs)
    side.start()
    side.put(tokens)
    zero = torch.zeros(len(tokens), 1, dtype=torch.long)

    def run():
        for _ in range(case["new"]):
            logits = side.put(zero)
        return logits

    return {"run": run, "check": lambda: [norm(run())]}


if __name__ == "__main__":
    from protocol import serve

    serve(begin, {"prefill": prefill, "decode": decode})
