"""A Llama decoder and its gated-delta hybrid in eager PyTorch, with the modules of transformers and the fast
paths of PyTorch.

`load(folder)` reads a Hugging Face folder, or one that `hybridattn` saved. tokens [B, T]; x [B, T, D].
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import peers_torch as P
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn


class Norm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return P.rms_norm(x, self.weight, self.eps)


@dataclass
class State:
    """A mixer's memory: the recurrence's s [B, H, hd, hd], or k and v [B, KV, most, hd] and their count."""

    s: torch.Tensor | None = None
    k: torch.Tensor | None = None
    v: torch.Tensor | None = None
    length: int = 0

    def append(self, k, v):
        """Stores new keys and values in place; gives all so far, in their type."""
        start, self.length = self.length, self.length + k.shape[2]
        self.k[:, :, start : self.length], self.v[:, :, start : self.length] = k, v
        return self.k[:, :, : self.length].to(k.dtype), self.v[:, :, : self.length].to(v.dtype)

    def fork(self):
        """A copy that can go its own way."""
        return State(*(x if x is None else x.clone() for x in (self.s, self.k, self.v)), self.length)


class Softmax(nn.Module):
    """Grouped-query attention with RoPE, through SDPA."""

    def __init__(self, c: dict):
        super().__init__()
        d, self.hd = c["hidden_size"], c["head_dim"]
        self.q_proj = nn.Linear(d, c["num_attention_heads"] * self.hd, bias=False)
        self.k_proj = nn.Linear(d, c["num_key_value_heads"] * self.hd, bias=False)
        self.v_proj = nn.Linear(d, c["num_key_value_heads"] * self.hd, bias=False)
        self.o_proj = nn.Linear(c["num_attention_heads"] * self.hd, d, bias=False)

    def forward(self, x, cos, sin, state=None):
        q, k, v = (
            f(x).unflatten(-1, (-1, self.hd)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = P.rope(q, cos, sin), P.rope(k, cos, sin)
        if state is not None:
            k, v = state.append(k, v)
        one = q.shape[2] == 1  # a single query sees every key: no mask, and no copy of grouped heads
        o = F.scaled_dot_product_attention(q, k, v, enable_gqa=True) if one else P.attention(q, k, v)
        return self.o_proj(o.transpose(1, 2).flatten(2))


class GatedDelta(nn.Module):
    """The gated delta rule mixer: silu, L2-normalised q and k, output norm and gate; chunked."""

    def __init__(self, c: dict):
        super().__init__()
        d, heads, self.hd = c["hidden_size"], c["num_attention_heads"], c["head_dim"]
        for name in ("q_proj", "k_proj", "v_proj", "g_proj"):
            setattr(self, name, nn.Linear(d, heads * self.hd, bias=False))
        self.b_proj, self.a_proj = nn.Linear(d, heads, bias=False), nn.Linear(d, heads, bias=False)
        self.o_proj = nn.Linear(heads * self.hd, d, bias=False)
        self.A_log, self.dt_bias = nn.Parameter(torch.zeros(heads)), nn.Parameter(torch.full((heads,), -4.0))
        self.norm = Norm(self.hd, c["rms_norm_eps"])

    def forward(self, x, cos, sin, state=None):
        q, k, v, gate = (
            f(x).unflatten(-1, (-1, self.hd)) for f in (self.q_proj, self.k_proj, self.v_proj, self.g_proj)
        )
        q, k, v = (F.silu(y).transpose(1, 2) for y in (q, k, v))
        q, k = (y.float() * torch.rsqrt(y.float().square().sum(-1, keepdim=True) + 1e-6) for y in (q, k))
        beta = self.b_proj(x).sigmoid().transpose(1, 2)
        g = (-self.A_log.exp() * F.softplus(self.a_proj(x) + self.dt_bias)).transpose(1, 2)
        if state is None:
            state = State(torch.zeros(x.shape[0], q.shape[1], self.hd, self.hd))
        rule = P.gated_delta_step if q.shape[2] == 1 else P.gated_delta
        with torch.autocast("cpu", enabled=False):  # the recurrence stays float32
            q, k, v, g, beta = (y.float() for y in (q * self.hd**-0.5, k, v, g, beta))
            o, state.s = rule(q, k, v, g, beta, state.s)
        return self.o_proj((self.norm(o.transpose(1, 2)) * F.silu(gate)).flatten(2))


KINDS = {"softmax": Softmax, "gated_delta": GatedDelta}


class MLP(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        d, f = c["hidden_size"], c["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(d, f, bias=False), nn.Linear(d, f, bias=False)
        self.down_proj = nn.Linear(f, d, bias=False)

    def forward(self, x):
        return P.mlp(x, self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight)


class Block(nn.Module):
    """A block with one mixer, or with two when it is a probe's (then `mixer` is the softmax one)."""

    def __init__(self, c: dict, kinds: list[str]):
        super().__init__()
        self.mixer_norm, self.mlp_norm = (Norm(c["hidden_size"], c["rms_norm_eps"]) for _ in range(2))
        self.mixers = nn.ModuleDict({kind: KINDS[kind](c) for kind in kinds})
        self.mixer = self.mixers[kinds[0]]
        self.mlp = MLP(c)

    def forward(self, x, cos, sin, state=None):
        x = x + self.mixer(self.mixer_norm(x), cos, sin, state)
        return x + self.mlp(self.mlp_norm(x))


