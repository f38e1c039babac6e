/* hybridattn, the C library: softmax Transformers into hybrids of softmax and linear attention, on a CPU.
 *
 *     ha_layer_spec spec[L] = {0};                                  a probe: both mixers in every layer
 *     for (int l = 0; l < L; l++) {
 *         spec[l].has_softmax = 1;
 *         spec[l].linear = ha_mixer_find("window_linear");
 *         for (int i = 0; i < HA_MAX_OPTIONS; i++)
 *             spec[l].option[i] = spec[l].linear->option[i].value;  defaults; 0 is not one
 *     }
 *     ha_model_new(&config, spec, &model);                          zeroed; fill model->weights by model->params,
 *     ha_model_init_mixers(model, seed);                            then start the linear mixers from the softmax ones
 *
 *     ha_model_store(model, i, HA_Q8_0, bytes);                     optional: parameter i in another type, see dtype.h
 *
 *     ha_arena_open(&arena);                                        temporaries of all calls that follow
 *     ha_windows w = {tokens, pairs, 2, config.vocab_size};         pairs {0, 512, 512, 900}: two sequences in one stream
 *     ha_windows_hidden(model, &w, hidden, &arena, NULL);           final hidden states [stream, hidden_size]
 *     ha_model_logits(model, rows, hidden, logits);                 [rows, vocab_size]
 *
 *     ha_scorer scorer = {model, NULL, &arena, NULL};               the teacher: the model with every gate 1
 *     ha_flips flips = {HA_MEASURE_KL, model->gates, n, layers};    one layer of these at a time
 *     ha_score_flip(&scorer, &w, &flips, base, kl);
 *     ha_trainer_new(model, NULL, &options, NULL, &trainer);        options.stage: align, fine-tune; with a teacher distill
 *     ha_trainer_step(trainer, &w, lr, NULL, &arena, NULL, loss, &norm);
 *
 * Contents      model/model.h      the model, ha_model_hidden on packed batches, ha_cache_* for decoding token by token
 *                                  (ha_cache_reserve, then ha_model_hidden), ha_tape_* for gradients
 *               distill/distill.h  windows, ha_score_kl, _flip and _gates, the trainer
 *               mixers/mixer.h     the kinds of mixers and their options
 *               ops/ops.h          every operation by itself;  core/: arena, batch, status, threads
 * Gates         by layer, model->gates or your own: 1 is softmax, 0 linear, between them a mixture.
 * Errors        a ha_status; ha_error_message() says why. A failed call may leave the arena in use: ha_arena_release it.
 * Interrupts    a ha_interrupt is asked between layers; a step that it stops leaves the weights as they were.
 * Threads       ha_set_threads; results are the same bits for any number. One call at a time uses an arena. */
#ifndef HYBRIDATTN_H
#define HYBRIDATTN_H

#include "core/arena.h"
#include "core/batch.h"
#include "core/status.h"
#include "core/thread.h"
#include "distill/distill.h"
#include "mixers/mixer.h"
#include "model/model.h"
#include "ops/ops.h"

#endif
