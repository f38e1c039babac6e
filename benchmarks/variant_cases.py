"""The cases of variants.py: what differs from a family's plain checkpoint, and what messages must name.

A checkpoint is written by transformers with `settings`; `keys` are then put into its config.json (GONE: taken
out), as other versions, other libraries and people have them. Tokenizers are those of
tests/tokenizer_cases.py; chat templates are here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from golden.recipe import DECODER, DISTILBERT, ENCODER, GPT2

GONE = object()  # a key that is taken out of config.json
CAUSAL, MASKED, BASE = "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModel"
PLAIN: dict[str, dict[str, Any]] = {
    "llama": DECODER,
    "mistral": dict(DECODER, sliding_window=8, head_dim=8),
    "qwen2": DECODER,
    "qwen3": dict(DECODER, head_dim=12),
    "gpt2": GPT2,
    "gpt_neox": {key: value for key, value in DECODER.items() if key != "num_key_value_heads"},
    "bert": ENCODER,
    "roberta": dict(ENCODER, bos_token_id=0, eos_token_id=2),
    "distilbert": DISTILBERT,
}
ENCODERS = ("bert", "roberta", "distilbert")


@dataclass(frozen=True)
class Variant:
    """settings: what the family's class gets. keys: what config.json then says. auto: the auto class that
    writes the checkpoint. weights: bfloat16, float16 or shards. named: what a refusal or warning must name,
    one of the keys unless it is given. since: the first release of transformers that reads these keys as
    5.24 does.
    """

    family: str
    what: str
    settings: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    auto: str = ""
    weights: str = ""
    named: str = ""
    since: int = 4

    @property
    def name(self) -> str:
        return f"{self.family}: {self.what}"

    @property
    def writer(self) -> str:
        return self.auto or (MASKED if self.family in ENCODERS else CAUSAL)

    @property
    def words(self) -> tuple[str, ...]:
        """A message that names one of them says what it is about."""
        return (self.named,) if self.named else tuple({**self.settings, **self.keys})


def _old(**scaling: Any) -> dict[str, Any]:
    """RoPE's keys as transformers 4 writes them."""
    return {"rope_parameters": GONE, "rope_theta": 10000.0, "rope_scaling": scaling}


def _new(**parameters: Any) -> dict[str, Any]:
    return {"rope_scaling": GONE, "rope_theta": GONE, "rope_parameters": parameters}


_LLAMA3 = dict(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=24)
_YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
_NAMELESS = {"architectures": GONE}
_NEOX_OLD = {"rope_parameters": GONE, "rope_theta": GONE, "partial_rotary_factor": GONE}
_WINDOW = dict(use_sliding_window=True, sliding_window=8)