class Decoder(nn.Module):
    """Embedding, blocks and final norm; tied embeddings. layers[i] is the list of mixer kinds of layer i."""

    def __init__(self, config: dict, layers: list[list[str]]):
        super().__init__()
        self.embed = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.blocks = nn.ModuleList(Block(config, kinds) for kinds in layers)
        self.norm = Norm(config["hidden_size"], config["rms_norm_eps"])
        theta = (config.get("rope_parameters") or {}).get("rope_theta") or config.get("rope_theta")
        steps = torch.arange(0, config["head_dim"], 2).float() / config["head_dim"]
        self.inv_freq = 1.0 / theta**steps

    def rope_table(self, length: int, start: int = 0):
        angle = torch.arange(start, start + length)[:, None] * self.inv_freq
        return tuple(torch.cat([f, f], -1) for f in (angle.cos(), angle.sin()))

    def states(self, batch: int, most: int) -> list[State]:
        """Empty decode states for up to `most` tokens."""
        out = []
        for mixer in (block.mixer for block in self.blocks):
            hd = mixer.hd
            if isinstance(mixer, Softmax):
                k, v = (torch.zeros(batch, mixer.k_proj.out_features // hd, most, hd) for _ in range(2))
                out.append(State(k=k, v=v))
            else:
                out.append(State(torch.zeros(batch, mixer.q_proj.out_features // hd, hd, hd)))
        return out

    def forward(self, tokens, states=None, start=0):
        """Hidden states after the final norm, [B, T, D]; with states, tokens continue at position `start`."""
        x, (cos, sin) = self.embed(tokens), self.rope_table(tokens.shape[1], start)
        for block, state in zip(self.blocks, states or [None] * len(self.blocks)):
            x = block(x, cos, sin, state)
        return self.norm(x)


def internal(name: str) -> str:
    """The parameter name in a saved folder -> this module's."""
    name = name.removeprefix("model.").replace("embed_tokens.", "embed.").replace("layers.", "blocks.", 1)
    name = name.replace("self_attn.", "mixers.softmax.").replace("input_layernorm.", "mixer_norm.")
    return name.replace("post_attention_layernorm.", "mlp_norm.").replace(
        ".gated_delta.", ".mixers.gated_delta."
    )


def load(folder: str | Path, layers: list[list[str]] | None = None) -> Decoder:
    """The model of a folder. `layers` overrides its mixers; what the folder lacks keeps its first values."""
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    saved = config.get("hybridattn", {}).get("layers")
    if layers is None:
        layers = (
            [[s["kind"] for s in specs] for specs in saved]
            if saved
            else [["softmax"]] * config["num_hidden_layers"]
        )
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    model = Decoder(config, layers)
    own = model.state_dict(keep_vars=True)
    with safe_open(folder / "model.safetensors", "pt") as file, torch.no_grad():
        for name, target in ((n, own.get(internal(n))) for n in file.keys()):  # noqa: SIM118
            if target is not None:
                target.copy_(file.get_tensor(name).float())
    return model
