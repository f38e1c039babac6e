"""The mixers on the recurrence: what each makes of a token's projections."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import (
    LinearAttention,
    Projections,
    RMSNorm,
    SoftmaxAttention,
    WindowAttention,
    WindowLinearAttention,
    rotate,
)
from .configuration import HybridAttnConfig
from .recurrence import Operands, recurrence, value_recurrence
from .tokens import State, Tokens, extend

TINY = 1e-6  # under the root of a length
RWKV7_SLOPE = math.exp(-0.5)


class Part(NamedTuple):
    """A projection besides q, k and v: `name_proj`, or `name_up(inner(name_down))` of low rank.

    per: "head", "channel" or "slot", what there is a number for; bias: the name of its own bias.
    """

    per: str = "channel"
    rank: int = 0
    inner: Any = None
    bias: str | None = None


class ShortConvolution(nn.Module):
    """A causal convolution of each channel, [channels, taps]."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, taps))

    def reset(self) -> None:
        if not getattr(
            self.weight, "_is_hf_initialized", False
        ):  # transformers' mark of what has been loaded
            self.weight.zero_()
            self.weight[:, -1] = 1.0

    def forward(self, long: Tensor) -> Tensor:
        """long [B, taps - 1 + T, channels] to [B, T, channels]"""
        weight = self.weight.to(long.dtype).unsqueeze(1)
        return F.conv1d(long.transpose(1, 2), weight, groups=weight.shape[0]).transpose(1, 2)


