/* The naive twin of every operation, in double: one loop nest a formula, no blocking, no threads, no memory of its own.
 *
 * Arrays are row-major and without gaps, in the shapes of ops/ops.h. Sequence s of a batch is rows offset[s] ..
 * offset[s + 1] - 1. Reached from tests only, through python/ops_*.c. */
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
double ref_sigmoid(double x);
/* ref_stored.c: n numbers, whole blocks, as they come back from that storage type */
void ref_stored(ha_dtype type, size_t n, const double *x, double *y);
void ref_linear(int rows, int in, int out, const double *x, const double *w, const double *bias, double *y);
void ref_rms_norm(int rows, int d, const double *x, const double *w, double eps, double *y);
void ref_layer_norm(int rows, int d, const double *x, const double *w, const double *b, double eps, double *y);
void ref_activation(ha_act kind, size_t n, const double *x, double *y);
void ref_rope(int rows, int heads, int dim, int half, const int32_t *position, const double *inv_freq, double factor,
              const double *x, double *y);
void ref_swiglu(int rows, int f, const double *gate_up, double *y);
void ref_embed(int rows, int d, const int32_t *token, const double *table, double *x);
/* map: 0 elu + 1, 1 relu, 2 Hedgehog, 3 FAVOR; w [heads, dim, dim] for the last two, else NULL; y [rows, heads, dim or
 * 2 dim] */
void ref_feature(int map, int rows, int heads, int dim, const double *x, const double *w, double *y);

/* state [n_seq, width - 1, d] or NULL (zeros), updated */
void ref_short_conv(const ha_batch *batch, int d, int width, const double *x, const double *w, double *state,
                    double *y);

/* y [slots of all sequences, d]; w [slots, length] */
void ref_pool(const ha_batch *batch, int d, int slots, int length, const double *x, const double *w, double *y);

/* ref_attention.c; keys of sequence s are rows key_offset[s] .. of k and v, its queries belong to the last of them */
typedef struct {
    int heads, kv_heads, dim, causal, window, sinks;
    double scale;
} ref_attention;

int ref_visible(const ref_attention *a, int query, int key);
void ref_softmax_attention(const ref_attention *a, const ha_batch *batch, const int32_t *key_offset, const double *q,
                           const double *k, const double *v, double *out, double *lse, double *max);

/* ref_recurrence.c; states [n_seq, ...] are updated */
typedef struct {
    int heads, dk, dv, channels; /* channels: g [rows, heads, dk], else [rows, heads] */
    int reverse;                 /* from the last token of a sequence to its first */
} ref_shape;

typedef struct {
    const double *q, *k, *v, *g, *beta, *a, *b, *gv; /* g, beta, a with b, gv [rows, heads, dv]: or NULL */
} ref_operands;

void ref_recurrence(const ref_shape *r, const ha_batch *batch, const ref_operands *in, double *state, double *out);

typedef struct {
    int heads, kv_heads, features, dim, lag, bidirectional;
} ref_linear_shape;

/* state: [n_seq, kv_heads, features * dim + features] or NULL */
void ref_linear_attention(const ref_linear_shape *a, const ha_batch *batch, const double *f, const double *e,
                          const double *v, double *state, double *num, double *den);

/* ref_losses.c; biases [vocabulary] or NULL, loss [rows] */
void ref_cross_entropy(int rows, int d, int vocabulary, const double *hidden, const double *head, const double *bias,
                       const int32_t *target, double *loss);
void ref_kl(int rows, int d, int vocabulary, const double *teacher_hidden, const double *teacher_head,
            const double *teacher_bias, const double *hidden, const double *head, const double *bias, double *loss);
void ref_align_loss(int rows, int d, const double *target, const double *y, double *loss);
typedef struct {
    double lr, beta1, beta2, eps, decay, clip;
    int64_t step;
} ref_adamw_options;

void ref_adamw(size_t n, const ref_adamw_options *o, double *p, double *g, double *m, double *v);

/* ref_task.c; the softmaxes of the batch's sequences are over numbers [rows]; loss [n_seq], or [rows] of the errors */
void ref_pool_sequences(int pool, const ha_batch *batch, int d, const double *x, double *y);
void ref_softmax_cross_entropy(const ha_batch *batch, const double *x, const int32_t *target, double *loss);
void ref_softmax_kl(const ha_batch *batch, const double *teacher, const double *x, double *loss);
void ref_squared_error(int rows, int d, const double *target, const double *y, double *loss);
void ref_relative_error(int rows, int d, const double *target, const double *y, double *loss);

/* ref_mixers.c: a linear mixer between its input projections and its output projection; y [rows, heads, dim] */
typedef struct {
    int heads, dim, silu, bidirectional;
    const double *inv_freq; /* [dim / 2], or NULL: no rotation */
    double rope_factor;
    double norm_eps;
} ref_gated_delta_mixer;

/* q, k, v, gate [rows, heads, dim]; b, a [rows, heads]; a_log, dt_bias [heads]; norm [dim] */
ha_status ref_mix_gated_delta(const ref_gated_delta_mixer *m, const ha_batch *batch, const double *q, const double *k,
                              const double *v, const double *gate, const double *b, const double *a,
                              const double *a_log, const double *dt_bias, const double *norm, double *y,
                              ha_arena *work);

/* Gated slot attention without norm and activation: q, k, v, out [rows, heads, dim], g <= 0 [rows, heads, slots] */
ha_status ref_slot_attention(int heads, int dim, int slots, const ha_batch *batch, const double *q, const double *k,
                             const double *v, const double *g, double *out, ha_arena *work);

typedef struct {
    int heads, kv_heads, dim, window, sinks, rope_features, map, bidirectional;
    const double *inv_freq; /* [dim / 2] */
    double rope_factor;
} ref_window_mixer;

/* q [rows, heads, dim]; k, v [rows, kv_heads, dim]; feature_q, feature_k [heads or kv_heads, dim, dim] or NULL by `map`, see
 * ref_feature; gate [heads] */
ha_status ref_mix_window_linear(const ref_window_mixer *m, const ha_batch *batch, const double *q, const double *k,
                                const double *v, const double *feature_q, const double *feature_k, const double *gate,
                                double *y, ha_arena *work);

typedef struct {
    int heads, kv_heads, dim, map, rope, bidirectional;
    double norm_eps, rope_factor;
    const double *inv_freq; /* [dim / 2] */
} ref_linear_mixer;

/* As above; norm [dim] or NULL: divided by the sum of the weights */
ha_status ref_mix_linear(const ref_linear_mixer *m, const ha_batch *batch, const double *q, const double *k,
                         const double *v, const double *feature_q, const double *feature_k, const double *norm,
                         double *y, ha_arena *work);

#endif
