/* The token mixer: everything that is specific to one kind of attention, behind one table of
 * functions.
 *
 * A new kind is one file with a ha_mixer_kind, one naive twin in ref/, and one line in registry.c;
 * or it is registered at run time, as python/external_*.c do. */
#ifndef HA_MIXERS_MIXER_H
#define HA_MIXERS_MIXER_H

#include "core/arena.h"
#include "core/batch.h"
#include "core/dtype.h"
#include "core/rng.h"
#include "core/status.h"
#include "mixers/config.h"
#include "mixers/params.h"

enum { HA_MAX_SLOTS = 20, HA_MAX_OPTIONS = 12 };

/* What one pass over a batch shares. */
typedef struct {
    const ha_batch *batch;
    const float *cos[2], *sin[2]; /* [rows, rope_dim / 2], by config.rope_table */
    const ha_params *params;
    const float *weights; /* the parameter arena */
    float *grads;         /* its gradients, or NULL when only inputs need them */
    int aligning;         /* step 1: only parameters that align want gradients */
    int trailing;         /* states that have a trail leave one state a token in it (trail.h) */
    float **moments;      /* [params->count] or NULL: X^T X [in,in] of the rows X that a matrix meets, where wanted */
    float *seen;          /* [rows,in] or NULL: a copy of the rows that the matrix at offset `watched` meets */
    size_t watched;
    ha_arena *arena;
    const ha_interrupt *check;
} ha_pass;

/* What a kind keeps of one sequence while decoding: vectors of `tokens` tokens (0: of every token),
 * stored as floats or halves, and `floats` floats of its own layout. */
typedef struct {
    int planes, row; /* vectors of a token, and their width: keys of all heads, then their values */
    int tokens;
    size_t floats;
} ha_state_shape;

/* Decode state of one mixer and sequence, which `length` tokens have gone through. */
typedef struct {
    ha_state_shape shape;
    ha_dtype type;
    void *rows; /* [planes, capacity, row] of `type` */
    float *data;
    int capacity, length;
    int slots, slot; /* of its trail, and the one that rows and data lie in; 0 slots: there is none */
} ha_state;

typedef struct {
    const char *name;
    int value, min, max; /* default and range */
    const char *what;
    const char *const *names; /* what people call its values, [max + 1]; NULL: by their number */
} ha_option;

typedef struct ha_mixer ha_mixer;

/* Whose models a kind serves: decoders, encoders (each token sees its whole sequence), or both. */
typedef enum { HA_CAUSAL_ONLY, HA_BIDIRECTIONAL_ONLY, HA_BOTH_MASKS } ha_masks;

/* What a kind is stands here and nowhere else; Python reads it through mixers(). */
typedef struct {
    const char *name;
    const char *summary; /* one line: the formula's name and what it keeps */
    const char *phrase;  /* the same in a sentence of the report, for readers who know no formulas; NULL: nothing */
    double align_rate;   /* learning rate that step 1 starts from unless told, 0 for softmax (benchmarks/align_lr.py) */
    ha_option option[HA_MAX_OPTIONS]; /* ends at the first without a name */

    /* Adds the parameters to the table, under `prefix`, and fills mixer->at. */
    ha_status (*declare)(ha_mixer *mixer, const char *prefix, int layer, ha_params *params);
    /* Attention weight transfer from the softmax mixer of the same layer, and a start for what it
     * has not. */
    void (*init_from_softmax)(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng);
    /* Floats that forward saves for backward. */
    size_t (*saved)(const ha_mixer *mixer, const ha_batch *batch);
    ha_state_shape (*state)(const ha_mixer *mixer);
    /* out += scale * mixer(x); x, out [rows, hidden]. saved and state [n_seq] may be NULL; state
     * continues sequences. */
    ha_status (*forward)(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                         float *saved, ha_state *state);
    /* dx += gradient of <dout, scale * mixer(x)>, unless NULL; gradients of weights likewise when
     * pass->grads. gate [n_seq], unless NULL: <dout, mixer(x)> of each sequence, the gradient of
     * scale. */
    ha_status (*backward)(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                          const float *dout, float *dx, double *gate);
    /* Forward FLOP for one token when `context` tokens are in sight. */
    double (*flops)(const ha_mixer *mixer, double context);
    ha_masks masks;
    int trails;        /* forward leaves a trail itself; else it is called token by token where one is wanted */
    const void *frame; /* the description that kinds with shared functions are told apart by */
} ha_mixer_kind;

