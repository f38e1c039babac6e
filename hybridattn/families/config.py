"""The one model configuration that the rest of the package and the C core know.

`families` translates a Hugging Face config into it; `to_core` gives the part the C core takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ..checks import check_bool, check_choice, check_int, check_number, refuse
from ..errors import ConfigError

# Far above any model: a damaged file that says more is refused before memory is asked for.
MAX_LAYERS = MAX_HEAD_DIM = 1 << 16

# In the order of the numbers by which the core knows them.
TASK_KINDS = ("none", "classify", "regress", "span")
POOLS = ("first", "last", "mean")
POOLERS = ("none", "tanh", "relu")


# In the order of the numbers by which the core knows them.
NORMS = ("rms", "layer")
BLOCKS = ("pre", "post", "parallel", "sandwich")
ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "silu", "sigmoid", "tanh")  # in the order of C
MLP_ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")
SWIGLU = "swiglu"
GATED = {SWIGLU: "none", "geglu_tanh": "gelu_tanh"}  # MLPs with a gate, and its activation as the core has it
_LM_HEAD = ("lm_head", "head_bias", "head_transform")
_BOOLS = (
    "bidirectional",
    "attention_bias",
    "output_bias",
    "mlp_bias",
    "attention_gate",
    "qk_norm",
    "embed_norm",
    "final_norm",
    *_LM_HEAD,
    "tie_embeddings",
)


@dataclass(frozen=True, kw_only=True)
class TaskHead:
    """What a model answers about a sequence: its class ("classify"), values ("regress"), or where in it a
    span starts and ends ("span", two logits a token).

    logits = classifier(act(pooler(pool(hidden)))): pool is the "first" or "last" token of the sequence or
    the "mean" of all; pooler: the activation of a dense layer before the classifier, "tanh" as in BERT,
    "relu" as in DistilBERT, or "none" for no such layer; bias: the classifier has one.
    """

    kind: str
    num_labels: int = 2
    pool: str = "last"
    pooler: str = "none"
    bias: bool = False

    def __post_init__(self) -> None:
        check_choice("task kind", self.kind, TASK_KINDS[1:])
        check_int("num_labels", self.num_labels, 1, 1 << 20)
        check_choice("task pool", self.pool, POOLS)
        check_choice("task pooler", self.pooler, POOLERS)
        check_bool("task bias", self.bias)
        if self.kind == "span" and self.num_labels != 2:
            raise refuse("num_labels of a span", self.num_labels, "2, for start and end")
        if self.kind == "span" and self.pooler != "none":
            raise refuse("task pooler of a span", self.pooler, "none")

    def to_core(self) -> dict[str, int]:
        """The part of the core's configuration."""
        return {
            "task": TASK_KINDS.index(self.kind),
            "num_labels": self.num_labels,
            "task_pool": POOLS.index(self.pool),
            "task_pooler": ACTIVATIONS.index(self.pooler),
            "task_bias": int(self.bias),
        }


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What fixes the shape and the arithmetic of a model. Checked when made; ConfigError names the field.

    rope_inv_freq: rotations per position, in radians, scaling already applied: one for each pair of channels
    that turns, so at most head_dim/2, the first ones of a head; none for a model without RoPE.
    rope_attention_factor: multiplies cos and sin (YaRN), so attention scores are scaled by its square.
    sliding_window: 0 for none, else the number of positions a softmax layer sees, its own included.
    bidirectional: every token sees its whole sequence (encoders).
    attention_bias: q, k and v projections have biases; output_bias: the o projection has one.
    attention_gate: softmax layers multiply what their heads give by a sigmoid of a projection of x.
    qk_norm: RMSNorm of every head of q and k, before RoPE.
    norm: "rms" or "layer" (with biases). block: where norms stand, before the mixer and before the MLP
    ("pre"), after each sum ("post"), before both of a mixer and an MLP side by side ("parallel"), or before
    them and again behind them, in front of each sum ("sandwich").
    local_layers: layers whose softmax sees a window of its own, local_window (0: none), and turns by
    local_inv_freq, as long as rope_inv_freq; sliding_window is that of the others.
    mlp: "swiglu", "geglu_tanh" (a gate of GELU by tanh), or the activation of an MLP without a gate: "gelu",
    "gelu_tanh", "relu", "silu". embed_scale: multiplies the embeddings of tokens.
    positions: how many learned position embeddings there are, 0 for none; position_offset: rows before the
    first of them. segments: embeddings of token types, 0 for none. embed_norm: a norm after the embeddings,
    final_norm: one after the last layer.
    lm_head: whether there is one; without it the model has hidden states only. head_bias: it has a bias.
    head_transform: a dense layer, an activation (that of the MLP) and a norm stand before it. task: the head
    of a task, which stands in the place of all three.
    native_layers: the mixer of each layer in the family's own checkpoints, [num_layers] specs; none: softmax
    everywhere.
    hf, generation: the raw Hugging Face config and generation_config.json, for writing back; not compared.
    """

    family: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    norm_eps: float
    rope_inv_freq: tuple[float, ...]
    rope_attention_factor: float = 1.0
    sliding_window: int = 0
    local_layers: tuple[int, ...] = ()
    local_window: int = 0
    local_inv_freq: tuple[float, ...] = ()
    bidirectional: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    attention_gate: bool = False
    qk_norm: bool = False
    norm: str = "rms"
    block: str = "pre"
    mlp: str = SWIGLU
    embed_scale: float = 1.0
    positions: int = 0
    position_offset: int = 0
    segments: int = 0
    embed_norm: bool = False
    final_norm: bool = True
    lm_head: bool = True
    head_bias: bool = False
    head_transform: bool = False
    tie_embeddings: bool
    max_positions: int
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    task: TaskHead | None = None
    native_layers: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    hf: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    generation: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "num_heads",
            "num_kv_heads",
            "intermediate_size",
            "max_positions",
        ):
            check_int(name, getattr(self, name))
        check_int("num_layers", self.num_layers, 1, MAX_LAYERS)
        check_int("head_dim", self.head_dim, 1, MAX_HEAD_DIM)
        for name in ("sliding_window", "local_window"):
            check_int(name, getattr(self, name), 0, 1 << 30)
        for layer in self.local_layers:
            check_int("local_layers", layer, 0, self.num_layers - 1)
        for name in ("positions", "position_offset", "segments"):
            check_int(name, getattr(self, name), 0)
        for name in _BOOLS:
            check_bool(name, getattr(self, name))
        check_choice("norm", self.norm, NORMS)
        check_choice("block", self.block, BLOCKS)
        check_choice("mlp", self.mlp, (*GATED, *MLP_ACTIVATIONS))
        if self.head_transform and self.mlp in GATED:
            raise refuse("mlp", self.mlp, f"with head_transform {', '.join(MLP_ACTIVATIONS)}")
        if self.task is not None and any(getattr(self, name) for name in _LM_HEAD):
            raise refuse("lm_head", True, "false beside a task, without head_bias and head_transform")
        if self.positions and self.max_positions != self.positions:
            raise refuse("max_positions", self.max_positions, f"{self.positions}, the learned positions")
        if self.native_layers and len(self.native_layers) != self.num_layers:
            raise refuse("native_layers", len(self.native_layers), f"mixers of {self.num_layers} layers")
        if self.num_heads % self.num_kv_heads:
            raise refuse("num_kv_heads", self.num_kv_heads, f"a divisor of num_heads ({self.num_heads})")
        check_number("norm_eps", self.norm_eps, above=True)
        check_number("embed_scale", self.embed_scale, above=True)
        check_number("rope_attention_factor", self.rope_attention_factor, above=True)
        if len(self.rope_inv_freq) > self.head_dim // 2:
            raise ConfigError(
                f"rope_inv_freq has {len(self.rope_inv_freq)} numbers; "
                f"allowed: up to head_dim/2 = {self.head_dim // 2}"
            )
        if self.local_layers and len(self.local_inv_freq) != len(self.rope_inv_freq):
            raise ConfigError(
                f"local_inv_freq has {len(self.local_inv_freq)} numbers; allowed: as many as rope_inv_freq, "
                f"{len(self.rope_inv_freq)}"
            )
        for name in ("rope_inv_freq", "local_inv_freq"):
            for i, frequency in enumerate(getattr(self, name)):
                check_number(f"{name}[{i}]", frequency, above=True)
        if self.bos_token_id is not None:
            check_int("bos_token_id", self.bos_token_id, 0, self.vocab_size - 1)
        for token in self.eos_token_ids:
            check_int("eos_token_ids", token, 0, self.vocab_size - 1)

    def with_task(self, task: TaskHead) -> ModelConfig:
        """The same with that head in the place of the LM head."""
        return replace(self, task=task, lm_head=False, head_bias=False, head_transform=False)

    def to_core(self) -> dict[str, Any]:
        """The keyword dictionary that the C `Model` takes."""
        return {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "num_kv_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate_size,
            "norm_eps": self.norm_eps,
            "rope_dim": 2 * len(self.rope_inv_freq),
            "rope_inv_freq": list(self.rope_inv_freq),
            "rope_attention_factor": self.rope_attention_factor,
            "sliding_window": self.sliding_window,
            "norm": NORMS.index(self.norm),
            "block": BLOCKS.index(self.block),
            "mlp_plain": self.mlp not in GATED,
            "act": ACTIVATIONS.index(GATED.get(self.mlp, self.mlp)),
            "positions": self.positions,
            "position_offset": self.position_offset,
            "segments": self.segments,
            **{name: getattr(self, name) for name in _BOOLS},
            **({"embed_scale": self.embed_scale} if self.embed_scale != 1.0 else {}),
            **self._local(),
            **(self.task.to_core() if self.task else {}),
        }

    def _local(self) -> dict[str, Any]:
        if not self.local_layers:
            return {}
        return {
            "local_layers": list(self.local_layers),
            "local_window": self.local_window,
            "local_inv_freq": list(self.local_inv_freq),
        }
