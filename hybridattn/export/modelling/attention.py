"""Mixers with grouped key and value heads: softmax over everything, over a window and sinks, feature maps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration import HybridAttnConfig
from .recurrence import feature_sums
from .tokens import State, Tokens, extend

ELU, RELU, HEDGEHOG, FAVOR = range(4)  # feature maps
FAVOR_TOP = 30.0  # the largest exponent of favor
NO_MASS = 1e-20  # keeps 0 / 0 at 0


class RMSNorm(nn.Module):
    """weight x / sqrt(mean(x^2) + eps), in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def reset(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on x [B, heads, T, d] in the rotate-half layout, in float32; channels past the table stay."""
    half = cos.shape[-1]
    a, b, rest = x.float().split([half, half, x.shape[-1] - 2 * half], -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)


class Projections(nn.Module):
    """q, k, v and o of one layer, with biases and a norm on each head of q and k where the teacher has them
    and the mixer's options `bias` and `qk_norm` do not leave them out.
    """

    def __init__(self, config: HybridAttnConfig, spec: dict[str, Any], kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.dim = config.num_attention_heads, kv_heads, config.head_dim
        body, biased, normed = config.body, bool(spec.get("bias", 1)), bool(spec.get("qk_norm", 1))
        wide, inner, bias = config.hidden_size, self.heads * self.dim, body["attention_bias"] and biased
        self.q_proj = nn.Linear(wide, inner, bias=bias)
        self.k_proj = nn.Linear(wide, kv_heads * self.dim, bias=bias)
        self.v_proj = nn.Linear(wide, kv_heads * self.dim, bias=bias)
        self.o_proj = nn.Linear(inner, wide, bias=body["output_bias"] and biased)
        self.q_norm = RMSNorm(self.dim, body["norm_eps"]) if body["qk_norm"] and normed else None
        self.k_norm = RMSNorm(self.dim, body["norm_eps"]) if body["qk_norm"] and normed else None

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, T, heads d] to [B, heads, T, d]"""
        return x.unflatten(-1, (-1, self.dim)).transpose(1, 2)

    def grouped(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [B, H, T, d], k and v [B, KV, T, d]; q and k through their norms."""
        q, k, v = (self.split_heads(f(x)) for f in (self.q_proj, self.k_proj, self.v_proj))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        return q, k, v

    def out(self, y: Tensor) -> Tensor:
        """The output projection of y [B, H, T, d]."""
        return self.o_proj(y.transpose(1, 2).flatten(2).to(self.o_proj.weight.dtype))

    def by_group(self, x: Tensor) -> Tensor:
        """[B, H, T, d] to [B, KV, H / KV, T, d]: the query heads of each key head."""
        return x.unflatten(1, (self.kv_heads, -1))


class SoftmaxAttention(Projections):
    """The teacher's attention. State: keys and values of all tokens."""

    def __init__(self, config: HybridAttnConfig, spec: dict[str, Any]) -> None:
        super().__init__(config, spec, config.num_key_value_heads)

    def forward(self, x: Tensor, tokens: Tokens, state: State | None) -> Tensor:
        q, k, v = self.grouped(x)
        q, k = (rotate(y, tokens.cos, tokens.sin).to(v.dtype) for y in (q, k))
        if state is not None:
            if "k" in state:
                k, v = torch.cat([state["k"], k], 2), torch.cat([state["v"], v], 2)
            state["k"], state["v"] = k, v
        mask = tokens.softmax_mask()
        k, v = (y.repeat_interleave(self.heads // self.kv_heads, 1) for y in (k, v))
        causal = mask is None and q.shape[2] > 1
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal))


class WindowAttention(Projections):
    """Softmax over the last `window` tokens and the first `sinks`. State: keys and values of these."""

    def __init__(self, config: HybridAttnConfig, spec: dict[str, Any]) -> None:
        super().__init__(config, spec, config.num_key_value_heads)
        self.window, self.sinks = spec["window"], spec["sinks"]

    def forward(self, x: Tensor, tokens: Tokens, state: State | None) -> Tensor:
        q, k, v = self.grouped(x)
        q, k = (rotate(y, tokens.cos, tokens.sin) for y in (q, k))
        total, mass, _ = self.near(q, k, v.float(), tokens, state)
        return self.out((total / mass).flatten(1, 2))

    def near(
        self, q: Tensor, k: Tensor, v: Tensor, tokens: Tokens, state: State | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """sum_j exp(s_ij - max_i) v_j over what is in sight [B, KV, G, T, d], the same without v [.., 1], and
        the held values with the new ones behind them [B, KV, window + T, d].
        """
        state = {} if state is None else state
        steps, window = q.shape[2], self.window
        long_k = extend(state.get("k"), k, window, tokens.first)
        long_v = extend(state.get("v"), v, window, tokens.first)
        sink_k = self.keep_sinks(state.get("sink_k"), k, tokens)
        sink_v = self.keep_sinks(state.get("sink_v"), v, tokens)
        state.update(k=long_k[:, :, steps:], v=long_v[:, :, steps:], sink_k=sink_k, sink_v=sink_v)
        size = min(steps, max(window, 16))
        blocks = -(-steps // size)
        more = blocks * size - steps
        # block n: queries [n size, (n + 1) size), and the keys from `window` before the first of them on
        padded = (F.pad(y, (0, 0, 0, more)) for y in (long_k, long_v))
        wide_k, wide_v = (y.unfold(2, window + size, size) for y in padded)  # [B, KV, N, d, window + C]
        blocked = F.pad(q, (0, 0, 0, more)).unflatten(2, (blocks, size)) / self.dim**0.5
        blocked = self.by_group(blocked)  # [B, KV, G, N, C, d]
        band = blocked @ wide_k.unsqueeze(2)
        first = blocked @ sink_k[:, :, None, None].transpose(-1, -2)
        sees_band, sees_sinks = self.in_sight(tokens, blocks, size)
        band = band.masked_fill(~sees_band, -torch.inf)
        first = first.masked_fill(~sees_sinks, -torch.inf)
        scores = torch.cat([band, first], -1)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        on_band, on_sinks = weights.split([window + size, self.sinks], -1)
        total = on_band @ wide_v.unsqueeze(2).transpose(-1, -2) + on_sinks @ sink_v[:, :, None, None]
        mass = weights.sum(-1, keepdim=True)
        return total.flatten(3, 4)[:, :, :, :steps], mass.flatten(3, 4)[:, :, :, :steps], long_v

    def in_sight(self, tokens: Tokens, blocks: int, size: int) -> tuple[Tensor, Tensor]:
        """Which keys of a block's band, and which sinks, its queries see: [B, 1, 1, N, C, .] each. A sink is
        seen as a sink only.
        """
        name = (self.window, self.sinks)
        if name not in tokens.masks:
            device, steps = tokens.position.device, tokens.position.shape[1]
            query, key = (torch.arange(n, device=device) for n in (size, self.window + size))
            lag = query.unsqueeze(1) + self.window - key  # [C, window + C]
            start = tokens.lengths if tokens.first is None else tokens.lengths - tokens.first
            # positions of what `extend` gives, the first entry on
            at = (start - self.window).unsqueeze(1) + torch.arange(self.window + blocks * size, device=device)
            at = at.unfold(1, self.window + size, size).unsqueeze(2)  # [B, N, 1, window + C]
            band = (lag >= 0) & (lag < self.window) & (at >= self.sinks)
            position = F.pad(tokens.position, (0, blocks * size - steps)).unflatten(1, (blocks, size))
            # padding sees itself, or its softmax is 0 / 0
            band = band | ((lag == 0) & (position < 0).unsqueeze(-1))
            sinks = torch.arange(self.sinks, device=device) <= position.unsqueeze(-1)
            tokens.masks[name] = band[:, None, None], sinks[:, None, None]
        return tokens.masks[name]

    def keep_sinks(self, held: Tensor | None, new: Tensor, tokens: Tokens) -> Tensor:
        """The first `sinks` tokens of each sequence [B, KV, sinks, d], zeros where they have not come yet."""
        batch, heads, _, channels = new.shape
        if held is None:
            held = new.new_zeros(batch, heads, self.sinks, channels)
        position = tokens.position
        # one slot more, for what is no sink, which is thrown away
        slot = torch.where((position >= 0) & (position < self.sinks), position, self.sinks)
        slot = slot[:, None, :, None].expand_as(new)
        return F.pad(held, (0, 0, 0, 1)).scatter(2, slot, new)[:, :, :-1]


class FeatureWeight(nn.Module):
    """One matrix [d, d] a head; a buffer where it is not learned, so that no optimiser finds it."""

    weight: Tensor

    def __init__(self, heads: int, dim: int, learned: bool) -> None:
        super().__init__()
        weight = torch.zeros(heads, dim, dim)
        if learned:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        self.reset()

    def reset(self) -> None:
        nn.init.normal_(self.weight, std=self.weight.shape[-1] ** -0.25)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.float().transpose(-1, -2)


class FeatureMap(nn.Module):
    """Mixin of mixers whose queries and keys go through a feature map, in float32."""

    def make_features(self, heads: int, kv_heads: int, dim: int, number: int) -> None:
        self.feature = number
        if number in (HEDGEHOG, FAVOR):
            self.feature_q = FeatureWeight(heads, dim, number == HEDGEHOG)
            self.feature_k = FeatureWeight(kv_heads, dim, number == HEDGEHOG)

    def query_features(self, q: Tensor) -> Tensor:
        """Of favor, a factor of a query cancels in the normaliser: divided by the sum, it is hedgehog's."""
        if self.feature in (HEDGEHOG, FAVOR):
            y = self.feature_q(q)
            return torch.cat([y, -y], -1).softmax(-1)
        return plain_features(self.feature, q)

    def key_features(self, k: Tensor) -> Tensor:
        if self.feature == HEDGEHOG:
            y = self.feature_k(k)
            return torch.cat([y, -y], -1).softmax(-1)
        if self.feature == FAVOR:
            y, half = self.feature_k(k), 0.5 * k.square().sum(-1, keepdim=True) / k.shape[-1] ** 0.5
            return torch.cat([y - half, -y - half], -1).clamp(max=FAVOR_TOP).exp()
        return plain_features(self.feature, k)


def plain_features(number: int, x: Tensor) -> Tensor:
    return F.elu(x) + 1 if number == ELU else F.relu(x)


def with_ones(v: Tensor) -> Tensor:
    """A channel of ones behind v, whose sum is the normaliser."""
    return torch.cat([v, torch.ones_like(v[..., :1])], -1)


class WindowLinearAttention(WindowAttention, FeatureMap):
    """Softmax in the window and over the sinks, linear attention for the rest, one normaliser. State: that of
    the window, the features of its keys, and a sum over the keys that have left it.
    """

    def __init__(self, config: HybridAttnConfig, spec: dict[str, Any]) -> None:
        super().__init__(config, spec)
        self.rope_features = bool(spec["rope_features"])
        self.make_features(self.heads, self.kv_heads, self.dim, spec["feature"])
        self.gate = nn.Parameter(torch.full((self.heads,), -4.0))

    def reset(self) -> None:
        nn.init.constant_(self.gate, -4.0)

    def forward(self, x: Tensor, tokens: Tokens, state: State | None) -> Tensor:
        q, k, v = self.grouped(x)
        plain_q, plain_k, v = q.float(), k.float(), v.float()
        q, k = (rotate(y, tokens.cos, tokens.sin) for y in (q, k))
        fq = self.query_features(q if self.rope_features else plain_q)
        fk = self.key_features(k if self.rope_features else plain_k)
        near = (tokens.position < self.sinks)[:, None, :, None]  # sinks and padding are never far
        fk = fk.masked_fill(near, 0.0)
        steps = x.shape[1]
        total, mass, long_v = self.near(q, k, v, tokens, state)
        long_f = extend(state.get("f") if state else None, fk, self.window, tokens.first)
        # what leaves the window when token t comes is entry t
        leaving_f, leaving_v = long_f[:, :, :steps], with_ones(long_v[:, :, :steps])
        far, sums = feature_sums(self.by_group(fq), leaving_f, leaving_v, state.get("far") if state else None)
        if state is not None:
            state.update(f=long_f[:, :, steps:], far=sums)
        # from e^60 on the window adds nothing; e^89 is infinite
        share = self.by_group(self.gate.float().clamp(max=60.0).exp().reshape(1, -1, 1, 1))
        far, far_mass = far.split([self.dim, 1], -1)
        return self.out(((total + share * far) / (mass + share * far_mass)).flatten(1, 2))


class LinearAttention(Projections, FeatureMap):
    """Linear attention: all keys and values summed under the feature map. State: that sum."""

    def __init__(self, config: HybridAttnConfig, spec: dict[str, Any]) -> None:
        super().__init__(config, spec, config.num_key_value_heads)
        self.rope = bool(spec["rope"])
        self.make_features(self.heads, self.kv_heads, self.dim, spec["feature"])
        self.norm = None if spec["normalise"] else RMSNorm(self.dim, config.body["norm_eps"])

    def forward(self, x: Tensor, tokens: Tokens, state: State | None) -> Tensor:
        q, k, v = (y.float() for y in self.grouped(x))
        if self.rope:
            q, k = (rotate(y, tokens.cos, tokens.sin) for y in (q, k))
        fk = self.key_features(k).masked_fill((tokens.position < 0)[:, None, :, None], 0.0)
        fq = self.by_group(self.query_features(q))
        total, sums = feature_sums(fq, fk, with_ones(v), state.get("sums") if state else None)
        if state is not None:
            state["sums"] = sums
        total, mass = total.split([self.dim, 1], -1)
        y = total / (mass + NO_MASS) if self.norm is None else self.norm(total)
        return self.out(y.flatten(1, 2))
