"""The decoder around the mixers: embeddings, blocks, LM head, as transformers runs, trains and saves it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .attention import RMSNorm
from .configuration import HybridAttnConfig
from .mixers import MIXERS
from .tokens import HybridAttnCache, State, Tokens, left_aligned

# transformers up to 5.2x says past_key_values where later ones say cache
_FIELDS = {field.name for field in dataclasses.fields(CausalLMOutputWithPast)}
CACHE = "cache" if "cache" in _FIELDS else "past_key_values"


class MLP(nn.Module):
    """down(silu(gate(x)) up(x))"""

    def __init__(self, config: HybridAttnConfig) -> None:
        super().__init__()
        wide, inner, bias = config.hidden_size, config.intermediate_size, config.body["mlp_bias"]
        self.gate_proj = nn.Linear(wide, inner, bias=bias)
        self.up_proj = nn.Linear(wide, inner, bias=bias)
        self.down_proj = nn.Linear(inner, wide, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class HybridAttnLayer(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)). The mixer is an attribute by the name of its kind."""

    def __init__(self, config: HybridAttnConfig, spec: dict[str, Any]) -> None:
        super().__init__()
        kind, window = spec["kind"], config.body["sliding_window"]
        self.mixer_name = "self_attn" if kind == "softmax" else kind
        if kind == "softmax" and window:  # the teacher's own window
            kind, spec = "window", {"window": window, "sinks": 0}
        self.input_layernorm = RMSNorm(config.hidden_size, config.body["norm_eps"])
        self.add_module(self.mixer_name, MIXERS[kind](config, spec))
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.body["norm_eps"])
        self.mlp = MLP(config)

    def forward(self, x: Tensor, tokens: Tokens, state: State | None) -> Tensor:
        x = x + getattr(self, self.mixer_name)(self.input_layernorm(x), tokens, state)
        return x + self.mlp(self.post_attention_layernorm(x))


class HybridAttnPreTrainedModel(PreTrainedModel):
    config_class = HybridAttnConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["HybridAttnLayer"]
    _supports_sdpa = True
    _is_stateful = True  # states of linear layers cannot go back, so no assisted generation

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=getattr(self.config, "initializer_range", 0.02))
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
        elif hasattr(module, "reset"):
            module.reset()


