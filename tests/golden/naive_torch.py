"""The formulas in plain PyTorch, any float dtype, autograd gradients: the source of op and hybrid goldens.

Shapes: tokens [B, T]; x [B, T, D]; q [B, T, H, hd]; k, v [B, T, KV, hd]; log decay g and beta [B, T, H];
state [B, H, hd, hd] (first index key, second value). Parameters: a dict of internal names. Nothing is tuned.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def gated_delta_rule(q, k, v, g, beta, state):
    """S = exp(g) (S - beta k (k S)) + beta k v, o = q S, token by token. -> (o [B,T,H,hd], last state)"""
    out = []
    for t in range(q.shape[1]):
        kt, vt, bt = k[:, t], v[:, t], beta[:, t, :, None]
        state = state * g[:, t, :, None, None].exp()
        correction = bt * (vt - torch.einsum("bhk,bhkv->bhv", kt, state))
        state = state + kt[..., None] * correction[..., None, :]
        out.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(out, 1), state


def repeat_heads(x, heads):
    """[B, T, KV, hd] -> [B, T, H, hd]: head h reads group h // (H / KV)."""
    return x.repeat_interleave(heads // x.shape[2], dim=2)


def window_masks(length, window, sinks, device=None):
    """(inside, rest), bool [T, T]: window or sink, and the causal remainder. window 0 means no window."""
    i = torch.arange(length, device=device)[:, None]
    j = torch.arange(length, device=device)[None, :]
    causal = j <= i
    inside = causal & ((j > i - window) | (j < sinks)) if window else causal
    return inside, causal & ~inside


def window_softmax(q, k, v, scale, window=0, sinks=0):
    """Softmax over the last `window` tokens (own included) and the first `sinks`. -> [B, T, H, hd]"""
    k, v = repeat_heads(k, q.shape[2]), repeat_heads(v, q.shape[2])
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * scale
    inside, _ = window_masks(q.shape[1], window, sinks)
    weights = scores.masked_fill(~inside, -torch.inf).softmax(-1)
    return torch.einsum("bhij,bjhd->bihd", weights, v)


def feature(x, matrix):
    """Softmax over the numbers [x F^T, -x F^T]; x [B, T, N, hd], matrix [N, hd, hd]. -> [B, T, N, 2 hd]"""
    y = torch.einsum("btnd,nfd->btnf", x, matrix)
    return torch.cat([y, -y], -1).softmax(-1)


def window_linear(q, k, v, feature_q, feature_k, gate, scale, window, sinks, raw_q=None, raw_k=None):
    """Exact weights in window and sinks, exp(gate) phi(q).phi(k) elsewhere, one normaliser. -> [B, T, H, hd]

    raw_q, raw_k: what the feature maps read when that is not q and k (rope_features = 0: before RoPE).
    """
    heads = q.shape[2]
    phi_q = feature(q if raw_q is None else raw_q, feature_q)
    phi_k = repeat_heads(feature(k if raw_k is None else raw_k, feature_k), heads)
    k, v = repeat_heads(k, heads), repeat_heads(v, heads)
    inside, rest = window_masks(q.shape[1], window, sinks)
    scores = (torch.einsum("bihd,bjhd->bhij", q, k) * scale).masked_fill(~inside, -torch.inf)
    exact = (scores - scores.amax(-1, keepdim=True)).exp()
    linear = torch.einsum("bihf,bjhf->bhij", phi_q, phi_k) * gate.exp()[None, :, None, None]
    weights = exact + linear * rest
    return torch.einsum("bhij,bjhd->bihd", weights / weights.sum(-1, keepdim=True), v)


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rope(x, inv_freq, attention_factor=1.0):
    """Half-split rotary embedding (HF layout), positions 0..T-1; x [B, T, N, hd]."""
    angle = torch.arange(x.shape[1], dtype=inv_freq.dtype)[:, None] * inv_freq
    cos, sin = (torch.cat([f, f], -1)[:, None] * attention_factor for f in (angle.cos(), angle.sin()))
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def mixer(kind, x, p, prefix, config, options):
    """One mixer on the normed input x [B, T, D]; p holds `prefix`.q_proj.weight and so on. -> [B, T, D]"""
    batch, length, _ = x.shape
    hd, inv_freq, factor = config["head_dim"], config["rope_inv_freq"], config["rope_attention_factor"]

    def project(name):
        y = F.linear(x, p[f"{prefix}.{name}.weight"], p.get(f"{prefix}.{name}.bias"))
        return y.view(batch, length, -1, hd)

    q, k, v = project("q_proj"), project("k_proj"), project("v_proj")
    if kind == "softmax":
        o = window_softmax(rope(q, inv_freq, factor), rope(k, inv_freq, factor), v, hd**-0.5)
    elif kind == "window_linear":
        raw = (None, None) if options.get("rope_features", 1) else (q, k)
        features = (p[f"{prefix}.{n}"] for n in ("feature_q.weight", "feature_k.weight", "gate"))
        q, k = rope(q, inv_freq, factor), rope(k, inv_freq, factor)
        o = window_linear(q, k, v, *features, hd**-0.5, options["window"], options["sinks"], *raw)
    elif kind == "gated_delta":
        if options.get("silu", 1):
            q, k, v = F.silu(q), F.silu(k), F.silu(v)
        q, k = (y * torch.rsqrt(y.square().sum(-1, keepdim=True) + 1e-6) for y in (q, k))
        if options.get("rope", 0):
            q, k = rope(q, inv_freq, factor), rope(k, inv_freq, factor)
        beta = F.linear(x, p[f"{prefix}.b_proj.weight"]).sigmoid()
        dt = F.softplus(F.linear(x, p[f"{prefix}.a_proj.weight"]) + p[f"{prefix}.dt_bias"])
        g = -p[f"{prefix}.A_log"].exp() * dt
        o, _ = gated_delta_rule(q * hd**-0.5, k, v, g, beta, x.new_zeros(batch, q.shape[2], hd, hd))
        o = rms_norm(o, p[f"{prefix}.norm.weight"], config["norm_eps"]) * F.silu(project("g_proj"))
    else:
        raise ValueError(f"kind must be softmax, window_linear or gated_delta, got {kind!r}")
    o = o.reshape(batch, length, -1)
    return F.linear(o, p[f"{prefix}.o_proj.weight"], p.get(f"{prefix}.o_proj.bias"))


def forward(p, config, kinds, tokens, align_to=None):
    """Logits [B, T, V] of the model whose layer i mixes with kinds[i] = (kind, options).

    With align_to = (kind, options) the model's own mixers carry the stream; the second result is the step-1
    losses, one per layer: mean over tokens of |mixer output - `align_to` mixer's output| D^-1/2.
    """
    x, losses = p["embed.weight"][tokens.long()], []
    for i, (kind, options) in enumerate(kinds):
        normed = rms_norm(x, p[f"layers.{i}.mixer_norm.weight"], config["norm_eps"])
        mixed = mixer(kind, normed, p, f"layers.{i}.{kind}", config, options)
        if align_to:
            student = mixer(align_to[0], normed.detach(), p, f"layers.{i}.{align_to[0]}", config, align_to[1])
            losses.append((mixed.detach() - student).norm(dim=-1).mean() * x.shape[-1] ** -0.5)
        x = x + mixed
        y, mlp = rms_norm(x, p[f"layers.{i}.mlp_norm.weight"], config["norm_eps"]), f"layers.{i}.mlp."
        gate = F.linear(y, p[mlp + "gate_proj.weight"], p.get(mlp + "gate_proj.bias"))
        up = F.linear(y, p[mlp + "up_proj.weight"], p.get(mlp + "up_proj.bias"))
        x = x + F.linear(F.silu(gate) * up, p[mlp + "down_proj.weight"], p.get(mlp + "down_proj.bias"))
    x = rms_norm(x, p["final_norm.weight"], config["norm_eps"])
    return F.linear(x, p.get("lm_head.weight", p["embed.weight"])), losses


def next_token_loss(logits, tokens):
    """Mean cross-entropy of token t+1 given the logits at t, over all B (T-1) predictions, in nats."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten().long())


def kl(teacher_logits, student_logits):
    """Mean over all B T tokens of KL(teacher || student), in nats."""
    t, s = teacher_logits.log_softmax(-1), student_logits.log_softmax(-1)
    return (t.exp() * (t - s)).sum(-1).mean()