class Recurrent(Projections):
    """q, k, v = f(conv(x W)), the recurrence, a norm and an output gate. Every head has keys of its own, or
    those of its group (`grouped`), which are repeated here.

    State: S [H, d, d], and the last inputs of the convolution.
    """

    parts: dict[str, Part] = {}  # "g", which gates the output, is left out or gets its rank by the options
    output: Any = None  # of the part "g"
    norm_per: str | None = "head"
    unit = False  # q and k have length 1
    decays = False  # A_log
    gate_first = False  # the norm reads what the output gate has let through
    scaled = True  # q over the root of d

    def __init__(self, config: HybridAttnConfig, spec: dict[str, Any]) -> None:
        own = config.num_key_value_heads if spec.get("grouped") else config.num_attention_heads
        super().__init__(config, spec, own)
        self.rope, self.silu, self.taps = bool(spec["rope"]), bool(spec["silu"]), spec["conv"]
        inner, kept, wide = self.heads * self.dim, own * self.dim, config.hidden_size
        self.slots, self.parts = spec.get("slots", 0), dict(self.parts)
        if self.output is not None:
            gate = spec.get("output_gate", "low_rank" if self.parts["g"].rank else "full")
            rank = spec.get("gate_rank", 64) if gate == "low_rank" else 0
            self.parts["g"] = self.parts["g"]._replace(rank=rank, per="output")
            if gate == "none":
                del self.parts["g"]
                self.output = None
        sizes = {"head": own, "channel": kept, "slot": own * self.slots, "output": inner}
        for name, part in self.parts.items():
            if part.rank:
                self.add_module(f"{name}_down", nn.Linear(wide, part.rank, bias=False))
                self.add_module(f"{name}_up", nn.Linear(part.rank, sizes[part.per], bias=False))
            else:
                self.add_module(f"{name}_proj", nn.Linear(wide, sizes[part.per], bias=False))
            if part.bias:
                self.register_parameter(part.bias, nn.Parameter(torch.zeros(sizes[part.per])))
        if self.decays:
            self.A_log = nn.Parameter(torch.zeros(own))
        for name in ("q_conv", "k_conv", "v_conv") if self.taps else ():
            self.add_module(name, ShortConvolution(inner if name == "q_conv" else kept, self.taps))
        if self.norm_per:
            width = self.dim if self.norm_per == "head" else inner
            self.norm = RMSNorm(width, config.body["norm_eps"])

    def reset(self) -> None:
        if self.decays:
            nn.init.uniform_(self.A_log, 0.0, math.log(16.0))
        for part in self.parts.values():
            if part.bias:
                nn.init.constant_(getattr(self, part.bias), -3.0)

    def gates(self, logits: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        """What the kind makes of its parts, [B, H, T, .] float32: operands of the recurrence besides q, v."""
        raise NotImplementedError

    def mix(self, q: Tensor, k: Tensor, v: Tensor, gates: dict[str, Tensor], state: State | None) -> Tensor:
        out, after = recurrence(Operands(q=q, v=v, **{"k": k, **gates}), state.get("s") if state else None)
        if state is not None:
            state["s"] = after
        return out

    def forward(self, x: Tensor, tokens: Tokens, state: State | None) -> Tensor:
        projected = (f(x) for f in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = self.convolved([tokens.blank(y) for y in projected], tokens, state)
        q, k, v = (self.split_heads(y) for y in (q, k, v))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (F.silu(y.float()) if self.silu else y.float() for y in (q, k, v))
        if self.unit:
            q, k = (y * torch.rsqrt(y.square().sum(-1, keepdim=True) + TINY) for y in (q, k))
        if self.rope:
            q, k = (rotate(y, tokens.cos, tokens.sin) for y in (q, k))
        logits = {name: self.part(name, x) for name in self.parts}
        gates = self.gates(logits, k)
        if tokens.valid is not None and "g" in gates:  # padding keeps the state; its k, v, a and b are 0
            gates["g"] = gates["g"] * tokens.valid[:, None, :, None]
        k, v = self.for_every_head(k), self.for_every_head(v)
        gates = {name: self.for_every_head(y) for name, y in gates.items()}
        y = self.mix(q / self.dim**0.5 if self.scaled else q, k, v, gates, state)
        if self.gate_first and self.output is not None:
            y = y * self.output(logits["g"])
        if self.norm_per == "whole":
            y = self.split_heads(self.norm(y.transpose(1, 2).flatten(2)))
        elif self.norm_per:
            y = self.norm(y)
        if self.output is not None and not self.gate_first:
            y = y * self.output(logits["g"])
        return self.out(y)

    def for_every_head(self, x: Tensor) -> Tensor:
        """[B, KV, T, .] to [B, H, T, .]"""
        return x.repeat_interleave(self.heads // self.kv_heads, 1)

    def convolved(self, inputs: list[Tensor], tokens: Tokens, state: State | None) -> list[Tensor]:
        """q, k and v through their convolutions, if there are any; padding counts as what comes before the
        text.
        """
        if not self.taps:
            return inputs
        joined, steps = torch.cat(inputs, -1), inputs[0].shape[1]
        held = state.get("conv") if state else None
        long = extend(held, joined.unsqueeze(1), self.taps - 1, tokens.first)
        if state is not None:
            state["conv"] = long[:, :, steps:]
        pieces = long.squeeze(1).split([y.shape[-1] for y in inputs], -1)
        outputs = zip((self.q_conv, self.k_conv, self.v_conv), pieces, strict=True)
        return [tokens.blank(f(y)) for f, y in outputs]  # held inputs reach into padding

    def part(self, name: str, x: Tensor) -> Tensor:
        """The logits of a part, [B, H, T, d or slots or 1] in float32."""
        part = self.parts[name]
        if part.rank:
            low = getattr(self, f"{name}_down")(x)
            y = getattr(self, f"{name}_up")(low if part.inner is None else part.inner(low)).float()
        else:
            y = getattr(self, f"{name}_proj")(x).float()
        if part.bias:
            y = y + getattr(self, part.bias).float()
        return y.unflatten(-1, (self.heads if name == "g" else self.kv_heads, -1)).transpose(1, 2)

    def decay(self, x: Tensor) -> Tensor:
        """-exp(A_log) softplus(x)"""
        return -self.A_log.float().exp().reshape(-1, 1, 1) * F.softplus(x)


def delta(k: Tensor, beta: Tensor, g: Tensor | None = None) -> dict[str, Tensor]:
    """S <- exp(g) S + beta k (v - exp(g) S^T k)^T"""
    gates = {"k": beta * k, "b": k if g is None else k * g.exp()}
    return gates if g is None else {**gates, "g": g}


class GatedDelta(Recurrent):
    parts = {"g": Part(), "b": Part("head"), "a": Part("head", bias="dt_bias")}
    output, unit, decays = staticmethod(F.silu), True, True

    def gates(self, logits: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        return delta(k, logits["b"].sigmoid(), self.decay(logits["a"]))


class Delta(Recurrent):
    parts = {"b": Part("head")}
    unit = True

    def gates(self, logits: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        return delta(k, logits["b"].sigmoid())


class KimiDelta(Recurrent):
    parts = {"g": Part(rank=64), "b": Part("head"), "f": Part(rank=64, bias="dt_bias")}
    output, unit, decays = staticmethod(torch.sigmoid), True, True

    def gates(self, logits: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        return delta(k, logits["b"].sigmoid(), self.decay(logits["f"]))


class Retention(Recurrent):
    parts = {"g": Part()}
    output = staticmethod(F.silu)

    def gates(self, logits: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        head = torch.arange(self.kv_heads, device=k.device, dtype=torch.float32)
        return {"g": torch.log1p(-torch.exp2(-5 - head)).reshape(1, -1, 1, 1).expand_as(k[..., :1])}


class GatedLinear(Recurrent):
    parts = {"g": Part(), "w": Part(rank=16, bias="w_bias")}
    output = staticmethod(F.silu)

    def gates(self, logits: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        return {"g": F.logsigmoid(logits["w"]) / 16}


class Rwkv6(Recurrent):
    parts = {"g": Part(rank=64), "w": Part(rank=64, inner=torch.tanh, bias="w_bias")}
    output, norm_per = staticmethod(torch.sigmoid), None

    def gates(self, logits: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        g = (-logits["w"].exp()).clamp(min=-5.0)
        return {"g": g, "k": -torch.expm1(g) * k}


class Rwkv7(Recurrent):
    parts = {
        "g": Part(rank=64, inner=torch.sigmoid),
        "w": Part(rank=64, inner=torch.tanh, bias="w_bias"),
        "a": Part(rank=64, bias="a_bias"),
    }
    output, norm_per = staticmethod(lambda x: x), None

    def gates(self, logits: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        g, rate = -RWKV7_SLOPE * logits["w"].sigmoid(), logits["a"].sigmoid()
        direction = k * torch.rsqrt(k.square().sum(-1, keepdim=True) + TINY)
        return {"g": g, "k": k * (rate - torch.expm1(g)), "a": -rate * direction, "b": direction}


class Mamba2(Recurrent):
    parts = {"g": Part(), "a": Part("head", bias="dt_bias")}
    output, decays, gate_first, scaled = staticmethod(F.silu), True, True, False

    def gates(self, logits: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        return {"g": self.decay(logits["a"]), "k": F.softplus(logits["a"]) * k}


class GatedSlots(Recurrent):
    """Softmax over slots, each a gated mean of keys and one of values: two passes of the recurrence.

    State: K^T [H, d, slots] and V [H, slots, d].
    """

    parts = {"f": Part("slot")}
    norm_per = "whole"

    def gates(self, logits: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        return {"g": F.logsigmoid(logits["f"]) / 8}

    def mix(self, q: Tensor, k: Tensor, v: Tensor, gates: dict[str, Tensor], state: State | None) -> Tensor:
        g = gates["g"]
        write = -torch.expm1(g)  # 0 for padding, as g is
        found, keys = value_recurrence(q, k, write, g, state.get("keys") if state else None)
        x = Operands(q=found.softmax(-1), k=write, v=v, g=g)
        out, values = recurrence(x, state.get("values") if state else None)
        if state is not None:
            state.update(keys=keys, values=values)
        return F.silu(out)


MIXERS: dict[str, Any] = {
    "softmax": SoftmaxAttention,
    "gated_delta": GatedDelta,
    "window_linear": WindowLinearAttention,
    "delta": Delta,
    "kda": KimiDelta,
    "retention": Retention,
    "rwkv7": Rwkv7,
    "window": WindowAttention,
    "linear": LinearAttention,
    "gla": GatedLinear,
    "rwkv6": Rwkv6,
    "gsa": GatedSlots,
    "mamba2": Mamba2,
}
