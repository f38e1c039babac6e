/* The model: embeddings, blocks of (norm, mixers, norm, MLP), final norm, LM head; and its forward
 * and backward passes. */
#ifndef HA_MODEL_MODEL_H
#define HA_MODEL_MODEL_H

#include <stdatomic.h>

#include "mixers/mixer.h"
#include "ops/ops.h"

/* One layer. It may hold a softmax mixer, a linear mixer, or both; with both, a gate says how much
 * of each flows on: out = gate * softmax(x) + (1 - gate) * linear(x). */
typedef struct {
    size_t weight, bias; /* bias: HA_NONE for an RMSNorm */
} ha_norm;

typedef struct {
    ha_norm mixer_norm, mlp_norm;
    ha_norm mixer_post_norm, mlp_post_norm; /* of a SANDWICH */
    size_t up, up_bias, down, down_bias;    /* up: of a gated MLP the gate's and up's rows */
    ha_mixer softmax, linear;
} ha_layer;

typedef struct {
    ha_config config, local; /* local: what mixers of local layers are given; rope_table 0: there are none */
    float *rope_inv_freq;    /* owned copies behind the configs' rope_inv_freq */
    ha_params params;
    ha_layer *layer;
    float *gates;           /* [num_layers], for passes that bring none of their own; may change at any time */
    float *weights, *grads; /* [params.total]; grads are made when training starts */
    size_t embed, positions, segments, transform, transform_bias, head, head_bias; /* HA_NONE where there is none */
    size_t pooler, pooler_bias, classifier, classifier_bias;                       /* of a task, likewise */
    ha_norm embed_norm, final_norm, transform_norm;
} ha_model;

/* What a layer holds: option values in the order of the kind's table. */
typedef struct {
    int has_softmax;
    const ha_mixer_kind *linear; /* or NULL */
    int option[HA_MAX_OPTIONS];
} ha_layer_spec;

/* model.c: zeroed weights; config and specs [num_layers] are copied */
ha_status ha_model_new(const ha_config *config, const ha_layer_spec *specs, ha_model **out);
/* Frees the model with its weights; NULL is nothing. */
void ha_model_free(ha_model *model);
/* Maps model->grads [params.total], zeroed, when they are not there yet. */
ha_status ha_model_need_grads(ha_model *model);
/* Attention weight transfer in every layer that holds both mixers; refused, before anything
 * changes, where a matrix of a linear one is stored in another type. */
ha_status ha_model_init_mixers(ha_model *model, uint64_t seed);
/* Keeps a parameter (an embedding, projection or LM head) as `data` of another type, which the
 * caller keeps alive and does not change; its place in the arena is given back. It can no longer be
 * trained. */
ha_status ha_model_store(ha_model *model, int param, ha_dtype type, const void *data);
/* Whether every layer with softmax has a linear mixer beside it, and there is such a layer: others
 * are linear for good. */
int ha_model_is_probe(const ha_model *m);
/* A gate as layer l uses it: 1 or 0 where only one mixer is there. */
float ha_gate_of(const ha_model *model, const float *gates, int l);
/* own [num_layers] = every gate as its layer uses it; refused unless all are in [0, 1]. */
ha_status ha_gates_of(const ha_model *model, const float *gates, float *own);

typedef struct ha_cache ha_cache;

/* Which parts of a layer run, and what of it is saved. */
typedef struct {
    float gate;
    int both; /* run both mixers whatever the gate: its gradient is wanted */
} ha_layer_run;

static inline int ha_runs_softmax(const ha_layer *layer, ha_layer_run run)
{
    return layer->softmax.kind && (run.gate > 0.0f || (run.both && layer->linear.kind));
}

static inline int ha_runs_linear(const ha_layer *layer, ha_layer_run run)
{
    return layer->linear.kind && (run.gate < 1.0f || (run.both && layer->softmax.kind));
}

/* block.c: x [rows, hidden] passes through layer l in place. saved [ha_layer_saved floats] for the
 * backward pass, or NULL. */
size_t ha_layer_saved(const ha_model *model, int l, ha_layer_run run, const ha_batch *batch);
/* x [rows, hidden] becomes the output of layer l; saved, cache: or NULL. */
ha_status ha_layer_forward(const ha_model *model, int l, ha_layer_run run, const ha_pass *pass, float *x, float *saved,
                           ha_cache *cache);
