"""Qwen3.5 text checkpoints that are hybrids written by `hybridattn export`, read back as what they were.

Undone are: the constant channel of padded heads, the output gate of zeros with its doubled projection, norms
stored less 1, joined q, k and v. Any other checkpoint of that kind, whose gates are not zero or whose linear
layers have other heads than its softmax layers, is a model of the family qwen3_5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checks import as_float
from .made import BODY, Array, MadeSource
from .source import WeightSource

MODEL_TYPE = "qwen3_5_text"
_SOFTMAX = "full_attention"
_BODIES = {
    "llama": ("llama", "LlamaForCausalLM", {"attention_bias": False}),
    "llama biases": ("llama", "LlamaForCausalLM", {"attention_bias": True}),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", {}),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", {}),
}


def was_exported(source: WeightSource, config: Mapping[str, Any]) -> bool:
    """Whether a Qwen3.5 text checkpoint is a hybrid that `export` wrote: its linear layers have the heads of
    its softmax layers, and those have gates of zeros.
    """
    rope, room, types = (config.get(key) for key in ("rope_parameters", "head_dim", "layer_types"))
    heads = config.get("num_attention_heads")
    if not (isinstance(rope, Mapping) and isinstance(types, list) and type(room) is int and room > 0):
        return False
    share = as_float(rope.get("partial_rotary_factor", 0.25))
    if not 0 < share <= 1:
        return False
    wanted = {"num_key_heads": heads, "num_value_heads": heads}
    wanted |= dict.fromkeys(("key_head_dim", "value_head_dim"), int(room * share))
    if any(config.get(f"linear_{key}") != value for key, value in wanted.items()):
        return False
    names = [f"model.layers.{i}.self_attn.q_proj.weight" for i, kind in enumerate(types) if kind == _SOFTMAX]
    return bool(names) and all(_gate_is_zero(source, name, room) for name in names)


def _gate_is_zero(source: WeightSource, name: str, room: int) -> bool:
    for each in (name, name.replace(".weight", ".bias")):
        if each in source.names():
            rows = np.empty(source.shape(each), np.float32)
            source.read_into(each, rows)
            if len(rows) % (2 * room) or rows.reshape(-1, 2, room, *rows.shape[1:])[:, 1].any():
                return False
    return name in source.names()


class Qwen35Source(MadeSource):
    """The tensors of a checkpoint that `was_exported` as those of the hybrid it was written from. hf: the
    config of the model that the hybrid's body is; layers: its mixers. Raises ConfigError naming the field.
    """

    def __init__(self, inner: WeightSource, config: Mapping[str, Any]) -> None:
        super().__init__(inner, config)
        rope = dict(config.get("rope_parameters") or {})
        self._room, self._heads = self._number("head_dim"), self._number("num_attention_heads")
        self._kv_heads, self._hidden = self._number("num_key_value_heads"), self._number("hidden_size")
        self._dim = int(self._room * rope.get("partial_rotary_factor", 0.25))
        types = config["layer_types"]
        self._softmax = [i for i, kind in enumerate(types) if kind == _SOFTMAX]
        self._linear = [i for i, kind in enumerate(types) if kind == "linear_attention"]
        self.hf, body = self._body(rope)
        taps = self._taps()
        biased = body == "qwen2" or self.hf["attention_bias"]
        left_out = {"bias": 0 if biased else 1, "qk_norm": 0 if body == "qwen3" else 1}
        linear = {"kind": "gated_delta", "conv": taps, **left_out}
        softmax = {"kind": "softmax"}
        self.layers = [[dict(softmax if i in self._softmax else linear)] for i in range(len(types))]
        self._list(body, taps, bool(biased))

    def _body(self, rope: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """(config of the body, which of _BODIES it is)."""
        body = "qwen3" if self._room == self._dim else "llama"
        for i in self._softmax:
            attention = f"model.layers.{i}.self_attn."
            parts = [f"{attention}q_proj.weight"]
            if f"{attention}q_proj.bias" in self._theirs:
                parts.append(f"{attention}q_proj.bias")
            if body == "qwen3" or len(parts) == 1:
                continue
            output = f"{attention}o_proj.bias"
            if output in self._theirs and self._read(output, self._hidden).any():
                body = "llama biases"
            elif body == "llama" and any(self._bias(i, part).any() for part in "qkv"):
                body = "qwen2"
        model_type, class_name, more = _BODIES[body]
        rope = {key: rope[key] for key in rope if "mrope" not in key and key != "partial_rotary_factor"}
        hf = {key: self._config[key] for key in BODY if key in self._config}
        hf |= {"model_type": model_type, "architectures": [class_name], "head_dim": self._dim, **more}
        if body == "qwen3":
            hf["attention_bias"] = bool(self._config.get("attention_bias"))
        hf["rope_theta"] = rope.pop("rope_theta", 10000.0)
        if rope.get("rope_type", "default") != "default":
            hf["rope_scaling"] = rope
        return hf, body

    def _bias(self, layer: int, part: str) -> Array:
        """Of the channels that the hybrid has."""
        count, wide = (self._heads, 2 * self._room) if part == "q" else (self._kv_heads, self._room)
        rows = self._read(f"model.layers.{layer}.self_attn.{part}_proj.bias", count * wide)
        return np.ascontiguousarray(rows.reshape(count, wide)[:, : self._dim]).reshape(-1)

    def _taps(self) -> int:
        """Of the convolution; 0 where all of them are the identity."""
        taps = self._number("linear_conv_kernel_dim")
        for i in self._linear:
            kernel = self._read(f"model.layers.{i}.linear_attn.conv1d.weight", *self._convolution(taps))
            if (kernel[..., -1] != 1).any() or kernel[..., :-1].any():
                return taps
        return 0

    def _convolution(self, taps: int) -> tuple[int, ...]:
        return 3 * self._heads * self._dim, 1, taps

    def _list(self, body: str, taps: int, biased: bool) -> None:
        """What there is, by the names that a saved hybrid has."""
        hidden, inner = self._hidden, self._heads * self._dim
        mlp, vocabulary = self._number("intermediate_size"), self._number("vocab_size")
        self._same("model.embed_tokens.weight", (vocabulary, hidden))
        if not self._config.get("tie_word_embeddings"):
            self._same("lm_head.weight", (vocabulary, hidden))
        self._norm("model.norm.weight", hidden)
        for i in range(len(self.layers)):
            before = f"model.layers.{i}."
            for name in ("input_layernorm", "post_attention_layernorm"):
                self._norm(f"{before}{name}.weight", hidden)
            for name, shape in {"gate": (mlp, hidden), "up": (mlp, hidden), "down": (hidden, mlp)}.items():
                self._same(f"{before}mlp.{name}_proj.weight", shape)
            if i in self._linear:
                self._list_linear(before, hidden, inner, taps)
            else:
                self._list_softmax(i, hidden, biased, body)

    def _list_linear(self, before: str, hidden: int, inner: int, taps: int) -> None:
        theirs, ours = f"{before}linear_attn.", f"{before}gated_delta."
        for at, part in enumerate("qkv"):
            rows = slice(at * inner, (at + 1) * inner)
            whole: tuple[int, ...] = (3 * inner, hidden)
            self._part(
                f"{ours}{part}_proj.weight", (inner, hidden), f"{theirs}in_proj_qkv.weight", whole, rows
            )
            if taps:
                whole = self._convolution(taps)
                self._part(f"{ours}{part}_conv.weight", (inner, taps), f"{theirs}conv1d.weight", whole, rows)
        for part, other, count in (("g", "z", inner), ("b", "b", self._heads), ("a", "a", self._heads)):
            self._same(f"{ours}{part}_proj.weight", (count, hidden), f"{theirs}in_proj_{other}.weight")
        for name, length in {"A_log": self._heads, "dt_bias": self._heads, "norm.weight": self._dim}.items():
            self._same(f"{ours}{name}", (length,), f"{theirs}{name}")
        self._same(f"{ours}o_proj.weight", (hidden, inner), f"{theirs}out_proj.weight")

    def _list_softmax(self, layer: int, hidden: int, biased: bool, body: str) -> None:
        before = f"model.layers.{layer}.self_attn."
        heads = {"q": self._heads, "k": self._kv_heads, "v": self._kv_heads}
        for part, count in heads.items():
            wide = 2 * self._room if part == "q" else self._room

            def rows(part: str = part, shape: tuple[int, int] = (count, wide)) -> Array:
                name, (count, wide) = f"{before}{part}_proj.weight", shape
                padded = self._read(name, count * wide, hidden).reshape(count, wide, hidden)
                return padded[:, : self._dim].reshape(-1, hidden)

            self._make[f"{before}{part}_proj.weight"] = ((count * self._dim, hidden), rows)
            if biased:

                def bias(part: str = part) -> Array:
                    return self._bias(layer, part)

                self._make[f"{before}{part}_proj.bias"] = ((count * self._dim,), bias)

        def output() -> Array:
            whole = self._read(f"{before}o_proj.weight", hidden, self._heads * self._room)
            wide = whole.reshape(hidden, self._heads, self._room)
            return wide[:, :, : self._dim].reshape(hidden, -1) / np.float32(2)

        self._make[f"{before}o_proj.weight"] = ((hidden, self._heads * self._dim), output)
        if biased and body != "qwen2":
            self._same(f"{before}o_proj.bias", (hidden,))
        if body == "qwen3":
            for part in "qk":
                self._norm(f"{before}{part}_norm.weight", self._dim)

    def _norm(self, name: str, length: int) -> None:
        self._make[name] = (length,), lambda: self._read(name, length) + np.float32(1)
