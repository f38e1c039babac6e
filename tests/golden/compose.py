"""The window_linear formula put together from the ops softmax_attention, feature_map and linear_attention.

q [T, H, hd]; k, v [T, KV, hd]; feature_q [H, hd, hd]; feature_k [KV, hd, hd]; gate [H]. With near, lse
and max from the softmax over window and sinks, far and den from the linear part behind the window, and
lam = exp(gate + max - lse): o = (near + lam far) / (1 + lam den).
"""

from __future__ import annotations

import numpy as np


def _parts(ops, q, k, v, feature_q, feature_k, gate, window, sinks, lengths):
    near, lse, largest = ops.softmax_attention(
        q, k, v, window=window, sinks=sinks, lengths=lengths, return_stats=True
    )
    phi_q, phi_k = ops.feature_map(q, feature_q), ops.feature_map(k, feature_k)
    phi_k[_sink_rows(lengths, len(q), sinks)] = 0  # sinks belong to the softmax
    far, den = ops.linear_attention(phi_q, phi_k, v, lag=window, lengths=lengths)
    lam = np.exp(gate + largest - lse)
    return near, phi_q, phi_k, far, den, lam


def _sink_rows(lengths, rows, sinks):
    ends = np.cumsum(lengths if lengths is not None else [rows])
    starts = np.concatenate([[0], ends[:-1]])
    return np.concatenate([np.arange(a, min(a + sinks, b)) for a, b in zip(starts, ends)]).astype(int)


def window_linear(ops, q, k, v, feature_q, feature_k, gate, window, sinks, lengths=None):
    """The mixer's output, [T, H, hd]; lengths of the sequences that the T tokens belong to, None: one."""
    near, _, _, far, den, lam = _parts(ops, q, k, v, feature_q, feature_k, gate, window, sinks, lengths)
    return (near + lam[..., None] * far) / (1 + lam * den)[..., None]


def window_linear_vjp(ops, q, k, v, feature_q, feature_k, gate, dout, window, sinks, lengths=None):
    """Gradients of q, k, v, feature_q, feature_k and gate."""
    _, phi_q, phi_k, far, den, lam = parts = _parts(
        ops, q, k, v, feature_q, feature_k, gate, window, sinks, lengths
    )
    total = 1 + lam * den
    out = (parts[0] + lam[..., None] * far) / total[..., None]
    dnear = dout / total[..., None]
    along = (dnear * out).sum(-1)
    dlog = lam * ((dnear * far).sum(-1) - den * along)  # gradient of log lam = gate + max - lse
    dq, dk, dv = ops.softmax_attention_vjp(
        q, k, v, dnear, -dlog, dlog, window=window, sinks=sinks, lengths=lengths
    )
    dphi_q, dphi_k, dv_far = ops.linear_attention_vjp(
        phi_q, phi_k, v, lam[..., None] * dnear, -lam * along, lag=window, lengths=lengths
    )
    dphi_k[_sink_rows(lengths, len(q), sinks)] = 0
    dq_far, dfeature_q = ops.feature_map_vjp(q, dphi_q, feature_q)
    dk_far, dfeature_k = ops.feature_map_vjp(k, dphi_k, feature_k)
    return dq + dq_far, dk + dk_far, dv + dv_far, dfeature_q, dfeature_k, dlog.sum(0)