/* h [rows, hidden]: what the mixers of layer l see of its input x. */
void ha_layer_input(const ha_model *model, int l, const ha_pass *pass, const float *x, float *h);
/* The rest of layer l once its mixer's output is known: x becomes the layer's output. */
ha_status ha_layer_finish(const ha_model *model, int l, const ha_pass *pass, const float *mixed, float *x);
/* dx [rows, hidden] becomes the gradient of the layer's input; dgate [n_seq], unless NULL, is d / d
 * gate by sequence. */
ha_status ha_layer_backward(const ha_model *model, int l, ha_layer_run run, const ha_pass *pass, float *saved,
                            float *dx, double *dgate);

/* forward.c: a pass's shared part: rope tables for the batch, pushed on the arena. Refuses
 * positions and segments that the model has no embedding of. */
ha_status ha_pass_begin(const ha_model *model, const ha_batch *batch, float *grads, ha_arena *arena,
                        const ha_interrupt *check, ha_pass *pass);
/* hidden [rows, hidden_size], what the LM head is applied to. gates [num_layers] or NULL for the
 * model's own. A cache continues its sequences; when the layers fail or are interrupted the cache
 * is emptied. */
ha_status ha_model_hidden(const ha_model *model, const float *gates, const ha_batch *batch, ha_cache *cache,
                          float *hidden, ha_arena *arena, const ha_interrupt *check);
/* moments [params.count]: where not NULL, [in,in] += X^T X of the rows X that matrix meets; the
 * first of joined ones has theirs */
ha_status ha_model_observe(const ha_model *model, const ha_batch *batch, float **moments, ha_arena *arena,
                           const ha_interrupt *check);
/* HA_BAD_VALUE for a model without an LM head, which the two after it need */
ha_status ha_model_need_head(const ha_model *model);
/* HA_BAD_VALUE for a model that cannot predict the next token: without an LM head, or
 * bidirectional */
ha_status ha_model_need_next(const ha_model *model);
/* logits [n, vocab_size] of rows of hidden */
void ha_model_logits(const ha_model *model, int n, const float *hidden, float *logits);
/* The LM head [vocab_size, hidden] of a model that has one. */
ha_linear ha_model_head(const ha_model *model);
/* The gradient of scale * loss: dhidden [rows, hidden], and the head's place in grads
 * [params.total] unless NULL. */
ha_head_gradient ha_model_head_gradient(const ha_model *model, float scale, float *dhidden, float *grads);

/* embed.c: x [rows, hidden] = the tokens' embeddings, with positions, segments and norm as the
 * config says */
ha_status ha_model_embed(const ha_model *model, const ha_pass *pass, float *x);
/* Gradients of the embeddings, positions, segments and norm from dx [rows, hidden]. */
ha_status ha_model_embed_backward(const ha_model *model, const ha_pass *pass, float *dx);

/* output.c: from the last layer's x [rows, hidden] to hidden: final norm and the head's transform,
 * each where the config has one */
ha_status ha_model_output(const ha_model *model, const ha_pass *pass, const float *x, float *hidden);
/* dx = gradient of x from dhidden [rows, hidden], which is overwritten */
ha_status ha_model_output_backward(const ha_model *model, const ha_pass *pass, const float *x, float *dhidden,
                                   float *dx);

/* task.c: the head of a task; config.task.kind is not HA_TASK_NONE. A run keeps what its backward
 * pass needs. */
typedef struct {
    int rows;           /* of logits: one a sequence, or one a token for spans */
    const float *input; /* [rows, hidden] what the dense layer or the classifier reads */
    float *dense, *act; /* [rows, hidden] before and after the pooler's activation; NULL without a pooler */
    float *logits;      /* [rows, labels] */
} ha_task_run;

/* Adds the parameters of the head. */
ha_status ha_task_declare(ha_model *model);
/* Logits of hidden [batch rows, hidden], which the run refers to until its backward pass. */
ha_status ha_task_forward(const ha_model *model, const ha_batch *batch, const float *hidden, ha_arena *arena,
                          ha_task_run *run);
/* dhidden [batch rows, hidden] = gradient from dlogits [rows, labels]; grads [params.total] +=
 * unless NULL; run->dense is overwritten */
ha_status ha_task_backward(const ha_model *model, const ha_batch *batch, const ha_task_run *run, const float *dlogits,
                           float *dhidden, float *grads, ha_arena *arena);

