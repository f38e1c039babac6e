"""Linear attention with a state of fixed size: token by token, and in chunks for prompts and training.

Everything here runs in float32 on [batch, heads, tokens, channels]. Decays stay logarithms, and only
exponents of at most 0 are taken: exp(G_i - G_j) of two running sums G with i at or after j. So no decay is
too strong for a chunk, where a quotient exp(G_i) / exp(G_j) would overflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_HEAD, CHUNK_CHANNEL = 64, 16  # tokens of a chunk: pairs [C, C], and pairs by channel [C, C, d]


@dataclass
class Operands:
    """What a token does to the state S [dk, dv], in this order:

        u = S^T b,   S <- diag(exp(g)) S + a u^T + k v^T,   out = S^T q

    q, k, a, b [B, H, T, dk]; v [B, H, T, dv]; g [B, H, T, dk], [B, H, T, 1] or None for no decay. b None: S
    only adds. a None beside b: a is -k, which makes it the delta rule.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor | None = None
    b: Tensor | None = None
    a: Tensor | None = None


def step(x: Operands, t: int, state: Tensor) -> tuple[Tensor, Tensor]:
    """Token t alone: its output [B, H, dv] and the state after it."""
    k, v = x.k[:, :, t], x.v[:, :, t]
    write = k.unsqueeze(-1) * v.unsqueeze(-2)
    if x.b is not None:
        seen = (x.b[:, :, t].unsqueeze(-2) @ state).squeeze(-2)
        a = -k if x.a is None else x.a[:, :, t]
        write = write + a.unsqueeze(-1) * seen.unsqueeze(-2)
    if x.g is not None:
        state = state * x.g[:, :, t].exp().unsqueeze(-1)
    state = state + write
    return (x.q[:, :, t].unsqueeze(-2) @ state).squeeze(-2), state


