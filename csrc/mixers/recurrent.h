/* The frame of the mixers on the linear recurrence: a kind is a description and the functions of its gates.
 *
 *     [q, k, v, parts] = x W^T          one product; parts feed gates, a few of them through a low rank
 *     q, k, v = f(conv(q)), ...         a short convolution or none, silu or nothing; then, where the kind or its options
 *                                       say so, q and k get length 1 and are rotated
 *     g, beta, a, b, key = gates(parts, k)
 *     o = recurrence(dim^-1/2 q, key, v, g, beta, a, b)
 *     y = norm(o) * f(part)             RMSNorm per head or none, output gate or none; or norm(o * f(part))
 *     out = y W_o^T
 * In a bidirectional model the recurrence also runs over each sequence back to front, with the same operands, and o is the
 * sum of both: a token reads itself in each of them, so that a text read backwards gives the outputs back to front.
 * State for decoding: [heads, dim, dim] floats, then the last inputs of the convolution, [conv - 1, mixed]. */
#ifndef HA_MIXERS_RECURRENT_H
#define HA_MIXERS_RECURRENT_H

#include "kernels/kernels.h"
#include "mixers/mixer.h"
#include "ops/ops.h"

enum { HA_MAX_PARTS = 4 };

/* A projection of x besides q, k, v, with `width` outputs: `name_proj.weight` [width, hidden]; of low rank when rank > 0:
 * `name_up.weight` [width, rank] after f of `name_down.weight` [rank, hidden]. bias: its name, or NULL. */
typedef enum { HA_PER_CHANNEL, HA_PER_HEAD, HA_PER_SLOT } ha_part_width;

typedef struct {
    const char *name, *bias;
    ha_part_width per;
    int rank;
    ha_act inner; /* f */
} ha_part;

/* One token, for the functions of a kind: logits of the parts with their biases, k as the frame made it; to fill: what the
 * kind's form and gate want of g, beta, a, b, and key when it writes something else than k. `gated` numbers are in key and,
 * by channel, in g: heads * dim, or heads * slots. */
typedef struct {
    int heads, dim, gated;
    const float *part[HA_MAX_PARTS], *k;
    float *key, *g, *beta, *a, *b;
} ha_token;

/* Gradients likewise: of key, g, beta, a and b from the recurrence; to fill: of the parts that are not the output gate, and
 * of k where the kind has a key. */
typedef struct {
    const float *key, *g, *beta, *a, *b;
    float *part[HA_MAX_PARTS], *k;
} ha_token_gradient;

typedef enum { HA_FORM_ADD, HA_FORM_DELTA, HA_FORM_ERASE } ha_form; /* nothing; beta; a and b: see ha_recurrence */
typedef enum {
    HA_OUTPUT_NORM_NONE,
    HA_OUTPUT_NORM_HEAD,
    HA_OUTPUT_NORM_WHOLE
} ha_output_norm; /* RMSNorm over a head's channels, or over all */

typedef struct {
    ha_form form;
    ha_gate gate;
    ha_part part[HA_MAX_PARTS]; /* ends at the first without a name */
    int has_output_gate;        /* the first part gates the output through f = output */
    ha_act output;
    ha_output_norm norm;
    int gate_first; /* the norm reads what the gate has let through; needs both */
    int unit, has_key;
    int unscaled; /* q is read as it is, not over the root of dim */
    int slots;    /* slots.h in the place of the recurrence, as many slots as HA_OPTION_SLOTS says */
    int own_heads; /* the options below give the heads a shape of their own */
    int decays;   /* A_log [heads] is a parameter, at HA_SLOT_KIND */
    /* Any of these may be NULL. init: biases and own parameters, which are 0 before it. */
    void (*init)(const ha_mixer *mixer, float *weights, ha_rng *rng);
    void (*gates)(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t);
    void (*gates_backward)(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t, const ha_token_gradient *d);
} ha_recurrent;

enum { HA_SLOT_UP = HA_SLOT_OWN, HA_SLOT_BIAS = HA_SLOT_UP + HA_MAX_PARTS, HA_SLOT_NORM = HA_SLOT_BIAS + HA_MAX_PARTS };
enum { HA_SLOT_KIND = HA_SLOT_NORM + 1, HA_SLOT_CONV };
_Static_assert((int)HA_SLOT_CONV < (int)HA_MAX_SLOTS, "ha_mixer has a place for every slot");

/* The first options of every such kind. */
enum { HA_OPTION_ROPE, HA_OPTION_SILU, HA_OPTION_CONV, HA_OPTION_BIAS, HA_OPTION_QK_NORM, HA_OPTION_SLOTS };
/* Those of kinds with heads of their own. */
enum { HA_OPTION_HEADS = HA_OPTION_SLOTS, HA_OPTION_KEY_HEADS, HA_OPTION_HEAD_DIM };
#define HA_RECURRENT_OPTIONS(rope, silu)                                                                \
    {"rope", rope, 0, 1, "rotate q and k"}, {"silu", silu, 0, 1, "silu on q, k and v"},                 \
        {"conv", 0, 0, HA_MAX_CONV, "taps of a causal convolution on q, k and v before silu, 0: none"}, \
        {"bias", 1, 0, 1, "biases on q, k, v and output where the teacher has them"},                   \
    {                                                                                                   \
        "qk_norm", 1, 0, 1, "norms on q and k where the teacher has them"                               \
    }

