/* The naive twin of every operation, in double: one loop nest a formula, no blocking, no threads,
 * no memory of its own.
 *
 * Arrays are row-major and without gaps, in the shapes of ops/ops.h. Sequence s of a batch is rows
 * offset[s] .. offset[s + 1] - 1. Reached from tests only, through python/ops_*.c. */
#ifndef HA_REF_REF_H
#define HA_REF_REF_H

#include <stddef.h>
#include <stdint.h>

#include "core/activation.h"
#include "core/arena.h"
#include "core/batch.h"
#include "core/dtype.h"
#include "core/status.h"

/* ref_rows.c */
double ref_dot(int n, const double *x, const double *y);
/* 1 / (1 + e^-x) */
double ref_sigmoid(double x);
/* ref_stored.c: n numbers, whole blocks, as they come back from that storage type */
void ref_stored(ha_dtype type, size_t n, const double *x, double *y);
/* y [rows, out] = x [rows, in] w^T + bias; w [out, in], bias [out] or NULL */
void ref_linear(int rows, int in, int out, const double *x, const double *w, const double *bias, double *y);
/* y = x w / rms(x), row by row; x, y [rows, d], w [d] */
void ref_rms_norm(int rows, int d, const double *x, const double *w, double eps, double *y);
/* y = (x - mean) w / deviation + b, row by row; x, y [rows, d], w, b [d] */
void ref_layer_norm(int rows, int d, const double *x, const double *w, const double *b, double eps, double *y);
/* y = f(x), n numbers */
void ref_activation(ha_act kind, size_t n, const double *x, double *y);
/* Angles position [rows] * inv_freq [half]; what is turned is multiplied with `factor`. */
typedef struct {
    const int32_t *position;
    const double *inv_freq;
    int half;
    double factor;
} ref_rotation;

/* The first 2 half channels of each head of x, y [rows, heads, dim]; the others are copied. */
void ref_rope(const ref_rotation *rotation, int rows, int heads, int dim, const double *x, double *y);
/* y [rows, f] = silu(gate) up; gate_up [rows, 2 f] */
void ref_swiglu(int rows, int f, const double *gate_up, double *y);
/* x [rows, d]: row token[r] of table [., d] */
void ref_embed(int rows, int d, const int32_t *token, const double *table, double *x);
/* map: 0 elu + 1, 1 relu, 2 Hedgehog, 3 FAVOR; w [heads, dim, dim] for the last two, else NULL; y
 * [rows, heads, dim or 2 dim] */
void ref_feature(int map, int rows, int heads, int dim, const double *x, const double *w, double *y);

/* state [n_seq, width - 1, d] or NULL (zeros), updated */
void ref_short_conv(const ha_batch *batch, int d, int width, const double *x, const double *w, double *state,
                    double *y);

/* y [slots of all sequences, d]; w [slots, length] */
void ref_pool(const ha_batch *batch, int d, int slots, int length, const double *x, const double *w, double *y);

/* ref_attention.c; keys of sequence s are rows key_offset[s] .. of k and v, its queries belong to
 * the last of them */
typedef struct {
    int heads, kv_heads, dim, causal, window, sinks;
    double scale;
} ref_attention;

/* queries [rows, heads, dim], keys and values [key rows, kv_heads, dim] */
typedef struct {
    const double *queries, *keys, *values;
} ref_attention_in;

/* values [rows, heads, dim]; log_sum and largest of the logits [rows, heads], or NULL */
typedef struct {
    double *values, *log_sum, *largest;
} ref_attention_out;

/* Whether query and key, positions of one sequence, see each other. */
int ref_visible(const ref_attention *a, int query, int key);
/* key_offset [n_seq + 1] */
void ref_softmax_attention(const ref_attention *a, const ha_batch *batch, const int32_t *key_offset,
                           const ref_attention_in *in, const ref_attention_out *out);

/* ref_recurrence.c; states [n_seq, ...] are updated */
typedef struct {
    int heads, key_dim, value_dim;
    int channels; /* log_decay [rows, heads, key_dim], else [rows, heads] */
    int reverse;  /* from the last token of a sequence to its first */
    int group;    /* heads of queries for each */
} ref_recurrence_shape;

/* As ha_recurrence_in; value_decay [rows, heads, value_dim]. What may be NULL: log_decay, beta,
 * erase_write with erase_read, value_decay. */
typedef struct {
    const double *queries, *keys, *values, *log_decay, *beta, *erase_write, *erase_read, *value_decay;
} ref_recurrence_in;

/* state [n_seq, heads, key_dim, value_dim]; out [rows, heads * group, value_dim] */
void ref_recurrence(const ref_recurrence_shape *r, const ha_batch *batch, const ref_recurrence_in *in, double *state,
                    double *out);

typedef struct {
    int heads, kv_heads, features, dim, lag, bidirectional;
} ref_linear_shape;

/* Features in the place of queries and keys, [rows, heads or kv_heads, features]; state [n_seq,
 * kv_heads, features * dim + features] or NULL; numerator [rows, heads, dim], denominator [rows,
 * heads] */
void ref_linear_attention(const ref_linear_shape *a, const ha_batch *batch, const ref_attention_in *in, double *state,
                          double *numerator, double *denominator);