class HybridAttnModel(HybridAttnPreTrainedModel):
    def __init__(self, config: HybridAttnConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([HybridAttnLayer(config, spec) for spec in config.mixers])
        self.norm = RMSNorm(config.hidden_size, config.body["norm_eps"])
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: HybridAttnCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache: HybridAttnCache | None = None,
        **kwargs: Any,
    ) -> Any:
        """attention_mask [B, T] or [B, past + T], 0 for padding, on any side. position_ids turn q and k
        only.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values if cache is None else cache
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if cache is None and use_cache:
            cache = HybridAttnCache(len(self.layers))
        if cache is not None and not isinstance(cache, HybridAttnCache):
            raise ValueError(f"cache is a {type(cache).__name__}; allowed: what an earlier call returned")
        valid = new_tokens(attention_mask, x)
        order = None if valid is None else left_aligned(valid)
        if order is not None and valid is not None:
            x, valid = x.gather(1, order.unsqueeze(-1).expand_as(x)), valid.gather(1, order)
            if position_ids is not None:
                position_ids = position_ids.expand_as(order).gather(1, order)
        tokens = self.place(x, valid, position_ids, cache)
        states = []
        for i, layer in enumerate(self.layers):
            states.append(x)
            state = None if cache is None else cache.layers[i]
            if self.gradient_checkpointing and self.training:
                x = self._gradient_checkpointing_func(layer.__call__, x, tokens, state)
            else:
                x = layer(x, tokens, state)
        states.append(self.norm(x))
        if order is not None:
            back = order.argsort(1).unsqueeze(-1)
            states = [y.gather(1, back.expand_as(y)) for y in states]
        last, hidden = states[-1], tuple(states) if output_hidden_states else None
        output = BaseModelOutputWithPast(last_hidden_state=last, hidden_states=hidden, **{CACHE: cache})
        return output.to_tuple() if return_dict is False else output

    def place(
        self, x: Tensor, valid: Tensor | None, position_ids: Tensor | None, cache: HybridAttnCache | None
    ) -> Tokens:
        """Positions and masks of the new tokens; the cache takes note of them."""
        batch, steps = x.shape[:2]
        known = None if cache is None else cache.valid
        past = 0 if known is None else known.shape[1]
        lengths = x.new_zeros(batch, dtype=torch.long) if known is None else known.sum(1)
        now = torch.ones(batch, steps, dtype=torch.bool, device=x.device) if valid is None else valid
        all_known = now if known is None else torch.cat([known, now], 1)
        if cache is not None:
            cache.valid = all_known
        first = None if valid is None else steps - valid.sum(1)
        position = torch.arange(steps, device=x.device).unsqueeze(0).expand(batch, -1)
        if first is not None:
            position = position - first.unsqueeze(1)
        # padding counts down from -1, also where tokens have gone before
        position = torch.where(position < 0, position, position + lengths.unsqueeze(1))
        frequencies = torch.tensor(self.config.body["rope_inv_freq"], dtype=torch.float32, device=x.device)
        turn = (position.clamp(min=0) if position_ids is None else position_ids).float()
        angle = (turn.unsqueeze(-1) * frequencies).unsqueeze(1)
        factor = self.config.body["rope_attention_factor"]
        padded = valid is not None or (known is not None and bool((lengths < past).any()))
        return Tokens(
            lengths=lengths,
            position=position,
            past=past,
            cos=angle.cos() * factor,
            sin=angle.sin() * factor,
            valid=valid,
            first=first,
            known=all_known if padded else None,
        )


def new_tokens(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """Which of the new tokens x [B, T, d] are not padding, None for all of them."""
    if mask is None:
        return None
    if mask.dim() != 2 or mask.shape[0] != x.shape[0] or mask.shape[1] < x.shape[1]:
        raise ValueError(
            f"attention_mask has the shape {list(mask.shape)}; allowed: [batch, tokens], 0 for padding, "
            f"of at least {list(x.shape[:2])}"
        )
    valid = mask[:, -x.shape[1] :].to(device=x.device).bool()
    return None if bool(valid.all()) else valid


class HybridAttnForCausalLM(HybridAttnPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: HybridAttnConfig) -> None:
        super().__init__(config)
        self.model = HybridAttnModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # `generate` leaves the cache to forward

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: HybridAttnCache | None = None,
        cache: HybridAttnCache | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The inputs of the next pass: of the tokens so far those that the cache has not seen."""
        cache = past_key_values if cache is None else cache
        seen = 0 if cache is None else cache.get_seq_length()
        inputs: dict[str, Any] = {"attention_mask": attention_mask, "use_cache": use_cache, CACHE: cache}
        if logits_to_keep is not None:
            inputs["logits_to_keep"] = logits_to_keep
        if inputs_embeds is not None and seen == 0:
            return {**inputs, "inputs_embeds": inputs_embeds}
        if inputs_embeds is not None:  # what was generated stands behind them
            seen -= inputs_embeds.shape[1]
        new = input_ids[:, seen:] if seen < input_ids.shape[1] else input_ids[:, -1:]
        return {**inputs, "input_ids": new.contiguous()}

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: HybridAttnCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        cache: HybridAttnCache | None = None,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Logits [B, T, V], and with labels the loss of the next token. See `HybridAttnModel.forward`.

        token_type_ids are those that transformers 4 makes unasked; a decoder has no use for them.
        """
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            cache=cache,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        held = {CACHE: output[CACHE]} if CACHE in output else {}
        result = CausalLMOutputWithPast(loss=loss, logits=logits, hidden_states=output.hidden_states, **held)
        return result.to_tuple() if return_dict is False else result
