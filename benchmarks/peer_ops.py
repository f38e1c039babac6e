"""The PyTorch side of `ops.py`: builds each case on tensors and serves timings. Run by the driver, not by
hand.
"""

from __future__ import annotations

import numpy as np

torch = P = None


def begin(threads: int) -> dict:
    global torch, P
    import torch as torch_module

    torch = torch_module
    import peers_torch

    P = peers_torch
    return P.prepare(threads)


def tensor(x, grad=True):
    x = torch.from_numpy(np.ascontiguousarray(x))
    return x.requires_grad_() if grad and x.is_floating_point() else x


def heads_first(x, grad=True):
    """[B, T, N, hd] -> [B, N, T, hd], contiguous: the order that SDPA likes."""
    return tensor(np.ascontiguousarray(np.swapaxes(x, 1, 2)), grad)


def sums(*arrays):
    """What both sides compare: the root of the sum of squares of each result."""
    return [float(x.detach().double().square().sum().sqrt()) for x in arrays]


def differentiable(function, leaves, up):
    """forward (no graph), both (graph, then all gradients), and the check of output and gradients."""

    def forward():
        with torch.no_grad():
            return function()

    def both():
        return torch.autograd.grad(function(), leaves, up)

    return {"forward": forward, "both": both, "check": lambda: sums(forward(), *both())}


def linear(case, a):
    x, w = tensor(a["x"]), tensor(a["weight"])
    return differentiable(lambda: P.linear(x, w), [x, w], tensor(a["up"], False))


def rms_norm(case, a):
    x, w = tensor(a["x"]), tensor(a["weight"])
    return differentiable(lambda: P.rms_norm(x, w), [x, w], tensor(a["up"], False))


def rope(case, a):
    x = heads_first(a["x"], False)
    angle = torch.arange(case["length"])[:, None] * torch.from_numpy(a["inv_freq"])
    cos, sin = (torch.cat([f, f], -1) for f in (angle.cos(), angle.sin()))
    return {"forward": lambda: P.rope(x, cos, sin), "check": lambda: sums(P.rope(x, cos, sin))}


def mlp(case, a):
    x, gate, up, down = (tensor(a[n]) for n in ("x", "gate", "up_proj", "down"))
    return differentiable(lambda: P.mlp(x, gate, up, down), [x, gate, up, down], tensor(a["up"], False))


def attention(case, a):
    q, k, v = (heads_first(a[n]) for n in "qkv")
    return differentiable(lambda: P.attention(q, k, v), [q, k, v], heads_first(a["up"], False))


def window_attention(case, a):
    q, k, v = (heads_first(a[n]) for n in "qkv")
    size = case["window"], case["sinks"]
    mask = P.band_mask(case["length"], *size)
    up = heads_first(a["up"], False)
    return differentiable(lambda: P.window_attention(q, k, v, mask, *size), [q, k, v], up)


def window_linear(case, a):
    q, k, v = (heads_first(a[n]) for n in "qkv")
    leaves = [q, k, v] + [tensor(a[n]) for n in ("feature_q", "feature_k", "gate")]
    size = case["window"], case["sinks"]
    mask = P.band_mask(case["length"], *size)
    up = heads_first(a["up"], False)
    return differentiable(lambda: P.window_linear(*leaves, mask, *size), leaves, up)


def gated_delta(case, a):
    q, k, v = (heads_first(a[n]) for n in "qkv")
    g, beta = (tensor(np.ascontiguousarray(np.swapaxes(a[n], 1, 2))) for n in ("g", "beta"))
    state = torch.zeros(q.shape[0], q.shape[1], q.shape[3], q.shape[3])
    up = heads_first(a["up"], False)
    return differentiable(lambda: P.gated_delta(q, k, v, g, beta, state)[0], [q, k, v, g, beta], up)


def loss(function, leaves):
    """A scalar loss whose forward pass makes the gradients."""
    value = {}

    def both():
        value["loss"] = function()
        value["gradients"] = torch.autograd.grad(value["loss"], leaves)

    def check():
        both()
        return [float(value["loss"].detach())] + sums(*value["gradients"])

    return {"both": both, "check": check}


def kl_head(case, a):
    hidden, weight, teacher = tensor(a["hidden"]), tensor(a["weight"]), tensor(a["teacher"], False)
    fixed = weight.detach()
    return loss(lambda: P.LMHeadKL.apply(hidden, weight, teacher, fixed), [hidden, weight])


def cross_entropy_head(case, a):
    hidden, weight = tensor(a["hidden"]), tensor(a["weight"])
    targets = torch.from_numpy(a["targets"]).long()
    return loss(lambda: P.LMHeadCrossEntropy.apply(hidden, weight, targets), [hidden, weight])


def adamw(case, a):
    p = torch.nn.Parameter(tensor(a["p"], False))
    p.grad = tensor(a["g"], False)
    optimizer = torch.optim.AdamW([p], lr=1e-5, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=True)
    return {"step": optimizer.step, "check": lambda: (optimizer.step(), sums(p))[1]}


BUILDERS = {
    f.__name__: f
    for f in (
        linear,
        rms_norm,
        rope,
        mlp,
        attention,
        window_attention,
        window_linear,
        gated_delta,
        kl_head,
        cross_entropy_head,
        adamw,
    )
}

if __name__ == "__main__":
    from protocol import serve

    serve(begin, BUILDERS)