/* ref_losses.c; loss [rows] of hidden [rows, width] */
typedef struct {
    int width, vocabulary;
    const double *weight, *bias; /* [vocabulary, width]; [vocabulary] or NULL */
} ref_head;

/* -log p(target [rows]); 0 where it is -1 */
void ref_cross_entropy(const ref_head *head, int rows, const double *hidden, const int32_t *target, double *loss);
/* KL(teacher || student) of the distributions over the vocabulary */
void ref_kl(const ref_head *teacher, const double *teacher_hidden, const ref_head *student, const double *hidden,
            int rows, double *loss);
/* loss [rows] = |y - target| / sqrt(d); target, y [rows, d] */
void ref_align_loss(int rows, int d, const double *target, const double *y, double *loss);
typedef struct {
    double lr, beta1, beta2, eps, decay, clip;
    int64_t step;
} ref_adamw_options;

/* One step on n numbers; g is cleared. */
void ref_adamw(size_t n, const ref_adamw_options *o, double *p, double *g, double *m, double *v);
/* The same with moments in bfloat16, rounded by chance; the first is number `at` of the arena, and key
 * (32 random bits) is the step's. */
void ref_adamw_rounded(size_t n, const ref_adamw_options *o, uint32_t key, size_t at, double *p, double *g, uint16_t *m,
                       uint16_t *v);

/* ref_task.c; the softmaxes of the batch's sequences are over numbers [rows]; loss [n_seq], or
 * [rows] of the errors */
void ref_pool_sequences(int pool, const ha_batch *batch, int d, const double *x, double *y);
/* -log softmax(x)[target [n_seq]] over each sequence */
void ref_softmax_cross_entropy(const ha_batch *batch, const double *x, const int32_t *target, double *loss);
/* KL(softmax(teacher) || softmax(x)) over each sequence */
void ref_softmax_kl(const ha_batch *batch, const double *teacher, const double *x, double *loss);
/* loss [rows] = |y - target|^2 / d; target, y [rows, d] */
void ref_squared_error(int rows, int d, const double *target, const double *y, double *loss);
/* loss [rows] = |y - target|^2 / |target|^2; target, y [rows, d] */
void ref_relative_error(int rows, int d, const double *target, const double *y, double *loss);

/* ref_mixers.c: a linear mixer between its input projections and its output projection; y [rows,
 * heads, dim] */
typedef struct {
    int heads, kv_heads, dim, silu, bidirectional;
    const double *inv_freq; /* [dim / 2], or NULL: no rotation */
    double rope_factor;
    double norm_eps;
} ref_gated_delta_mixer;

/* What its projections give: queries, gate [rows, heads, dim], keys, values [rows, kv_heads, dim]
 * and b, a [rows, kv_heads]; and its parameters a_log, dt_bias [kv_heads] and norm [dim]. gate may
 * be NULL. */
typedef struct {
    ref_attention_in projected;
    const double *gate, *b, *a, *a_log, *dt_bias, *norm;
} ref_gated_delta_in;

/* y [rows, heads, dim] */
ha_status ref_mix_gated_delta(const ref_gated_delta_mixer *m, const ha_batch *batch, const ref_gated_delta_in *in,
                              double *y, ha_arena *work);

typedef struct {
    int heads, dim, slots;
} ref_slot_shape;

/* Gated slot attention without norm and activation: queries, keys, values, out [rows, heads, dim],
 * gates <= 0 [rows, heads, slots] */
ha_status ref_slot_attention(const ref_slot_shape *shape, const ha_batch *batch, const ref_attention_in *in,
                             const double *gates, double *out, ha_arena *work);

/* The two feature maps of a mixer, by their number in ref_feature; weights [heads or kv_heads, dim,
 * dim], NULL where the map has none */
typedef struct {
    int map, heads, kv_heads, dim;
    const double *query_weight, *key_weight;
} ref_feature_maps;

typedef struct {
    ref_feature_maps features;
    int window, sinks, rope_features, bidirectional;
    const double *gate;     /* [heads] */
    const double *inv_freq; /* [dim / 2] */
    double rope_factor;
} ref_window_mixer;

/* in: queries [rows, heads, dim]; keys, values [rows, kv_heads, dim] */
ha_status ref_mix_window_linear(const ref_window_mixer *m, const ha_batch *batch, const ref_attention_in *in, double *y,
                                ha_arena *work);

typedef struct {
    ref_feature_maps features;
    int rope, bidirectional;
    const double *norm; /* [dim], or NULL: divided by the sum of the weights */
    double norm_eps, rope_factor;
    const double *inv_freq; /* [dim / 2] */
} ref_linear_mixer;

/* in: as above */
ha_status ref_mix_linear(const ref_linear_mixer *m, const ha_batch *batch, const ref_attention_in *in, double *y,
                         ha_arena *work);

/* ref_regression.c: see ha_least_squares; x [rows, in], y [rows, out], start [out, in]; system:
 * scratch [in, in + 1] */
typedef struct {
    int rows, in, out;
    const double *x, *y, *start;
    double damping, *system;
} ref_regression;

/* weight [out, in] */
void ref_least_squares(const ref_regression *g, double *weight);

#endif
