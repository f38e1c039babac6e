"""How a family's weight files are laid out: which tensor, or which part of one, a parameter is.

A parameter has an internal name such as `layers.3.softmax.q_proj.weight`. A family gives a `Layout`: names of
tensors by internal stem, and for joined or transposed tensors how the parameter is cut from them. Reading and
writing go through the same `Cut`, so they cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import ConfigError
from .config import ModelConfig
from .heads import DECODER, FamilyHead, span_base

_LAYER = re.compile(r"layers\.(\d+)\.((?:\w+\.)*\w+)")


@dataclass(frozen=True)
class Cut:
    """A parameter in a tensor of a file: its rows, or one of `parts` equal pieces of them, taken from each of
    `groups` runs of rows; transposed: the file has [in, out].
    """

    name: str
    part: int = 0
    parts: int = 1
    groups: int = 1
    transposed: bool = False

    @property
    def whole(self) -> bool:
        """Whether the parameter is the tensor as it is stored."""
        return self.parts == 1 and not self.transposed

    def tensor_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the tensor that holds a parameter of that shape."""
        full = (shape[0] * self.parts, *shape[1:])
        return full[::-1] if self.transposed else full

    def take(self, tensor: np.ndarray, out: np.ndarray) -> None:
        """Copy the parameter from the tensor to `out` [rows, ...], which is contiguous."""
        out.reshape(self.groups, -1, *out.shape[1:])[...] = self._view(tensor)

    def put(self, value: np.ndarray, tensor: np.ndarray) -> None:
        """Copy the parameter [rows, ...] to its place in the tensor."""
        self._view(tensor)[...] = value.reshape(self.groups, -1, *value.shape[1:])

    def _view(self, tensor: np.ndarray) -> np.ndarray:
        rows = tensor.T if self.transposed else tensor
        return rows.reshape(self.groups, self.parts, -1, *rows.shape[1:])[:, self.part]


@dataclass(frozen=True)
class Joined:
    """The tensor of a stem that is not whole: see `Cut`. by_head: a group is what belongs to one head."""

    name: str
    part: int = 0
    parts: int = 1
    by_head: bool = False
    transposed: bool = False


@dataclass(frozen=True)
class Layout:
    """Names in the weight files of a family.

    prefix: before every name but those of the heads; files of models without a head have it or not.
    top, head: internal name -> name, outside of the layers. task: the head of a classifier. layer: before the
    names of a layer, with {} for its number. parts: internal stem of a layer -> stem in the file; a stem that
    is not there keeps its own name, after its longest beginning that is, so that mixers no Hugging Face model
    has are kept too.
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

    def cut(self, config: ModelConfig, internal: str) -> Cut:
        """Where the parameter is. ConfigError for a name that no model has."""
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
        while words:
            part = self.parts.get(".".join(words))
            if isinstance(part, str):
                return Cut(before + part + rest)
            if part is not None:
                groups = config.num_heads if part.by_head else 1
                return Cut(before + part.name + rest, part.part, part.parts, groups, part.transposed)
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
        for same in dict.fromkeys((name, bare, self.prefix + bare)):
            yield same
            yield re.sub(r"(?<=LayerNorm\.)weight$", "gamma", re.sub(r"(?<=LayerNorm\.)bias$", "beta", same))
