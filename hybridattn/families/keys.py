"""Which keys of a config.json are known, and what they may be.

Three kinds: keys that are read (each family's own), keys that change nothing that is computed here
(HARMLESS), and keys that would change the arithmetic with any value but the listed ones (NEUTRAL). What is on
no list is named in a warning, since nobody can say what it changes. The lists are those of transformers 4.57
and 5.24.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from ..checks import refuse


def words(text: str) -> frozenset[str]:
    """A set of names written with spaces between them."""
    return frozenset(text.split())


# Settings that change what a model computes; any other value than these would be silently wrong.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "pruned_heads": (None, {}),
    "num_local_experts": (None, 0, 1),
    "num_experts": (None, 0, 1),
    "n_routed_experts": (None, 0),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "alibi": (None, False),
    "multi_query": (None, False),
    "attention_chunk_size": (None,),
    "attention_sinks": (None, False),
}
HARMLESS = words(
    # what the file is, and how transformers holds it
    "_name_or_path _commit_hash _attn_implementation _attn_implementation_autoset "
    "_attn_implementation_internal _experts_implementation _experts_implementation_internal "
    "attn_implementation architectures auto_map base_model_tp_plan dtype model_name model_type name "
    "tokenizer_class torch_dtype transformers_version transformers.js_config use_bfloat16 "
    "torchscript tf_legacy_loss transformers_weights "
    # what a forward pass returns, and how training or memory are spared
    "chunk_size_feed_forward gradient_checkpointing keep_quantized output_attentions "
    "output_hidden_states output_scores return_dict return_dict_in_generate use_cache "
    "use_return_dict use_mems _use_cache cross_attention_hidden_size tie_encoder_decoder "
    "tie_word_embeddings pretraining_tp fused_kernels reorder_and_upcast_attn layer_norm_upcast "
    "flash_attention use_flash_attn use_flash_attention use_flash_attention_2 _flash_attn_2_enabled "
    "attention_backend unsloth_fixed unsloth_version bnb_config "
    # random masks and starting values of training
    "activation_dropout attention_dropout attention_dropout_prob attention_probs_dropout_prob "
    "attn_pdrop classifier_dropout dropout embd_pdrop hidden_dropout hidden_dropout_prob "
    "initializer_factor initializer_range qa_dropout resid_pdrop rescale_every seq_classif_dropout "
    "sinusoidal_pos_embds router_aux_loss_coef output_router_logits gradient_clipping "
    # tokens, labels, heads: read where they matter, harmless elsewhere
    "bos_token_id decoder_start_token_id eos_token_id finetuning_task id2label label2id "
    "mask_token_id num_labels pad_token_id prefix problem_type sep_token_id task_specific_params "
    "unk_token_id cls_token_id summary_activation summary_first_dropout summary_proj_to_labels "
    "summary_type summary_use_proj n_special predict_special_tokens pooler_fc_size "
    "pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type directionality "
    "n_ctx "
    # settings of generation, which generation_config.json holds today
    "bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping "
    "encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id "
    "forced_eos_token_id length_penalty max_length max_new_tokens min_length no_repeat_ngram_size "
    "num_beam_groups num_beams num_return_sequences remove_invalid_values repetition_penalty "
    "suppress_tokens temperature top_k top_p typical_p generation_config "
)


def check_keys(
    hf: Mapping[str, Any], family: str, read: Iterable[str], neutral: Mapping[str, tuple[Any, ...]]
) -> None:
    """ConfigError for a setting of `neutral`, or of those that no family has, with a value that is not
    listed; a UserWarning that names the keys that nobody here knows. read: the keys that the family reads
    itself.
    """
    listed = {**NEUTRAL, **neutral}
    for key, allowed in listed.items():
        if key in hf and not any(_same(hf[key], value) for value in allowed):
            shown = " or ".join("null" if value is None else str(value) for value in allowed)
            raise refuse(key, hf[key], f"{shown} for model_type {family}")
    unknown = sorted(str(key) for key in hf.keys() - HARMLESS - listed.keys() - set(read))
    if unknown:
        warnings.warn(
            f"config.json of model_type {family} has keys that are not known here: {', '.join(unknown)}; "
            "they are ignored. Compare logits if one of them may change the model",
            UserWarning,
            stacklevel=2,
        )


def with_aliases(hf: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`hf` with the other names that the family's class has for its keys ({other: own}) put in their own
    places; an other name wins, as in transformers.
    """
    found = {key: value for key, value in hf.items() if key not in names}
    return {**found, **{names[key]: value for key, value in hf.items() if key in names and value is not None}}


def _same(value: Any, allowed: Any) -> bool:
    """Equal and of one type: 1 is not True."""
    return value == allowed and isinstance(value, bool) == isinstance(allowed, bool)
