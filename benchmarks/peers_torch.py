"""What a PyTorch user would write, at its best: the peer of each op, gradients by autograd.

Shapes: q [B, H, T, hd]; k, v [B, KV, T, hd] (PyTorch's own order); g, beta [B, H, T]; hidden [N, D]; weights
[out, in]. Every choice below was the fastest of those tried on two AVX2 cores; the reasons stand beside them.
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F


def prepare(threads: int) -> dict[str, str]:
    """Threads and seed of a side that runs PyTorch; what it runs with, by name."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return {
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def arithmetic(case):
    """The context of a case: bfloat16 autocast where it asks for it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=case.get("compute") == "bfloat16")


def linear(x, weight):
    return F.linear(x, weight)


def rms_norm(x, weight, eps=1e-5):
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def rope(x, cos, sin):
    """x [B, H, T, hd], cos and sin [T, hd]: the half-split form of transformers."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def mlp(x, gate, up, down):
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def repeat_heads(x, heads):
    return x.repeat_interleave(heads // x.shape[1], 1) if x.shape[1] != heads else x


def attention(q, k, v):
    """Causal SDPA. Heads are expanded first: enable_gqa does the same inside."""
    heads = q.shape[1]
    return F.scaled_dot_product_attention(q, repeat_heads(k, heads), repeat_heads(v, heads), is_causal=True)


def _blocks(x, size):
    """[B, N, T, d] -> [B, N, T / size, size, d]"""
    return x.unflatten(2, (-1, size))


def _with_previous(blocks):
    """Each block preceded by the one before it (zeros before the first): [.., n, C, d] -> [.., n, 2 C, d]"""
    return torch.cat([F.pad(blocks, (0, 0, 0, 0, 1, -1)), blocks], -2)


def band_mask(length, window, sinks):
    """bool [T / window, window, sinks + 2 window]: what a query sees of (sinks, last block, own)."""
    i = torch.arange(length).view(-1, window, 1)
    j = torch.arange(2 * window) + window * (torch.arange(length // window).view(-1, 1, 1) - 1)
    inside = (j > i - window) & (j <= i) & (j >= 0)
    return torch.cat([torch.arange(sinks) <= i - window, inside], -1)


def window_attention(q, k, v, mask, window, sinks):
    """Sliding window and sinks: blocks of `window` queries against 2 window + sinks keys."""
    heads, count = q.shape[1], q.shape[2] // window
    k, v = repeat_heads(k, heads), repeat_heads(v, heads)
    q, kb, vb = _blocks(q, window), _with_previous(_blocks(k, window)), _with_previous(_blocks(v, window))
    if sinks:
        kb, vb = (
            torch.cat([x[:, :, None, :sinks].expand(-1, -1, count, -1, -1), b], -2)
            for x, b in ((k, kb), (v, vb))
        )
    out = F.scaled_dot_product_attention(*(x.flatten(0, 1) for x in (q, kb, vb)), attn_mask=mask)
    return out.reshape(out.shape[0], -1, out.shape[-1]).unflatten(0, (-1, heads))


def feature(x, matrix):
    """softmax([x F^T, -x F^T]) per head; x [B, N, T, hd], matrix [N, hd, hd]."""
    y = x @ matrix.mT
    return torch.cat([y, -y], -1).softmax(-1)


def window_linear(q, k, v, feature_q, feature_k, gate, mask, window, sinks):
    """Exact weights in window and sinks, feature-map weights elsewhere, one normaliser; in blocks.

    The far blocks (all but own and previous) come as one prefix sum of phi(k)^T [v, 1]; the part of the
    previous block that the window has left behind is a masked product.
    """
    heads, hd, count = q.shape[1], q.shape[-1], q.shape[2] // window
    phi_q = _blocks(feature(q, feature_q), window)
    phi_k = feature(k, feature_k)
    if sinks:
        phi_k = torch.cat([torch.zeros_like(phi_k[:, :, :sinks]), phi_k[:, :, sinks:]], 2)
    phi_k, v1 = repeat_heads(phi_k, heads), repeat_heads(F.pad(v, (0, 1), value=1.0), heads)
    k = repeat_heads(k, heads)
    kb, vb, phi_kb = _blocks(k, window), _blocks(v1, window), _blocks(phi_k, window)
    keys, values = _with_previous(kb), _with_previous(vb)
    if sinks:
        keys = torch.cat([k[:, :, None, :sinks].expand(-1, -1, count, -1, -1), keys], -2)
        values = torch.cat([v1[:, :, None, :sinks].expand(-1, -1, count, -1, -1), values], -2)
    scores = (_blocks(q, window) @ keys.mT * hd**-0.5).masked_fill(~mask, -torch.inf)
    exact = (scores - scores.amax(-1, keepdim=True)).exp() @ values
    state = F.pad((phi_kb.mT @ vb).cumsum(2), (0, 0, 0, 0, 2, -2))
    left = phi_q @ F.pad(phi_kb, (0, 0, 0, 0, 1, -1)).mT
    left = left * torch.ones(window, window).tril()  # previous block: column c is left behind when c <= row
    rest = phi_q @ state + left @ F.pad(vb, (0, 0, 0, 0, 1, -1))
    total = exact + gate.exp()[:, None, None, None] * rest
    return (total[..., :-1] / total[..., -1:]).flatten(2, 3)


def gated_delta(q, k, v, g, beta, state, chunk=32, inverse="doubling"):
    """Gated delta rule in chunks (WY form); state [B, H, hd, hd], key by value. -> (o, last state)

    (I + A)^-1 by doubling, (I - A)(I + A^2)(I + A^4).., beats a batched triangular solve at chunk 32, and 32
    beats 64. Only the state runs in the loop; outputs are two batched products afterwards. unbind, not
    indexing: its backward is one stack.
    """
    batch, heads, length, hd = q.shape
    count = length // chunk

    def cut(x):
        return x.reshape(batch * heads, count, chunk, -1).transpose(0, 1).contiguous()

    q, k, v, beta = cut(q), cut(k), cut(v), cut(beta)
    g = g.reshape(batch * heads, count, chunk).transpose(0, 1).cumsum(-1)
    causal = torch.ones(chunk, chunk, dtype=torch.bool).tril()
    decay = (g[..., :, None] - g[..., None, :]).masked_fill(~causal, -torch.inf).exp()
    from_start, to_end = g.exp()[..., None], (g[..., -1:] - g).exp()[..., None]
    k_beta = k * beta
    a = k_beta @ k.mT * decay
    right = torch.cat([v * beta, k_beta * from_start], -1)
    if inverse == "solve":
        u, w = torch.linalg.solve_triangular(a, right, upper=False, unitriangular=True).split(hd, -1)
    else:
        power = -a.tril(-1)
        inv = torch.eye(chunk) + power
        for _ in range(chunk.bit_length() - 2):
            power = power @ power
            inv = inv + inv @ power
        u, w = (inv @ right).split(hd, -1)
    k_end, last = (k * to_end).mT.contiguous(), g[..., -1].exp()[..., None, None]
    state, values, states = state.reshape(batch * heads, hd, hd), [], []
    for u_n, w_n, k_n, last_n in zip(u.unbind(0), w.unbind(0), k_end.unbind(0), last.unbind(0)):
        value = torch.baddbmm(u_n, w_n, state, alpha=-1)
        values.append(value)
        states.append(state)
        state = torch.baddbmm(state * last_n, k_n, value)
    o = (q @ k.mT * decay) @ torch.stack(values) + (q * from_start) @ torch.stack(states)
    return o.transpose(0, 1).reshape(batch, heads, length, hd), state.view(batch, heads, hd, hd)


def gated_delta_step(q, k, v, g, beta, state):
    """One token of the same, for decoding: q, k, v [B, H, 1, hd], g and beta [B, H, 1]."""
    state = state * g.exp()[..., None]
    state = state + k.mT @ ((v - k @ state) * beta[..., None])
    return q @ state, state


class LMHeadKL(torch.autograd.Function):
    """Mean over rows of KL(softmax(teacher W_t^T) || softmax(student W_s^T)), with its gradient.

    No [N, V] tensor exists; two buffers of `rows` rows are reused, and the elementwise passes work in place.
    Under autocast the products are of bfloat16, the rest is float32.
    """

    @staticmethod
    def forward(ctx, student, weight, teacher, teacher_weight, rows=256):
        if torch.is_autocast_enabled("cpu"):
            return LMHeadKL.forward_bfloat16(ctx, student, weight, teacher, teacher_weight, rows)
        n = student.shape[0]
        d_student, d_weight = torch.empty_like(student), torch.zeros_like(weight)
        t_buffer, s_buffer = (torch.empty(rows, weight.shape[0]) for _ in range(2))
        loss = 0.0
        for i in range(0, n, rows):
            m = min(rows, n - i)
            t = torch.mm(teacher[i : i + m], teacher_weight.t(), out=t_buffer[:m])
            s = torch.mm(student[i : i + m], weight.t(), out=s_buffer[:m])
            torch.log_softmax(t, -1, out=t)
            torch.log_softmax(s, -1, out=s)
            p = t.exp()
            loss += torch.dot(p.view(-1), t.sub_(s).view(-1)).double()
            s.exp_().sub_(p).mul_(1.0 / n)
            torch.mm(s, weight, out=d_student[i : i + m])
            d_weight.addmm_(s.t(), student[i : i + m])
        ctx.save_for_backward(d_student, d_weight)
        return loss.float() / n

    @staticmethod
    def forward_bfloat16(ctx, student, weight, teacher, teacher_weight, rows):
        n, low = student.shape[0], torch.bfloat16
        d_student, d_weight, loss = torch.empty(student.shape), torch.zeros(weight.shape), 0.0
        student, weight, teacher, teacher_weight = (
            x.to(low) for x in (student, weight, teacher, teacher_weight)
        )
        for i in range(0, n, rows):
            piece = student[i : i + rows]
            t = torch.log_softmax((teacher[i : i + rows] @ teacher_weight.t()).float(), -1)
            s = torch.log_softmax((piece @ weight.t()).float(), -1)
            p = t.exp()
            loss += torch.dot(p.view(-1), t.sub_(s).view(-1)).double()
            s = s.exp_().sub_(p).mul_(1.0 / n).to(low)
            d_student[i : i + rows] = s @ weight
            d_weight += s.t() @ piece
        ctx.save_for_backward(d_student, d_weight)
        return loss.float() / n

    @staticmethod
    def backward(ctx, upstream):
        d_student, d_weight = ctx.saved_tensors
        return d_student * upstream, d_weight * upstream, None, None, None


class LMHeadCrossEntropy(torch.autograd.Function):
    """Mean next-token loss of hidden [N, D] against targets [N], fused with the LM head likewise."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, rows=256):
        n = hidden.shape[0]
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        buffer = torch.empty(rows, weight.shape[0])
        loss = 0.0
        for i in range(0, n, rows):
            m = min(rows, n - i)
            s = torch.mm(hidden[i : i + m], weight.t(), out=buffer[:m])
            torch.log_softmax(s, -1, out=s)
            index = targets[i : i + m, None]
            loss -= s.gather(1, index).sum().double()
            s.exp_().scatter_add_(1, index, torch.full((m, 1), -1.0)).mul_(1.0 / n)
            torch.mm(s, weight, out=d_hidden[i : i + m])
            d_weight.addmm_(s.t(), hidden[i : i + m])
        ctx.save_for_backward(d_hidden, d_weight)
        return loss.float() / n

    @staticmethod
    def backward(ctx, upstream):
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * upstream, d_weight * upstream, None, None