ha_status ha_recurrent_declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params);
void ha_recurrent_init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng);
size_t ha_recurrent_saved(const ha_mixer *mixer, const ha_batch *batch);
ha_state_shape ha_recurrent_state(const ha_mixer *mixer);
ha_status ha_recurrent_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                               float *saved, ha_state *state);
ha_status ha_recurrent_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                                const float *dout, float *dx, double *gate);
double ha_recurrent_flops(const ha_mixer *mixer, double context);

#define HA_RECURRENT(description)                                                                         \
    .declare = ha_recurrent_declare, .init_from_softmax = ha_recurrent_init, .saved = ha_recurrent_saved, \
    .state = ha_recurrent_state, .forward = ha_recurrent_forward, .backward = ha_recurrent_backward,      \
    .flops = ha_recurrent_flops, .masks = HA_BOTH_MASKS, .frame = &(description)

/* log sigmoid(x) times `power`, for n numbers; dx = its gradient from dg. */
void ha_sigmoid_decay(int n, float power, const float *x, float *g);
void ha_sigmoid_decay_backward(int n, float power, const float *x, const float *dg, float *dx);
/* Gates of the kinds that have these parts: beta = sigmoid(x), a number a head, and Mamba-2's decay g = -exp(A_log) softplus(x),
 * a number a head or a channel, as the frame's `gate` says. Start, per head: A uniform in [1, 16), biases of the decay with
 * softplus(bias) log-uniform in [.001, .1). */
enum { HA_PART_OUTPUT, HA_PART_BETA, HA_PART_DECAY };
float ha_softplus(float x);
/* of any kind with A_log; the bias is that of its only part with one */
void ha_decay_init(const ha_mixer *mixer, float *weights, ha_rng *rng);
void ha_decay_gates(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t);
void ha_decay_gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t, const ha_token_gradient *d);

/* --- between recurrent.c and recurrent_parts.c --- */

/* Columns of the joined projection: q, k [query each] and v [inner], then the parts, or their low-rank halves. */
typedef struct {
    const ha_recurrent *frame;
    int heads, dim, inner, width, n_parts, conv;
    int key_heads, query; /* as in the projection: operands have q and k for every head */
    int from[3], mixed;   /* columns of q, k and v, and of all three together */
    int directions;           /* 2: operands hold their rows a second time, back to front */
    int slots, gated, normed; /* slots of a head or 0; columns of key and of g by channel; channels of a norm */
    size_t state;             /* floats, before those of the convolution */
    int column[HA_MAX_PARTS], size[HA_MAX_PARTS]; /* of a part in the projection; its outputs */
} ha_layout;

/* What the recurrence reads [directions rows, inner] or [.., heads], what q, k and v are made of [rows, mixed], and the logits of
 * the parts. */
typedef struct {
    float *qkv;
    ptrdiff_t ldqkv;
    float *q, *k, *v, *key, *g, *beta, *a, *b;
    float *logits[HA_MAX_PARTS], *low[HA_MAX_PARTS];
    ptrdiff_t ld[HA_MAX_PARTS];
} ha_operands;

ha_layout ha_recurrent_layout(const ha_mixer *mixer);
/* Arrays for operands or their gradients; the logits of parts of full rank lie in `projected` [rows, width], and so does
 * qkv without a convolution. */
ha_status ha_operands_push(const ha_layout *l, int rows, float *projected, ha_arena *arena, ha_operands *to);
/* conv [n_seq]: the states of the convolution, or NULL */
ha_status ha_operands_make(const ha_mixer *mixer, const ha_pass *pass, const ha_layout *l, float *projected,
                           float *const *conv, ha_operands *to);
/* From the gradients of the operands and of the output gate's logits to dprojected and the kind's parameters. */
ha_status ha_operands_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_layout *l, const float *projected,
                               ha_operands *in, ha_operands *d, float *dprojected);

/* --- own_heads.c --- */

/* mixer->own from the options, where a kind has them; refuses what does not fit together. */
ha_status ha_own_heads(ha_mixer *mixer, int layer);
/* In the place of ha_transfer_projections. Channel i of v and of the output's columns is the softmax mixer's channel i of
 * all heads side by side, as grouped heads repeat it; a key head takes q and k where its first head stands. What there is
 * no such channel for starts at random. */
void ha_own_heads_transfer(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng);
/* A row of q or k: [key_heads, dim] at its beginning becomes [heads, dim]. */
void ha_own_heads_repeat(const ha_layout *l, float *row);
/* And back: y is that of each group's first head, the gradient the sum over the group. */
void ha_own_heads_fold(const ha_layout *l, float *y, float *dy);

/* --- recurrent_output.c --- */

/* y [rows, inner] from o [rows, inner] and the logits of the output gate */
ha_status ha_recurrent_output(const ha_mixer *mixer, const ha_pass *pass, const ha_layout *l, const float *o,
                              const ha_operands *in, float *y);
/* From dy to the gradients of o and of the gate's logits. */
ha_status ha_recurrent_output_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_layout *l, const float *o,
                                       const ha_operands *in, const float *dy, float *d_o, const ha_operands *d);

#endif
