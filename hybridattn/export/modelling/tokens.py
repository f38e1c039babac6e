"""Which tokens of a batch are padding, where each stands in its sequence, and what decoding keeps of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]  # what one layer keeps, [batch, ...] each


class HybridAttnCache:
    """What decoding keeps: of softmax layers all keys and values, of windowed layers those in sight and the
    sinks, of linear layers a state of fixed size. `generate` makes one; forward calls hand it on.
    """

    is_compileable = False
    is_linear = (False,)  # it knows how many tokens it holds, so callers may send new ones only

    def __init__(self, layers: int) -> None:
        self.layers: list[State] = [{} for _ in range(layers)]
        self.valid: Tensor | None = None  # [B, T] bool, padding is false

    def __len__(self) -> int:
        return len(self.layers)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens went in, padding included."""
        return 0 if self.valid is None else self.valid.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""
        return sum(x.numel() * x.element_size() for layer in self.layers for x in layer.values())

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences, in this order."""
        for layer in self.layers:
            for name, x in layer.items():
                layer[name] = x.index_select(0, indices.to(x.device))
        if self.valid is not None:
            self.valid = self.valid.index_select(0, indices.to(self.valid.device))

    reorder_cache = batch_select_indices

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each sequence `repeats` times."""
        if self.valid is not None:
            rows = torch.arange(self.valid.shape[0], device=self.valid.device)
            self.batch_select_indices(rows.repeat_interleave(repeats))

    def crop(self, length: int) -> None:
        """States of linear layers cannot go back: refused."""
        raise NotImplementedError("the cache cannot be cropped: its linear layers keep no single tokens")


@dataclass
class Tokens:
    """The new tokens [B, T] of a pass. Padding stands on the left of each row.

    lengths [B]: tokens before these, without padding; past: with it. position [B, T] counts a sequence's
    tokens from 0 and is below 0 for padding. cos, sin [B, 1, T, rope / 2]. valid [B, T]: false for padding;
    first [B]: how much of it; both None where there is none. known [B, past + T]: valid of all tokens, old
    and new, or None.
    """

    lengths: Tensor
    position: Tensor
    past: int
    cos: Tensor
    sin: Tensor
    valid: Tensor | None = None
    first: Tensor | None = None
    known: Tensor | None = None
    masks: dict[Any, Any] = field(default_factory=dict)

    def blank(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """x [B, T, ...] with `fill` where there is padding."""
        if self.valid is None:
            return x
        return x.masked_fill(~self.valid.reshape(*self.valid.shape, *(1,) * (x.dim() - 2)), fill)

    def softmax_mask(self) -> Tensor | None:
        """[B or 1, 1, T, past + T], true where a query sees a key; None for plain causal attention."""
        steps, device = self.position.shape[1], self.position.device
        if self.known is None and self.past == 0:
            return None
        if "softmax" not in self.masks:
            ones = torch.ones(steps, self.past + steps, dtype=torch.bool, device=device)
            mask = ones.tril(self.past).unsqueeze(0)
            if self.known is not None:
                own = ones.tril(self.past) & ones.triu(self.past)
                mask = mask & self.known.unsqueeze(1) | own  # padding sees itself, or its softmax is 0 / 0
            self.masks["softmax"] = mask.unsqueeze(1)
        return self.masks["softmax"]


def extend(held: Tensor | None, new: Tensor, width: int, first: Tensor | None) -> Tensor:
    """The last `width` tokens, zeros where there were fewer, and the new ones: [B, X, width + T, d].

    held [B, X, width, d] or None; new [B, X, T, d]. In rows with padding the held ones stand right before the
    first new token, over the padding.
    """
    batch, heads, _, channels = new.shape
    if held is None or first is None:
        start = new.new_zeros(batch, heads, width, channels) if held is None else held
        return torch.cat([start, new], 2)
    joined = torch.cat([torch.zeros_like(held), new], 2)
    at = first.unsqueeze(1) + torch.arange(width, device=new.device)
    return joined.scatter(2, at[:, None, :, None].expand_as(held), held)


def left_aligned(valid: Tensor) -> Tensor | None:
    """The order [B, T] that brings padding to the left of every row, None when it is there already."""
    if not bool((valid[:, :-1] & ~valid[:, 1:]).any()):
        return None
    return valid.to(torch.uint8).argsort(dim=1, stable=True)