LLAMA = [
    Variant("llama", "plain"),
    Variant("llama", "rope_theta at the top", keys={"rope_parameters": GONE, "rope_theta": 5e5}),
    Variant("llama", "no key of RoPE", keys={"rope_parameters": GONE, "rope_theta": GONE}),
    Variant("llama", "rope_theta beside rope_parameters",
            keys={"rope_theta": 5e5, "rope_parameters": {"rope_theta": 77.0, "rope_type": "default"}},
            since=5),
    Variant("llama", "linear, old key, type", keys=_old(type="linear", factor=2.0)),
    Variant("llama", "linear, old key, rope_type", keys=_old(rope_type="linear", factor=2.0)),
    Variant("llama", "linear, new key", keys=_new(rope_type="linear", rope_theta=1e4, factor=2.0), since=5),
    Variant("llama", "linear, whole number as factor", keys=_old(type="linear", factor=2), named="factor"),
    Variant("llama", "linear without factor", keys=_old(type="linear"), named="factor"),
    Variant("llama", "rope_theta within rope_scaling",
            keys=_old(rope_type="linear", factor=2.0, rope_theta=5e5), since=5),
    Variant("llama", "rope_scaling and rope_parameters at odds",
            keys={"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    Variant("llama", "rope_scaling empty", keys={"rope_scaling": {}}, since=5),
    Variant("llama", "rope_scaling beside a theta in rope_parameters",
            keys={"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 5e5},
                  "rope_theta": 1e4}),
    Variant("llama", "rope_type and type at odds",
            keys=_old(rope_type="linear", type="yarn", factor=2.0), since=5),
    Variant("llama", "dynamic within its length", keys=_old(type="dynamic", factor=2.0)),
    Variant("llama", "dynamic beyond its length", settings={"max_position_embeddings": 32},
            keys=_old(type="dynamic", factor=2.0), named="dynamic"),
    Variant("llama", "yarn", keys=_new(**_YARN, rope_theta=1e4), since=5),
    Variant("llama", "yarn, old key", keys=_old(**_YARN)),
    Variant("llama", "yarn, attention_factor and betas",
            keys=_old(**_YARN, attention_factor=1.3, beta_fast=16, beta_slow=2)),
    Variant("llama", "yarn, mscale", keys=_old(**_YARN, mscale=0.7, mscale_all_dim=0.4)),
    Variant("llama", "yarn, mscale alone", keys=_old(**_YARN, mscale=0.7)),
    Variant("llama", "yarn, truncate false", keys=_old(**_YARN, truncate=False)),
    Variant("llama", "yarn without original positions", keys=_old(rope_type="yarn", factor=4.0)),
    Variant("llama", "yarn, factor null",
            keys=_new(rope_type="yarn", rope_theta=1e4, factor=None, original_max_position_embeddings=32),
            since=5),
    Variant("llama", "yarn, factor that is not the ratio of positions",
            keys=_old(rope_type="yarn", factor=8.0, original_max_position_embeddings=32)),
    Variant("llama", "yarn, original positions at the top",
            keys={**_old(rope_type="yarn", factor=4.0), "original_max_position_embeddings": 32}, since=5),
    Variant("llama", "yarn, original positions twice",
            keys={**_old(**_YARN), "original_max_position_embeddings": 64}, since=5),
    Variant("llama", "llama3, old key", keys=_old(rope_type="llama3", **_LLAMA3)),
    Variant("llama", "llama3, new key", keys=_new(rope_type="llama3", rope_theta=5e5, **_LLAMA3), since=5),
    Variant("llama", "llama3, missing parameter",
            keys=_old(rope_type="llama3", factor=4.0, original_max_position_embeddings=24),
            named="low_freq_factor"),
    Variant("llama", "longrope", keys=_old(rope_type="longrope", short_factor=[1.0] * 4,
            long_factor=[2.0] * 4, original_max_position_embeddings=32), named="rope_type"),
    Variant("llama", "rope_parameters by kind of layer",
            keys={"rope_parameters": {"full_attention": {"rope_theta": 1e4, "rope_type": "default"}}}),
    Variant("llama", "partial_rotary_factor", keys={"partial_rotary_factor": 0.5}),
    Variant("llama", "partial_rotary_factor 1", keys={"partial_rotary_factor": 1.0}),
    Variant("llama", "head_dim of its own", {"head_dim": 10}),
    Variant("llama", "head_dim null", keys={"head_dim": None}),
    Variant("llama", "odd head_dim", keys={"head_dim": 7}),
    Variant("llama", "one key head", {"num_key_value_heads": 1}),
    Variant("llama", "no num_key_value_heads", {"num_key_value_heads": 4}, {"num_key_value_heads": GONE}),
    Variant("llama", "attention_bias", {"attention_bias": True}),
    Variant("llama", "mlp_bias", {"mlp_bias": True}),
    Variant("llama", "tied", {"tie_word_embeddings": True}),
    Variant("llama", "tied, the key missing", {"tie_word_embeddings": True}, {"tie_word_embeddings": GONE},
            named="lm_head"),
    Variant("llama", "tied in config, both tensors in the file", keys={"tie_word_embeddings": True},
            named="lm_head"),
    Variant("llama", "hidden_act swish", keys={"hidden_act": "swish"}),
    Variant("llama", "hidden_act gelu", {"hidden_act": "gelu"}),
    Variant("llama", "is_causal false", keys={"is_causal": False}),
    Variant("llama", "is_causal true", keys={"is_causal": True}),
    Variant("llama", "pruned_heads", keys={"pruned_heads": {"0": [1]}}),
    Variant("llama", "pruned_heads empty", keys={"pruned_heads": {}}),
    Variant("llama", "layer_types full", keys={"layer_types": ["full_attention"] * 2}),
    Variant("llama", "layer_types sliding", keys={"layer_types": ["sliding_attention"] * 2}),
    Variant("llama", "sliding_window", keys={"sliding_window": 8}),
    Variant("llama", "eos outside the vocabulary", keys={"eos_token_id": 1000000}),
    Variant("llama", "bos outside the vocabulary", keys={"bos_token_id": 120}),
    Variant("llama", "eos list, one outside", keys={"eos_token_id": [2, 500]}),
    Variant("llama", "eos -1", keys={"eos_token_id": -1}),
    Variant("llama", "torch_dtype of other weights", keys={"dtype": GONE, "torch_dtype": "bfloat16"}),
    Variant("llama", "no dtype", keys={"dtype": GONE, "torch_dtype": GONE}),
    Variant("llama", "bfloat16 weights", weights="bfloat16"),
    Variant("llama", "float16 weights", weights="float16"),
    Variant("llama", "shards with an index", weights="shards"),
    Variant("llama", "no architectures", keys={"architectures": GONE}),
    Variant("llama", "base model", auto=BASE),
    Variant("llama", "base model, no architectures", keys=_NAMELESS, auto=BASE, named="lm_head"),
    Variant("llama", "pretraining_tp 2", keys={"pretraining_tp": 2}),
    Variant("llama", "use_cache false", keys={"use_cache": False}),
    Variant("llama", "attention_dropout", {"attention_dropout": 0.3}),
    Variant("llama", "rms_norm_eps", {"rms_norm_eps": 0.01}),
    Variant("llama", "unknown key", keys={"attention_temperature": 2.0}),
    Variant("llama", "experts", keys={"num_local_experts": 4}),
    Variant("llama", "quantization_config", keys={"quantization_config": {"quant_method": "bitsandbytes"}}),
    Variant("llama", "wrong vocab_size", keys={"vocab_size": 140}, named="embed_tokens"),
    Variant("llama", "fewer layers than the file", keys={"num_hidden_layers": 1}, named="layers.1."),
    Variant("llama", "more layers than the file", keys={"num_hidden_layers": 3}, named="layers.2."),
    Variant("llama", "text instead of a number", keys={"num_attention_heads": "4"}),
]  # fmt: skip
ROTARY = [
    Variant("llama", "rope_scaling and rope_parameters that agree",
            keys={"rope_scaling": {"type": "linear", "factor": 2.0},
                  "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
    Variant("mistral", "plain, window 8"),
    Variant("mistral", "window null", keys={"sliding_window": None}),
    Variant("mistral", "no key of a window", keys={"sliding_window": GONE}),
    Variant("mistral", "window longer than the text", keys={"sliding_window": 64}),
    Variant("mistral", "window 0", keys={"sliding_window": 0}),
    Variant("mistral", "head_dim null", keys={"head_dim": None}),
    Variant("mistral", "head_dim of its own", {"head_dim": 14}),
    Variant("mistral", "attention_bias without biases", keys={"attention_bias": True}),
    Variant("mistral", "mlp_bias without biases", keys={"mlp_bias": True}),
    Variant("mistral", "layer_types sliding", keys={"layer_types": ["sliding_attention"] * 2}),
    Variant("mistral", "layer_types full", keys={"layer_types": ["full_attention"] * 2}),
    Variant("mistral", "yarn", keys=_old(**_YARN)),
    Variant("mistral", "is_causal false", keys={"is_causal": False}),
    Variant("mistral", "base model", auto=BASE),
    Variant("qwen2", "plain"),
    Variant("qwen2", "window of all layers", dict(_WINDOW, max_window_layers=0)),
    Variant("qwen2", "window of no layer", dict(_WINDOW, max_window_layers=2)),
    Variant("qwen2", "window of some layers", dict(_WINDOW, max_window_layers=1)),
    Variant("qwen2", "window, old config without layer_types", dict(_WINDOW, max_window_layers=0),
            {"layer_types": GONE}),
    Variant("qwen2", "window not used", {"sliding_window": 8}),
    Variant("qwen2", "sliding layer_types, window not used", {"sliding_window": 8},
            {"layer_types": ["sliding_attention"] * 2}),
    Variant("qwen2", "layer_types against max_window_layers", dict(_WINDOW, max_window_layers=0),
            {"layer_types": ["full_attention"] * 2}),
    Variant("qwen2", "attention_bias false", keys={"attention_bias": False}),
    Variant("qwen2", "mlp_bias without biases", keys={"mlp_bias": True}),
    Variant("qwen2", "head_dim of its own", {"head_dim": 10}),
    Variant("qwen2", "tied", {"tie_word_embeddings": True}),
    Variant("qwen2", "yarn", keys=_old(**_YARN)),
    Variant("qwen2", "is_causal false", keys={"is_causal": False}),
    Variant("qwen2", "base model, no architectures", keys=_NAMELESS, auto=BASE, named="lm_head"),
    Variant("qwen2", "use_mrope", keys={"use_mrope": False}),
    Variant("qwen3", "plain, head_dim 12"),
    Variant("qwen3", "no head_dim", {"head_dim": 128}, {"head_dim": GONE}),
    Variant("qwen3", "attention_bias", {"attention_bias": True}),
    Variant("qwen3", "mlp_bias without biases", keys={"mlp_bias": True}),
    Variant("qwen3", "window of all layers", dict(_WINDOW, max_window_layers=0)),
    Variant("qwen3", "window of some layers", dict(_WINDOW, max_window_layers=1)),
    Variant("qwen3", "yarn", keys=_old(**_YARN)),
    Variant("qwen3", "dynamic beyond its length", {"max_position_embeddings": 32},
            _old(type="dynamic", factor=2.0), named="dynamic"),
    Variant("qwen3", "experts", keys={"num_experts": 8}),
    Variant("qwen3", "is_causal false", keys={"is_causal": False}),
    Variant("gpt_neox", "plain, rotary_pct 0.25 of 8"),
    Variant("gpt_neox", "rotary_pct 0.5, old keys",
            keys={**_NEOX_OLD, "rotary_pct": 0.5, "rotary_emb_base": 5000}),
    Variant("gpt_neox", "rope_theta beside rotary_emb_base",
            keys={**_NEOX_OLD, "rotary_pct": 0.5, "rotary_emb_base": 5000, "rope_theta": 77.0}),
    Variant("gpt_neox", "rope_theta alone", keys={"rope_parameters": GONE, "rope_theta": 77.0}),
    Variant("gpt_neox", "partial_rotary_factor alone",
            keys={"rope_parameters": GONE, "partial_rotary_factor": 0.5}),
    Variant("gpt_neox", "rotary_pct 1", {"rotary_pct": 1.0}),
    Variant("gpt_neox", "linear, old keys", keys={**_NEOX_OLD, "rotary_pct": 0.5,
            "rotary_emb_base": 10000, "rope_scaling": {"type": "linear", "factor": 2.0}}),
    Variant("gpt_neox", "yarn", keys={**_NEOX_OLD, "rotary_pct": 1.0, "rotary_emb_base": 10000,
            "rope_scaling": _YARN}),
    Variant("gpt_neox", "mixer and MLP in turn", {"use_parallel_residual": False}),
    Variant("gpt_neox", "no attention_bias", {"attention_bias": False}),
    Variant("gpt_neox", "tied", {"tie_word_embeddings": True}),
    Variant("gpt_neox", "hidden_act gelu_fast", {"hidden_act": "gelu_fast"}),
    Variant("gpt_neox", "hidden_act gelu_10", {"hidden_act": "gelu_10"}),
    Variant("gpt_neox", "hidden_dropout", {"hidden_dropout": 0.4, "attention_dropout": 0.4}),
    Variant("gpt_neox", "is_causal false", keys={"is_causal": False}),
    Variant("gpt_neox", "base model, no architectures", keys=_NAMELESS, auto=BASE, named="lm_head"),
]  # fmt: skip
LEARNED = [
    Variant("gpt2", "plain"),
    Variant("gpt2", "names of other families",
            keys={"n_embd": GONE, "n_layer": GONE, "n_head": GONE, "n_positions": GONE, "hidden_size": 32,
                  "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}),
    Variant("gpt2", "num_attention_heads beside n_head", keys={"num_attention_heads": 2}),
    Variant("gpt2", "n_ctx", keys={"n_ctx": 32}),
    Variant("gpt2", "n_inner", {"n_inner": 44}),
    Variant("gpt2", "n_inner null", keys={"n_inner": None}),
    Variant("gpt2", "no n_head", {"n_embd": 36, "n_head": 12}, {"n_head": GONE}),
    *[Variant("gpt2", f"activation_function {act}", {"activation_function": act})
      for act in ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "relu", "silu",
                  "swish", "quick_gelu", "mish", "gelu_accurate", "tanh", "relu2")],
    Variant("gpt2", "scale_attn_weights false", {"scale_attn_weights": False}),
    Variant("gpt2", "scale_attn_by_inverse_layer_idx", {"scale_attn_by_inverse_layer_idx": True}),
    Variant("gpt2", "reorder_and_upcast_attn", {"reorder_and_upcast_attn": True}),
    Variant("gpt2", "add_cross_attention", {"add_cross_attention": True}),
    Variant("gpt2", "untied", {"tie_word_embeddings": False}),
    Variant("gpt2", "base model", auto=BASE),
    Variant("gpt2", "base model, no architectures", keys=_NAMELESS, auto=BASE, named="lm_head"),
    Variant("gpt2", "layer_norm_epsilon", {"layer_norm_epsilon": 0.01}),
    Variant("gpt2", "pruned_heads", keys={"pruned_heads": {"0": [1]}}),
    Variant("gpt2", "is_causal false", keys={"is_causal": False}),
    Variant("gpt2", "float16 weights", weights="float16"),
    Variant("bert", "plain"),
    *[Variant("bert", f"hidden_act {act}", {"hidden_act": act})
      for act in ("gelu_new", "relu", "silu", "gelu_pytorch_tanh", "mish", "quick_gelu")],
    Variant("bert", "relative positions", keys={"position_embedding_type": "relative_key"}),
    Variant("bert", "is_decoder", keys={"is_decoder": True}),
    Variant("bert", "is_causal true", keys={"is_causal": True}),
    Variant("bert", "is_causal false", keys={"is_causal": False}),
    Variant("bert", "type_vocab_size 1", {"type_vocab_size": 1}),
    Variant("bert", "layer_norm_eps", {"layer_norm_eps": 0.01}),
    Variant("bert", "untied", {"tie_word_embeddings": False}),
    Variant("bert", "no tie_word_embeddings", keys={"tie_word_embeddings": GONE}),
    Variant("bert", "base model", auto=BASE),
    Variant("bert", "base model, no architectures", keys=_NAMELESS, auto=BASE, named="cls"),
    Variant("bert", "pretraining class", auto="AutoModelForPreTraining"),
    Variant("bert", "pruned_heads", keys={"pruned_heads": {"0": [1]}}),
    Variant("bert", "bfloat16 weights", weights="bfloat16"),
    Variant("roberta", "plain"),
    Variant("roberta", "pad_token_id 3", {"pad_token_id": 3}),
    Variant("roberta", "type_vocab_size 1", {"type_vocab_size": 1}),
    Variant("roberta", "hidden_act relu with a head", {"hidden_act": "relu"}),
    Variant("roberta", "hidden_act relu, base model", {"hidden_act": "relu"}, auto=BASE),
    Variant("roberta", "base model, no architectures", keys=_NAMELESS, auto=BASE, named="lm_head"),
    Variant("roberta", "is_decoder", keys={"is_decoder": True}),
    Variant("distilbert", "plain"),
    Variant("distilbert", "names of other families",
            keys={"dim": GONE, "n_layers": GONE, "n_heads": GONE, "hidden_size": 32, "num_hidden_layers": 2,
                  "num_attention_heads": 4}),
    Variant("distilbert", "num_attention_heads beside n_heads", keys={"num_attention_heads": 2}),
    Variant("distilbert", "activation relu", {"activation": "relu"}),
    Variant("distilbert", "activation silu", {"activation": "silu"}),
    Variant("distilbert", "sinusoidal_pos_embds", {"sinusoidal_pos_embds": True}),
    Variant("distilbert", "base model, no architectures", keys=_NAMELESS, auto=BASE, named="vocab_"),
]  # fmt: skip
MODELS = [*LLAMA, *ROTARY, *LEARNED]

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What is <b>1 + 1</b>? "},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "And 'caf\u00e9'?"},
]
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] | trim }} "
    "[/INST]{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
_TEMPLATES = {"default": _CHATML, "tool_use": "TOOLS {{ tools | tojson }} " + _CHATML}
_LISTED = [{"name": name, "template": text} for name, text in _TEMPLATES.items()]
# what: (files beside a byte-level tokenizer.json, what apply_chat_template gets)
CHATS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ChatML": ({"chat_template": _CHATML}, {}),
    "ChatML without a prompt for an answer": ({"chat_template": _CHATML}, {"add_generation_prompt": False}),
    "ChatML, the last message goes on": (
        {"chat_template": _CHATML},
        {"add_generation_prompt": False, "continue_final_message": True},
    ),
    "special tokens in the template": ({"chat_template": _INST}, {}),
    "ChatML's marks in another template": (
        {"chat_template": "<|im_start|>{{ messages[-1].content | upper }}<|im_end|>"},
        {},
    ),
    "loops, break, namespace": (
        {
            "chat_template": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
            "{% if ns.n > 2 %}{% break %}{% endif %}{{ loop.index0 }}:{{ m.content }}|{% endfor %}{{ ns.n }}"
        },
        {},
    ),
    "blocks on lines of their own": (
        {"chat_template": "{% for m in messages %}\n  {% if 1 %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}"},
        {},
    ),
    "tojson keeps HTML": ({"chat_template": "{{ messages | tojson(indent=2) }}"}, {}),
    "generation tag": (
        {
            "chat_template": "{% for m in messages %}{% generation %}{{ m.role }};{% endgeneration %}"
            "{% endfor %}"
        },
        {},
    ),
    "the template refuses": ({"chat_template": "{{ raise_exception('no system message') }}"}, {}),
    "a list of templates": ({"chat_template": _LISTED}, {}),
    "a list of templates, with tools": (
        {"chat_template": _LISTED},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
    ),
    "a list without a default": ({"chat_template": _LISTED[1:]}, {}),
    "chat_template.jinja": ({"file": _CHATML}, {}),
    "chat_template.jinja before tokenizer_config.json": ({"file": _INST, "chat_template": _CHATML}, {}),
    "no template": ({}, {}),
    "variables of the caller": (
        {"chat_template": "{{ enable_thinking }} {{ documents }} {{ nothing is defined }}"},
        {"enable_thinking": False},
    ),
}
