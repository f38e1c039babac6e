"""Bamba checkpoints that are mamba2 hybrids written by `hybridattn export`, read back as what they were.

x, B and C of a Mamba layer are v, k and q, each head is a group, the skip D is 0. Checkpoints of other makes,
with fewer groups than heads or a skip, are refused by name. The GGUF form of the same, `granitehybrid`, has
heads of zeros behind the hybrid's own, which are left out here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checks import refuse
from ..errors import ConfigError
from .made import BODY, Array, MadeSource
from .source import WeightSource

MODEL_TYPE = "bamba"
_NAMES = {
    "input_layernorm": "input_layernorm",
    "pre_ff_layernorm": "post_attention_layernorm",
}


class BambaSource(MadeSource):
    """The tensors of such a checkpoint as those of the hybrid. Raises ConfigError naming the field."""

    def __init__(self, inner: WeightSource, config: Mapping[str, Any]) -> None:
        super().__init__(inner, config)
        self._heads, self._count = self._number("num_attention_heads"), self._number("num_hidden_layers")
        self._dim = self._number("head_dim") if config.get("head_dim") else self._head_dim()
        self._mamba_heads = self._number("mamba_n_heads")  # with those of zeros
        shape = {"mamba_d_head": self._dim, "mamba_d_state": self._dim, "mamba_n_groups": self._mamba_heads}
        for key, wanted in shape.items():
            if config.get(key) != wanted:
                raise refuse(key, config.get(key), f"{wanted}, as in a hybrid that hybridattn export wrote")
        for key in ("mamba_conv_bias", "mamba_proj_bias"):
            if config.get(key, key == "mamba_conv_bias"):
                raise refuse(key, True, "false, as in a hybrid that hybridattn export wrote")
        if self._mamba_heads < self._heads:
            raise refuse("mamba_n_heads", self._mamba_heads, f"num_attention_heads ({self._heads}) at least")
        self._wide = self._mamba_heads * self._dim
        self._kernel = 3 * self._wide, 1, self._number("mamba_d_conv")
        softmax = config.get("attn_layer_indices") or []
        if not isinstance(softmax, list) or not all(type(i) is int and 0 <= i < self._count for i in softmax):
            raise refuse("attn_layer_indices", softmax, f"numbers of layers below {self._count}")
        self._softmax = set(softmax)
        self._check_skips()
        taps = self._taps()
        biased = bool(config.get("attention_bias"))
        output = biased and self._output_bias()
        self.hf = self._body(biased, output)
        linear = {"kind": "mamba2", "conv": taps, "bias": 0 if biased else 1}
        softmax_spec = {"kind": "softmax"}
        self.layers = [[dict(softmax_spec if i in self._softmax else linear)] for i in range(self._count)]
        self._list(taps, biased, output)

    def _head_dim(self) -> int:
        hidden = self._number("hidden_size")
        if hidden % self._heads:
            raise refuse("hidden_size", hidden, f"a multiple of num_attention_heads ({self._heads})")
        return hidden // self._heads

    def _mamba(self, layer: int, name: str) -> str:
        return f"model.layers.{layer}.mamba.{name}"

    def _linear(self) -> list[int]:
        return [i for i in range(self._count) if i not in self._softmax]

    def _check_skips(self) -> None:
        """ConfigError for what only other checkpoints have: a skip, norms that differ from head to head."""
        for i in self._linear():
            name = self._mamba(i, "D")
            if name in self._theirs and self._read(name, self._mamba_heads).any():
                raise ConfigError(f"{name} is not 0; allowed: a hybrid that hybridattn export wrote")
            name = self._mamba(i, "norm.weight")
            norm = self._read(name, self._wide).reshape(-1, self._dim)[: self._heads]
            if (norm != norm[0]).any():
                raise ConfigError(
                    f"{name} differs between heads; allowed: a hybrid that hybridattn export wrote"
                )

    def _output_bias(self) -> bool:
        """Whether a softmax layer has one that is not 0."""
        names = (f"model.layers.{i}.self_attn.o_proj.bias" for i in self._softmax)
        return any(
            self._read(name, self._number("hidden_size")).any() for name in names if name in self._theirs
        )

    def _taps(self) -> int:
        """Of the convolution; 0 where all of them are the identity."""
        for i in self._linear():
            kernel = self._read(self._mamba(i, "conv1d.weight"), *self._kernel).reshape(3, self._wide, -1)
            own = kernel[:, : self._heads * self._dim]
            if (own[..., -1] != 1).any() or own[..., :-1].any():
                return self._number("mamba_d_conv")
        return 0

    def _body(self, biased: bool, output: bool) -> dict[str, Any]:
        """The config of the body: Llama, or Qwen2 where only q, k and v have biases."""
        hf = {key: self._config[key] for key in BODY if key in self._config}
        rope = dict(self._config.get("rope_parameters") or {})
        rope.pop("partial_rotary_factor", None)
        hf["rope_theta"] = rope.pop("rope_theta", 10000.0)
        if rope.get("rope_type", "default") != "default":
            hf["rope_scaling"] = rope
        if biased and not output and not self._config.get("mlp_bias"):
            own: dict[str, Any] = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
        else:
            own = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": biased}
            own["mlp_bias"] = bool(self._config.get("mlp_bias"))
        return {**hf, **own, "head_dim": self._dim}

    def _list(self, taps: int, biased: bool, output: bool) -> None:
        hidden, mlp = self._number("hidden_size"), self._number("intermediate_size")
        self._same("model.embed_tokens.weight", (self._number("vocab_size"), hidden))
        if not self._config.get("tie_word_embeddings"):
            self._same("lm_head.weight", (self._number("vocab_size"), hidden))
        self._same("model.norm.weight", (hidden,), "model.final_layernorm.weight")
        for i in range(self._count):
            before = f"model.layers.{i}."
            for theirs, ours in _NAMES.items():
                self._same(f"{before}{ours}.weight", (hidden,), f"{before}{theirs}.weight")
            for part, shape in {"gate": (mlp, hidden), "up": (mlp, hidden), "down": (hidden, mlp)}.items():
                name, theirs = f"{before}mlp.{part}_proj", f"{before}feed_forward.{part}_proj"
                self._same(f"{name}.weight", shape, f"{theirs}.weight")
                if self._config.get("mlp_bias"):
                    self._same(f"{name}.bias", shape[:1], f"{theirs}.bias")
            if i in self._softmax:
                self._list_softmax(f"{before}self_attn.", hidden, biased, output)
            else:
                self._list_linear(i, hidden, taps)

    def _list_softmax(self, before: str, hidden: int, biased: bool, output: bool) -> None:
        q, kv = self._heads * self._dim, self._number("num_key_value_heads") * self._dim
        for part, rows in {"q": q, "k": kv, "v": kv}.items():
            self._same(f"{before}{part}_proj.weight", (rows, hidden))
            if biased:
                self._same(f"{before}{part}_proj.bias", (rows,))
        self._same(f"{before}o_proj.weight", (hidden, q))
        if self.hf.get("attention_bias"):
            self._same(f"{before}o_proj.bias", (hidden,))

    def _list_linear(self, layer: int, hidden: int, taps: int) -> None:
        """Joined rows: gate, then x, B and C, which are v, k and q, then the step."""
        ours, own, wide = (
            f"model.layers.{layer}.mamba2.",
            self._heads * self._dim,
            self._wide,
        )
        joined, kernel = self._mamba(layer, "in_proj.weight"), self._mamba(layer, "conv1d.weight")
        whole = 4 * wide + self._mamba_heads, hidden
        for at, part in enumerate("gvkq"):
            rows = slice(at * wide, at * wide + own)
            self._part(f"{ours}{part}_proj.weight", (own, hidden), joined, whole, rows)
            if taps and part != "g":
                rows = slice((at - 1) * wide, (at - 1) * wide + own)
                self._part(f"{ours}{part}_conv.weight", (own, taps), kernel, self._kernel, rows)
        steps = slice(4 * wide, 4 * wide + self._heads)
        self._part(f"{ours}a_proj.weight", (self._heads, hidden), joined, whole, steps)
        for name in ("A_log", "dt_bias"):
            vector = (self._mamba_heads,)
            self._part(f"{ours}{name}", (self._heads,), self._mamba(layer, name), vector, slice(self._heads))
        norm = self._mamba(layer, "norm.weight")

        def first() -> Array:
            return self._read(norm, wide)[: self._dim]

        def output() -> Array:
            matrix = self._read(self._mamba(layer, "out_proj.weight"), hidden, wide)
            return np.ascontiguousarray(matrix[:, :own])

        self._make[f"{ours}norm.weight"] = (self._dim,), first
        self._make[f"{ours}o_proj.weight"] = (hidden, own), output
