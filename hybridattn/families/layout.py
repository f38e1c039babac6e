"""How a family's weight files are laid out: which tensor, or which part of one, a parameter is.

A parameter has an internal name such as `layers.3.softmax.q_proj.weight`. A family gives a `Layout`: names of
tensors by internal stem, and for joined or transposed tensors how the parameter is cut from them. Reading and
writing go through the same `Cut`, so they cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import ConfigError
from .config import ModelConfig
from .heads import DECODER, FamilyHead, span_base

_LAYER = re.compile(r"layers\.(\d+)\.((?:\w+\.)*\w+)")


@dataclass(frozen=True)
class Cut:
    """A parameter in a tensor of a file: its rows, or `span` of `parts` equal pieces of them, taken from each
    of `groups` runs of rows; transposed: the file has [in, out]; depthwise: it has [rows, 1, taps], as
    torch's convolutions; less: what the file has is less by this, as the weights of zero-centred norms.
    """

    name: str
    part: int = 0
    parts: int = 1
    groups: int = 1
    transposed: bool = False
    span: int = 1
    depthwise: bool = False
    less: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether the parameter is the tensor as it is stored."""
        return self.parts == 1 and not self.transposed and not self.depthwise

    def tensor_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the tensor that holds a parameter of that shape."""
        full = (shape[0] // self.span * self.parts, *shape[1:])
        if self.depthwise:
            full = (full[0], 1, *full[1:])
        return full[::-1] if self.transposed else full

    def take(self, tensor: np.ndarray, out: np.ndarray) -> None:
        """Copy the parameter from the tensor to `out` [rows, ...], which is contiguous."""
        out.reshape(self.groups, self.span, -1, *out.shape[1:])[...] = self._view(tensor)

    def put(self, value: np.ndarray, tensor: np.ndarray) -> None:
        """Copy the parameter [rows, ...] to its place in the tensor."""
        self._view(tensor)[...] = value.reshape(self.groups, self.span, -1, *value.shape[1:])

    def _view(self, tensor: np.ndarray) -> np.ndarray:
        rows = tensor.T if self.transposed else tensor[:, 0] if self.depthwise else tensor
        pieces = rows.reshape(self.groups, self.parts, -1, *rows.shape[1:])
        return pieces[:, self.part : self.part + self.span]


@dataclass(frozen=True)
class Joined:
    """The tensor of a stem that is not whole: see `Cut`. by_head: a group is what belongs to one head. share:
    (part, parts, span) in the place of part and parts, of pieces that are as wide as the config says.
    """

    name: str
    part: int = 0
    parts: int = 1
    by_head: bool = False
    transposed: bool = False
    depthwise: bool = False
    share: Callable[[ModelConfig], tuple[int, int, int]] | None = None


@dataclass(frozen=True)
class Layout:
    """Names in the weight files of a family.

    prefix: before every name but those of the heads; files of models without a head have it or not.
    top, head: internal name -> name, outside of the layers. task: the head of a classifier. layer: before the
    names of a layer, with {} for its number. parts: internal stem of a layer -> stem in the file; a stem that
    is not there keeps its own name, after its longest beginning that is, so that mixers no Hugging Face model
    has are kept too.
    linear: the same as parts, of the linear layers that the family itself has (`native_layers`).
    zero_centred: internal names of weights that files have less 1.
    other_prefixes: further prefixes that files have, as those of models of text and images.
    ignored: tensors that a file may have although the model computes them or has no use for them.
    other_names: internal name -> further names that files have for a tensor of the head.
    """

    prefix: str
    top: Mapping[str, str]
    head: Mapping[str, str]
    layer: str
    parts: Mapping[str, str | Joined]
    task: FamilyHead = DECODER
    ignored: re.Pattern[str] = field(default=re.compile("(?!)"))
    other_names: Mapping[str, str] = field(default_factory=dict)
    linear: Mapping[str, str | Joined] = field(default_factory=dict)
    zero_centred: re.Pattern[str] = field(default=re.compile("(?!)"))
    other_prefixes: tuple[str, ...] = ()

    def cut(self, config: ModelConfig, internal: str) -> Cut:
        """Where the parameter is. ConfigError for a name that no model has."""
        found = self._place(config, internal)
        return replace(found, less=1.0) if self.zero_centred.fullmatch(internal) else found

    def _place(self, config: ModelConfig, internal: str) -> Cut:
        if internal in self.head:
            return Cut(self.head[internal])
        name = self.task.name(config, internal)
        if name is not None:
            return Cut(name)
        prefix = self.prefix if config.lm_head or config.task else ""
        if config.task is not None and config.task.kind == "span":
            prefix = span_base(config.family, prefix)
        if internal in self.top:
            return Cut(prefix + self.top[internal])
        match = _LAYER.fullmatch(internal)
        if match is None:
            raise ConfigError(
                f"parameter name is {internal!r}; "
                f"allowed: {', '.join([*self.top, *self.head])} or layers.N.PART.NAME"
            )
        before = prefix + self.layer.format(match[1])
        words, rest = match[2].split("."), ""
        parts, layer = self.parts, int(match[1])
        if layer < len(config.native_layers) and config.native_layers[layer]["kind"] != "softmax":
            parts = {**parts, **self.linear}
        while words:
            part = parts.get(".".join(words))
            if isinstance(part, str):
                return Cut(before + part + rest)
            if part is not None:
                groups = config.num_heads if part.by_head else 1
                which, of, span = part.share(config) if part.share else (part.part, part.parts, 1)
                return Cut(
                    before + part.name + rest, which, of, groups, part.transposed, span, part.depthwise
                )
            rest = f".{words.pop()}{rest}"
        return Cut(before + match[2])

    def headless(self, names: Iterable[str]) -> bool:
        """Whether a file is that of a base model: it has no tensor of the head, and none with the prefix,
        which other classes put before all names.
        """
        head = {spelled for name in self.head.values() for spelled in self.spellings(name)}
        head |= set(self.other_names.values())
        return not any(name in head or name.startswith(self.prefix) for name in names)

    def twins(self, internal: str) -> list[str]:
        """Further names of a tensor of the head."""
        return [self.other_names[internal]] if internal in self.other_names else []

    def spellings(self, name: str) -> Iterator[str]:
        """The names that files give a tensor: with the prefix or without, and LayerNorm's old terms."""
        bare = name.removeprefix(self.prefix)
        more = (other + bare for other in self.other_prefixes)
        for same in dict.fromkeys((name, bare, self.prefix + bare, *more)):
            yield same
            yield re.sub(r"(?<=LayerNorm\.)weight$", "gamma", re.sub(r"(?<=LayerNorm\.)bias$", "beta", same))