/* train.c: a forward pass that keeps what its backward needs, on the arena until the caller
 * releases it. */
typedef struct {
    ha_pass pass;
    float *gates; /* [num_layers] as they were in the forward pass */
    int both, recompute;
    float **saved; /* [num_layers] what ha_layer_forward saves, or layers' inputs [rows, hidden] */
    float *last;   /* [rows, hidden] output of the last layer */
    float *hidden; /* [rows, hidden] what ha_model_output made of it */
    atomic_llong *finished;
} ha_tape;

/* What is to run: gates [num_layers] or NULL (as the model says), both mixers of a layer or what
 * its gate needs. The first `recompute` layers keep their input alone. finished: unless NULL, += 1 at
 * the end of each stage of the backward pass, see ha_param_stage. */
typedef struct {
    const float *gates;
    int both, recompute;
    atomic_llong *finished;
} ha_tape_options;

/* grads [params.total], to which the backward pass adds, or NULL. */
ha_status ha_tape_forward(const ha_model *model, const ha_tape_options *options, const ha_batch *batch, float *grads,
                          ha_arena *arena, const ha_interrupt *check, ha_tape *tape);
/* From dhidden [rows, hidden] (overwritten) down to the embedding. dgates [num_layers][n_seq] or
 * NULL. */
ha_status ha_tape_backward(const ha_model *model, ha_tape *tape, float *dhidden, double *dgates);
/* The stage of the backward pass that is the last to add to a parameter's gradient: 0 for what is
 * behind the layers, then one for each layer from the last down, then one for embeddings. */
int ha_param_stage(const ha_model *model, int param);

/* cache.c: decode state of n_seq sequences of one model, for the mixers that the gates at its
 * creation let run. Keys and values are stored as `type`, HA_F32 or HA_F16. */
ha_status ha_cache_new(const ha_model *model, int n_seq, ha_dtype type, ha_cache **out);
/* Sequence s of the copy is sequence s mod its number of `from`. */
ha_status ha_cache_copy(const ha_cache *from, int n_seq, ha_cache **out);
/* Frees the cache; NULL is nothing. */
void ha_cache_free(ha_cache *cache);
/* Back to no tokens; memory that was reserved stays. */
void ha_cache_reset(ha_cache *cache);
/* The model it belongs to. */
const ha_model *ha_cache_model(const ha_cache *cache);
/* The type of keys and values. */
ha_dtype ha_cache_dtype(const ha_cache *cache);
/* How many sequences it holds. */
int ha_cache_sequences(const ha_cache *cache);
/* Tokens of sequence `seq`. */
int ha_cache_length(const ha_cache *cache, int seq);
/* For states that were written by hand. */
void ha_cache_set_length(ha_cache *cache, int seq, int length);
/* [num_layers] as they were at its creation. */
const float *ha_cache_gates(const ha_cache *cache);
/* State of mixer `linear` (0: softmax, 1: linear) of layer l: [n_seq], or NULL when that mixer does
 * not run. */
ha_state *ha_cache_state(const ha_cache *cache, int l, int linear);
/* Room for `extra[s]` more tokens of each sequence; nothing changes on failure. */
ha_status ha_cache_reserve(ha_cache *cache, const int *extra);
/* Counts the tokens of a batch that all layers have taken in. */
void ha_cache_advance(ha_cache *cache, const ha_batch *batch);
/* From now on the state after each of the last `tokens` tokens is kept; 0: no more, and none on
 * failure. */
ha_status ha_cache_trail(ha_cache *cache, int tokens);
/* Whether a pass over the batch leaves its states one by one: a longer one cannot be taken back. */
int ha_cache_trails(const ha_cache *cache, const ha_batch *batch);
/* Takes back the last tokens[s] of each sequence; refused, before anything changes, where fewer can
 * be. */
ha_status ha_cache_rewind(ha_cache *cache, const int *tokens);
/* Bytes in use now. */
size_t ha_cache_bytes(const ha_cache *cache);
/* Those of the softmax or the linear mixer of layer l: 0 where it does not run. */
size_t ha_cache_layer_bytes(const ha_cache *cache, int l, int linear);
/* Bytes that one more token adds to each sequence. */
size_t ha_cache_bytes_per_token(const ha_cache *cache);

#endif