/* Heads of a shape of their own; `heads` 0: those of the model. A key head serves heads / key_heads
 * heads. */
typedef struct {
    int heads, key_heads, dim;
} ha_heads;

/* What runs of a mixer that adds linear attention to softmax in a window: both; the softmax alone;
 * or the linear part with all that the window would have shown but the token itself. */
typedef enum { HA_BRANCH_BOTH, HA_BRANCH_SOFTMAX, HA_BRANCH_LINEAR, HA_BRANCH_COUNT } ha_branch;

struct ha_mixer {
    const ha_mixer_kind *kind; /* NULL: the layer has no such mixer */
    const ha_config *config;
    int option[HA_MAX_OPTIONS];
    size_t at[HA_MAX_SLOTS]; /* offsets of its parameters, HA_NONE where there is none */
    int projections_align;   /* q, k, v, o are trained in step 1, not only what follows them */
    ha_heads own;            /* of a linear mixer */
    ha_branch branch;        /* of window_linear; a decode state has both in either case */
    int no_bias, no_qk_norm; /* biases of q, k, v and o, norms of q and k are left out although the model has them */
};

/* Slots that every mixer uses alike; a kind's own slots start at HA_SLOT_OWN. q, k and v are one
 * joined matrix. */
enum { HA_SLOT_QKV, HA_SLOT_QKV_BIAS, HA_SLOT_O, HA_SLOT_O_BIAS, HA_SLOT_Q_NORM, HA_SLOT_K_NORM, HA_SLOT_OWN };

/* registry.c: kind `index`, NULL after the last; softmax is the first. */
const ha_mixer_kind *ha_mixer_at(int index);
/* The kind of that name, or NULL. */
const ha_mixer_kind *ha_mixer_find(const char *name);
/* Adds a kind, which must stay where it is; from one thread at a time. Fails for a name that is
 * taken. */
ha_status ha_mixer_register(const ha_mixer_kind *kind);

/* Channels of all heads together, what the output projection reads. */
static inline int ha_inner(const ha_mixer *mixer)
{
    const ha_config *c = mixer->config;
    return mixer->own.heads ? mixer->own.heads * mixer->own.dim : c->num_heads * c->head_dim;
}

/* Whether q and k of this mixer go through a norm. */
static inline int ha_has_qk_norm(const ha_mixer *mixer)
{
    return mixer->config->qk_norm && !mixer->no_qk_norm;
}

/* The float32 weights at a slot, or NULL; the same place in the gradients, or NULL. */
static inline const float *ha_weight(const ha_mixer *mixer, const ha_pass *pass, int slot)
{
    return mixer->at[slot] == HA_NONE ? NULL : pass->weights + mixer->at[slot];
}

/* moments.c: adds rows x [batch rows, in] to the moments of the matrix at an offset, and keeps
 * them, where either is wanted. */
void ha_observe(const ha_pass *pass, size_t offset, int in, const float *x);

/* The projection at a slot with what is joined to it, of whatever type it is stored in. */
static inline ha_matrix ha_projection(const ha_mixer *mixer, const ha_pass *pass, int slot)
{
    return ha_params_matrix(pass->params, pass->weights, mixer->at[slot]);
}

static inline float *ha_grad(const ha_mixer *mixer, const ha_pass *pass, int slot)
{
    if (mixer->at[slot] == HA_NONE || !pass->grads)
        return NULL;
    if (pass->aligning && slot < HA_SLOT_OWN && !mixer->projections_align)
        return NULL;
    return pass->grads + mixer->at[slot];
}

#endif
