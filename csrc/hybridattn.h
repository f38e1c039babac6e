/* hybridattn, the C library: softmax Transformers into hybrids of softmax and linear attention, on a CPU.
 *
 * Make a model from numbers, fill `model->weights` through the table `model->params` (names, shapes, offsets):
 *
 *     ha_layer_spec spec[L] = {{.has_softmax = 1, .linear = ha_mixer_find("window_linear"), .option = {64, 4, 1}}, ...};
 *     ha_model *model;
 *     ha_status status = ha_model_new(&config, spec, &model);            a probe: both mixers in every layer
 *     ha_model_init_mixers(model, seed);                                 linear mixers from the softmax ones
 *
 * Temporaries of every call come from an arena; a call that fails says why in ha_error_message():
 *
 *     ha_arena arena;
 *     ha_arena_open(&arena);
 *     ha_model_hidden(model, gates, &batch, cache, hidden, &arena, check)        final hidden states, [rows, hidden]
 *     ha_model_logits(model, rows, hidden, logits)                               [rows, vocabulary]
 *     ha_cache_new(model, n_seq, &cache)                                         decode state
 *
 * Score layers, train (model/model.h, distill/distill.h say the rest):
 *
 *     ha_score_kl, ha_score_flip, ha_score_gates          KL of a hybrid, of all one-layer changes, its slope by gates
 *     ha_trainer_new, ha_trainer_step, ha_trainer_free    one step of alignment, distillation or fine-tuning
 *
 * Gates: 1 means softmax, 0 linear. Tokens of several sequences lie packed in a batch, without padding (core/batch.h).
 * Threads: ha_set_threads; results are the same bits for any number. One call at a time may use an arena. */
#ifndef HYBRIDATTN_H
#define HYBRIDATTN_H

#include "core/arena.h"
#include "core/batch.h"
#include "core/status.h"
#include "core/thread.h"
#include "distill/distill.h"
#include "model/model.h"
#include "ops/ops.h"

#endif