def recurrence(x: Operands, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Outputs [B, H, T, dv] and the state after the last token; `state` [B, H, dk, dv] or None for zeros."""
    batch, heads, steps, width = x.k.shape
    if state is None:
        state = x.v.new_zeros(batch, heads, width, x.v.shape[-1])
    if steps == 1:
        out, state = step(x, 0, state)
        return out.unsqueeze(2), state
    by_channel = x.g is not None and x.g.shape[-1] > 1
    size = min(steps, CHUNK_CHANNEL if by_channel else CHUNK_HEAD)
    q, k, v = (cut(y, size) for y in (x.q, x.k, x.v))
    g = cut(torch.zeros_like(x.k[..., :1]) if x.g is None else x.g, size)
    # [B, H, N, C, .] decay since the chunk began, with token i and without it
    after = g.cumsum(-2)
    before, total = after - g, after[..., -1:, :]
    here = triangle(size, x.q.device)
    earlier = triangle(size, x.q.device, -1)
    within = pairs(q, k, after, after, here)
    reach, kept = q * after.exp(), k * (total - after).exp()
    if x.b is not None:
        # u_i = b_i S_0 + sum_{j<i} (b_i . k_j) v_j + (b_i . a_j) u_j: one triangular system a chunk
        b, a = cut(x.b, size), None if x.a is None else cut(x.a, size)
        inside = pairs(b, k, before, after, earlier)
        erased = -inside if a is None else pairs(b, a, before, after, earlier)
        known = torch.cat([b * before.exp(), inside @ v], -1)
        identity = torch.eye(size, device=x.q.device, dtype=x.q.dtype)
        solved = torch.linalg.solve_triangular(identity - erased, known, upper=False, unitriangular=True)
        from_state, from_chunk = solved.split([width, v.shape[-1]], -1)
        if a is not None:
            within_a, kept_a = pairs(q, a, after, after, here), a * (total - after).exp()
    decay, outputs = total.exp().transpose(-1, -2), []
    for n in range(q.shape[2]):
        values = v[:, :, n]
        if x.b is not None:
            seen = from_state[:, :, n] @ state + from_chunk[:, :, n]
            if x.a is None:
                values = values - seen
        out = reach[:, :, n] @ state + within[:, :, n] @ values
        state = state * decay[:, :, n] + kept[:, :, n].transpose(-1, -2) @ values
        if x.a is not None:
            out = out + within_a[:, :, n] @ seen
            state = state + kept_a[:, :, n].transpose(-1, -2) @ seen
        outputs.append(out)
    return torch.cat(outputs, 2)[:, :, :steps], state


def value_recurrence(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `recurrence` of what only adds, but with a decay for each channel of the values, g [B, H, T, dv]."""
    batch, heads, steps, width = k.shape
    if state is None:
        state = v.new_zeros(batch, heads, width, v.shape[-1])
    size = min(steps, CHUNK_CHANNEL)
    q, k, v, g = (cut(y, size) for y in (q, k, v, g))
    after = g.cumsum(-2)
    total, here = after[..., -1:, :], triangle(size, q.device)
    weight = (q @ k.transpose(-1, -2)) * here
    gap = (after.unsqueeze(-2) - after.unsqueeze(-3)).masked_fill(~here.unsqueeze(-1), -torch.inf)
    within = (weight.unsqueeze(-2) @ (gap.exp() * v.unsqueeze(-3))).squeeze(-2)
    reach, kept, outputs = after.exp(), v * (total - after).exp(), []
    for n in range(q.shape[2]):
        outputs.append(within[:, :, n] + reach[:, :, n] * (q[:, :, n] @ state))
        state = state * total[:, :, n].exp() + k[:, :, n].transpose(-1, -2) @ kept[:, :, n]
    return torch.cat(outputs, 2)[:, :, :steps], state


def feature_sums(fq: Tensor, fk: Tensor, v: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """sum_{j<=i} (fq_i . fk_j) v_j, with the sum of outer products fk_j v_j^T so far as the state.

    fq [B, KV, G, T, F] for G query heads of each key head; fk [B, KV, T, F]; v [B, KV, T, dv]; state
    [B, KV, F, dv]. Returns [B, KV, G, T, dv] and the state after the last token.
    """
    steps = fk.shape[2]
    size = min(steps, CHUNK_HEAD)
    fq, fk, v = cut(fq, size), cut(fk, size), cut(v, size)
    sums = fk.transpose(-1, -2) @ v
    if state is None:
        state = torch.zeros_like(sums[:, :, 0])
    states = torch.cat([state.unsqueeze(2), sums], 2).cumsum(2)
    scores = (fq @ fk.unsqueeze(2).transpose(-1, -2)) * triangle(size, fq.device)
    out = fq @ states[:, :, None, :-1] + scores @ v.unsqueeze(2)
    return out.flatten(3, 4)[:, :, :, :steps], states[:, :, -1]


def pairs(x: Tensor, y: Tensor, at_x: Tensor, at_y: Tensor, mask: Tensor) -> Tensor:
    """sum_c x_ic y_jc exp(at_x_ic - at_y_jc) for the pairs (i, j) of the mask, else 0: [..., C, C]."""
    gap = (at_x.unsqueeze(-2) - at_y.unsqueeze(-3)).masked_fill(~mask.unsqueeze(-1), -torch.inf).exp()
    if gap.shape[-1] == 1:
        return (x @ y.transpose(-1, -2)) * gap.squeeze(-1)
    return ((gap * y.unsqueeze(-3)) @ x.unsqueeze(-1)).squeeze(-1)


def triangle(size: int, device: torch.device, diagonal: int = 0) -> Tensor:
    """[size, size], true where the column is at most the row plus `diagonal`."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril(diagonal)


def cut(x: Tensor, size: int) -> Tensor:
    """[..., T, d] in chunks [..., N, size, d], zeros after the last token."""
    x = F.pad(x, (0, 0, 0, -x.shape[-2] % size))
    return x.unflatten(-2, (-1, size))
