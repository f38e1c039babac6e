/* Every operation of the model, as forward/backward pairs on float arrays. One file per operation beside this header.
 *
 * Shapes are in brackets; a matrix is row-major with `ld` floats from row to row where that is not its width. Gradients
 * d<x> are overwritten unless the comment says +=. Each op runs on ha_threads() threads, and its result does not depend on
 * how many: work is cut in pieces of fixed size and sums over pieces are taken in a fixed order. */
#ifndef HA_OPS_H
#define HA_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "core/activation.h"
#include "core/arena.h"
#include "core/batch.h"
#include "core/matrix.h"
#include "core/rows.h"
#include "core/status.h"

#define HA_MAX_HEAD_DIM 256

/* linear.c: y = beta y + alpha (x W^T + bias); x [rows,in], W [out,in] of any storage type (ha_f32(w) for a plain array;
 * `in` is a multiple of the type's block), bias [out] or NULL, y [rows,out]; beta 0 or 1 */
void ha_linear_forward(int rows, int in, int out, float alpha, const float *x, ptrdiff_t ldx, ha_matrix w,
                       const float *bias, float beta, float *y, ptrdiff_t ldy);
/* dx = beta dx + alpha dy W; dw += alpha dy^T x; dbias += alpha sum of dy over rows. Any of dx, dw, dbias may be NULL. */
void ha_linear_backward(int rows, int in, int out, float alpha, const float *x, ptrdiff_t ldx, ha_matrix w,
                        const float *dy, ptrdiff_t lddy, float beta, float *dx, ptrdiff_t lddx, float *dw,
                        float *dbias);
/* linear_stored.c: the products of the two above for n rows of W of another type than float32, for many rows of x or dy;
 * decoded tile by tile. */
void ha_stored_forward(int rows, int in, int n, float alpha, const float *x, ptrdiff_t ldx, const ha_matrix *w,
                       float beta, float *y, ptrdiff_t ldy);
void ha_stored_backward(int rows, int in, int n, float alpha, const float *dy, ptrdiff_t lddy, const ha_matrix *w,
                        float beta, float *dx, ptrdiff_t lddx);
/* round_matrix.c: w [rows,in], overwritten, as rows of a block type; u [in,in]: U of H^-1 = U^T U, upper triangular, where
 * H = X^T X of the rows X that w is going to be multiplied with */
void ha_round_matrix(int rows, int in, ha_dtype type, const float *u, float *w, void *out);

/* norm.c: RMSNorm over rows of width d (Zhang and Sennrich 2019); x, y [rows,d], w [d] */
void ha_rms_norm_forward(int rows, int d, const float *x, ptrdiff_t ldx, const float *w, float eps, float *y,
                         ptrdiff_t ldy);
/* dx += ...; dw += ... unless NULL */
ha_status ha_rms_norm_backward(int rows, int d, const float *x, ptrdiff_t ldx, const float *w, float eps,
                               const float *dy, ptrdiff_t lddy, float *dx, ptrdiff_t lddx, float *dw, ha_arena *work);

/* The same for each head of x, y [rows, heads, dim], under one w [dim] (qk-norm: Henry et al. 2020) */
void ha_head_norm_forward(int rows, int heads, int dim, const float *x, ptrdiff_t ldx, const float *w, float eps,
                          float *y, ptrdiff_t ldy);
ha_status ha_head_norm_backward(int rows, int heads, int dim, const float *x, ptrdiff_t ldx, const float *w, float eps,
                                const float *dy, ptrdiff_t lddy, float *dx, ptrdiff_t lddx, float *dw, ha_arena *work);
/* LayerNorm (Ba et al. 2016); x, y [rows,d], w, b [d] */
void ha_layer_norm_forward(int rows, int d, const float *x, ptrdiff_t ldx, const float *w, const float *b, float eps,
                           float *y, ptrdiff_t ldy);
/* dx += ...; dw, db += ..., both or neither NULL */
ha_status ha_layer_norm_backward(int rows, int d, const float *x, ptrdiff_t ldx, const float *w, float eps,
                                 const float *dy, ptrdiff_t lddy, float *dx, ptrdiff_t lddx, float *dw, float *db,
                                 ha_arena *work);

/* rope.c: angles position * inv_freq [half], both tables times `factor`; cos, sin [rows,half] */
void ha_rope_table(int rows, int half, const int32_t *position, const float *inv_freq, float factor, float *cos,
                   float *sin);
/* Rotates the first 2 half channels of each head of x [rows, heads, dim] in place; sign -1 is the backward pass: factor^2
 * times the inverse. */
void ha_rope(int rows, int heads, int dim, int half, const float *cos, const float *sin, float sign, float *x,
             ptrdiff_t ldx);

/* swiglu.c: y = silu(gate) * up; gate_up [rows, 2f] = [gate, up], y [rows,f] */
void ha_swiglu_forward(int rows, int f, const float *gate_up, float *y);
/* gate_up becomes its own gradient; y [rows,f], unless NULL, is made again for the weight gradient that follows */
void ha_swiglu_backward(int rows, int f, float *gate_up, const float *dy, float *y);

/* activation.c: y = f(x) for n numbers */
void ha_act_forward(ha_act f, size_t n, const float *x, float *y);
/* x becomes its own gradient; y, unless NULL, is made again for the weight gradient that follows */
void ha_act_backward(ha_act f, size_t n, float *x, const float *dy, float *y);

/* embed.c: x[r] = table[token[r]]; table [vocabulary, d] */
void ha_embed_forward(int rows, int d, const int32_t *token, ha_matrix table, float *x);
/* x[r] += table[index[r]]; table [., d] */
void ha_embed_add(int rows, int d, const int32_t *index, const float *table, float *x);
void ha_embed_backward(int rows, int d, const int32_t *token, const float *dx, float *dtable /* += */);

/* Softmax attention of grouped heads: query i of a sequence sees key j when j <= past + i (causal), and, with a window,
 * when also past + i - j < window or j < sinks. Query head h reads key head h / (heads / kv_heads). */
typedef struct {
    int heads, kv_heads, dim;
    int causal, window, sinks;
    float scale;
} ha_attention;

/* Keys and values of one sequence, HA_F32 or HA_F16: element (position, head, channel) at
 * position*row + head*head_stride + channel. */
typedef struct {
    const void *k, *v;
    ptrdiff_t row, head_stride;
    int length, past;
    ha_dtype type;
} ha_keys;

/* Where results go: values [rows, heads, dim]; log_sum [rows, heads] = log sum exp and largest [rows, heads] = the largest
 * logit, each unless NULL. */
typedef struct {
    ha_rows_out values;
    float *log_sum, *largest;
} ha_attention_out;

/* What the backward pass reads: queries [rows, heads, dim]; keys and values [., kv_heads, dim], of one stride, those of
 * sequence s in rows key_offset[s] .. key_offset[s + 1] (batch->offset where every token brings its own); log_sum and
 * largest [rows, heads] as they came out. `largest` is looked at where its gradient is given. */
typedef struct {
    ha_rows queries, keys, values;
    const int32_t *key_offset;
    const float *log_sum, *largest;
} ha_attention_saved;

/* dvalues [rows, heads, dim] of what came out; delta [rows, heads] = <dvalues, values> - dlog_sum; dlargest [rows, heads], a
 * gradient to the largest logit, or NULL */
typedef struct {
    ha_rows dvalues;
    const float *delta, *dlargest;
} ha_attention_upstream;

/* Gradients of queries, keys and values, shaped as they are. */
typedef struct {
    ha_rows_out queries, keys, values;
} ha_attention_gradient;

/* attention.c: tiled online softmax; queries [rows, heads, dim], keys [n_seq]. Memory: the keys once more, transposed. */
ha_status ha_attention_forward(const ha_attention *a, const ha_batch *batch, ha_rows queries, const ha_keys *keys,
                               const ha_attention_out *out, ha_arena *work);
/* attention_decode.c: the same for one query row a sequence; streams the keys once */
ha_status ha_attention_decode(const ha_attention *a, const ha_batch *batch, ha_rows queries, const ha_keys *keys,
                              const ha_attention_out *out, ha_arena *work);
/* attention_backward.c: no past */
ha_status ha_attention_backward(const ha_attention *a, const ha_batch *batch, const ha_attention_saved *saved,
                                const ha_attention_upstream *upstream, const ha_attention_gradient *gradient,
                                ha_arena *work);

/* The linear recurrence that every mixer with a state of fixed size runs on: per head, S [dk,dv], w = exp(g),
 *     u_t = S_{t-1}^T b_t,   S_t = diag(w_t) S_{t-1} + a_t u_t^T + k_t v_t^T,   o_t = S_t^T q_t.
 * Without a and b nothing is erased (retention, GLA, RWKV-6, linear attention); with beta instead of them it is the delta
 * rule (DeltaNet, Gated DeltaNet, KDA): b = w k and k_t (beta_t (v_t - u_t))^T in the place of both outer products.
 * With a gate of the values' channels w decays the columns of S instead, and nothing is erased: S_{t-1} diag(w_t) + k_t v_t^T. */
typedef enum { HA_GATE_NONE, HA_GATE_HEAD, HA_GATE_CHANNEL, HA_GATE_VALUE } ha_gate;

typedef struct {
    int heads, key_dim, value_dim;
    ha_gate gate;
} ha_recurrence;

/* q, k [rows, heads, dk] and v [rows, heads, dv]; g <= 0, by the gate [rows, heads], [rows, heads, dk], [rows, heads, dv] or
 * NULL; beta [rows, heads]; a and b [rows, heads, dk]. beta or a and b or all three are NULL. What is [., dk] has
 * key_stride floats from row to row, v has value_stride; the gates lie without gaps. */
typedef struct {
    const float *queries, *keys, *values, *log_decay, *beta, *erase_write, *erase_read;
    ptrdiff_t key_stride, value_stride;
} ha_recurrence_in;

/* Gradients of the same, all overwritten; those of NULL operands are not looked at. */
typedef struct {
    float *queries, *keys, *values, *log_decay, *beta, *erase_write, *erase_read;
    ptrdiff_t key_stride, value_stride;
} ha_recurrence_out;

enum { HA_CHUNK = 64 }; /* tokens from one saved state to the next */

/* Floats of saved states: chunks of all sequences times [heads, dv, dk]. */
size_t ha_recurrence_states(const ha_recurrence *r, const ha_batch *batch);

/* What forward keeps for backward: u [rows, heads, dv], what was read before each write, where something is erased; states as
 * sized above. */
typedef struct {
    float *reads, *states;
} ha_recurrence_saved;

/* recurrence.c: state_in, state_out [n_seq] pointers to [heads, dk, dv], each may be NULL (zero / not wanted); out [rows,
 * heads, dv]. saved, and each of its members, may be NULL. */
ha_status ha_recurrence_forward(const ha_recurrence *r, const ha_batch *batch, const ha_recurrence_in *in,
                                float *const *state_in, float *const *state_out, ha_rows_out out,
                                const ha_recurrence_saved *saved, ha_arena *work);
/* recurrence_backward.c: dout [rows, heads, dv]; state_gradient [n_seq]: of state_out on entry, of state_in on return; or
 * NULL. */
ha_status ha_recurrence_backward(const ha_recurrence *r, const ha_batch *batch, const ha_recurrence_in *in,
                                 const ha_recurrence_saved *saved, ha_rows dout, float *const *state_gradient,
                                 const ha_recurrence_out *gradient, ha_arena *work);

/* Linear attention with its normaliser kept apart: per head, over the keys a query may see,
 *     num_i = sum_j (phi(q_i) . phi(k_j)) v_j,   den_i = sum_j phi(q_i) . phi(k_j).
 * Query i sees key j <= i - lag: with lag = window the recent keys are left to a softmax. Bidirectional: also keys
 * j >= i + lag, so without a lag all of its sequence; then there are no states in and out. */
typedef struct {
    int heads, kv_heads, features, dim, lag, bidirectional;
} ha_linear_attention;

/* What it reads: phi(q) [rows, heads, features], and of each sequence [n_seq], from its first key on, phi(k) [., kv_heads,
 * features] and v [., kv_heads, dim]. Key row r first meets query row r + lag; unless bidirectional, the last `lag` rows
 * are not read. */
typedef struct {
    ha_rows queries;
    const ha_rows *keys, *values;
} ha_linear_attention_in;

/* num [rows, heads, dim] and den [rows, heads] */
typedef struct {
    ha_rows_out numerator;
    float *denominator;
} ha_linear_attention_out;

/* Their gradients */
typedef struct {
    ha_rows numerator;
    const float *denominator;
} ha_linear_attention_upstream;

/* Gradients of what was read, where all keys are the batch's rows; rows that no query sees get zero. */
typedef struct {
    ha_rows_out queries, keys, values;
} ha_linear_attention_gradient;

/* Floats of the prefix sums that forward saves for backward. */
size_t ha_linear_attention_states(const ha_linear_attention *a, const ha_batch *batch);
/* linear_attention.c: state [n_seq] pointers to [kv_heads, features, dim + 1], updated, or NULL; saved: as sized above, or
 * NULL */
ha_status ha_linear_attention_forward(const ha_linear_attention *a, const ha_batch *batch,
                                      const ha_linear_attention_in *in, float *const *state,
                                      const ha_linear_attention_out *out, float *saved, ha_arena *work);
ha_status ha_linear_attention_backward(const ha_linear_attention *a, const ha_batch *batch,
                                       const ha_linear_attention_in *in, const float *saved,
                                       const ha_linear_attention_upstream *upstream,
                                       const ha_linear_attention_gradient *gradient, ha_arena *work);

/* feature.c: feature maps of linear attention, head by head; x [rows, heads, dim], y [rows, heads, width]
 *     ELU       elu(x) + 1                                         width dim    Katharopoulos et al. 2020
 *     RELU      max(x, 0)                                          width dim
 *     HEDGEHOG  softmax([W x, -W x])                               width 2 dim  Zhang et al. 2024
 *     FAVOR     exp([W x, -W x] - |x|^2 / (2 sqrt(dim)))           width 2 dim  Choromanski et al. 2021, lemma 1
 * with w [heads, dim, dim] for the last two, else NULL. Exponents of FAVOR end at 30. */
typedef enum { HA_FEATURE_ELU, HA_FEATURE_RELU, HA_FEATURE_HEDGEHOG, HA_FEATURE_FAVOR } ha_feature;

static inline int ha_feature_has_weight(ha_feature map)
{
    return map >= HA_FEATURE_HEDGEHOG;
}

int ha_feature_width(ha_feature map, int dim);
ha_status ha_feature_forward(ha_feature map, int rows, int heads, int dim, const float *x, ptrdiff_t ldx,
                             const float *w, float *y, ptrdiff_t ldy, ha_arena *work);
/* dx += ...; dw += ... unless NULL */
ha_status ha_feature_backward(ha_feature map, int rows, int heads, int dim, const float *x, ptrdiff_t ldx,
                              const float *w, const float *y, ptrdiff_t ldy, const float *dy, ptrdiff_t lddy, float *dx,
                              ptrdiff_t lddx, float *dw, ha_arena *work);

/* short_conv.c: y_t = sum_j w[:,j] x_{t-width+1+j}, channel by channel within a sequence; x, y [rows,d], apart,
 * w [d,width], 1 <= width <= HA_MAX_CONV. state [n_seq] pointers to the last inputs [width-1,d], updated; NULL: zeros. */
enum { HA_MAX_CONV = 16 };
void ha_short_conv_forward(const ha_batch *batch, int d, int width, const float *x, ptrdiff_t ldx, const float *w,
                           float *const *state, float *y, ptrdiff_t ldy);
/* dx += ...; dw += ... unless NULL; sequences start from zeros */
void ha_short_conv_backward(const ha_batch *batch, int d, int width, const float *x, ptrdiff_t ldx, const float *w,
                            const float *dy, ptrdiff_t lddy, float *dx, ptrdiff_t lddx, float *dw);

/* pool.c: projection along the sequence, y_s = sum_j w[s,j] x_j; x [rows,d], w [slots,length], y [slots of all
 * sequences,d]. A sequence of `rows` <= length rows fills ha_pool_slots of the slots, 1 <= slots <= length. */
typedef struct {
    int slots, length;
} ha_pool;

int ha_pool_slots(const ha_pool *p, int rows);
/* offset [n_seq + 1] of the slots of each sequence */
void ha_pool_offsets(const ha_pool *p, const ha_batch *batch, int32_t *offset);
ha_status ha_pool_forward(const ha_pool *p, const ha_batch *batch, int d, const float *x, ptrdiff_t ldx, const float *w,
                          float *y, ha_arena *work);
/* dx = ...; dw += ... unless NULL */
ha_status ha_pool_backward(const ha_pool *p, const ha_batch *batch, int d, const float *x, ptrdiff_t ldx,
                           const float *w, const float *dy, float *dx, ptrdiff_t lddx, float *dw, ha_arena *work);
/* w [slots,length] = the mean over the stretch of each slot */
void ha_pool_start(const ha_pool *p, float *w);

/* head_loss.c: LM head and loss fused over pieces of rows, so that logits of a batch never exist at once.
 * weight [vocabulary,d] of any storage type, float32 where its gradient is wanted; bias [vocabulary] or NULL. */
typedef struct {
    ha_matrix weight;
    const float *bias;
} ha_head;

typedef struct {
    float *weight, *bias; /* each may be NULL */
} ha_head_gradient;

/* hidden [rows,d]. loss [rows] gets one value a row. Unless dhidden is NULL: dhidden = and dhead += the gradient of scale *
 * sum of the losses. */
ha_status ha_head_cross_entropy(int rows, int d, int vocabulary, const float *hidden, ha_head head,
                                const int32_t *target /* -1: loss 0 */, float scale, double *loss, float *dhidden,
                                ha_head_gradient dhead, const ha_interrupt *check, ha_arena *work);
/* KL(teacher || student) for `students` hidden arrays [rows,d] at once against one teacher; loss [students][rows];
 * gradients only for a single student. nll [rows], unless NULL: the last student's -log p(target), 0 for target -1.
 * weight [rows] or NULL (1): factors of the rows' losses in the sum that is differentiated; a row of weight 0 has loss and
 * nll 0. */
ha_status ha_head_kl(int rows, int d, int vocabulary, const float *teacher_hidden, ha_head teacher_head, int students,
                     const float *const *hidden, ha_head head, float scale, double *const *loss, const int32_t *target,
                     double *nll, const float *weight, float *dhidden, ha_head_gradient dhead,
                     const ha_interrupt *check, ha_arena *work);

/* row_error.c: RADLADS step 1 (arXiv 2505.03005): loss[r] = |y_r - target_r| / sqrt(d); dy of scale * sum, unless NULL */
void ha_align_loss(int rows, int d, const float *target, const float *y, float scale, double *loss, float *dy);
/* loss[r] = |y_r - target_r|^2 / d; dy of scale * sum, unless NULL; dy may be y */
void ha_squared_error(int rows, int d, const float *target, const float *y, float scale, double *loss, float *dy);
/* loss[r] = |y_r - target_r|^2 / |target_r|^2; dy of scale * sum of weight[r] loss[r] (weight NULL: 1), unless NULL */
void ha_relative_error(int rows, int d, const float *target, const float *y, const float *weight, float scale,
                       double *loss, float *dy);

/* pool_sequences.c: y [n_seq,d] = the first or last row of each sequence of x [rows,d], or the mean of its rows */
typedef enum { HA_POOL_FIRST, HA_POOL_LAST, HA_POOL_MEAN } ha_pool_kind;

void ha_pool_sequences(ha_pool_kind pool, const ha_batch *batch, int d, const float *x, float *y);
/* dx [rows,d]; rows that are not read get 0 */
void ha_pool_sequences_backward(ha_pool_kind pool, const ha_batch *batch, int d, const float *dy, float *dx);

/* task_loss.c: losses on logits that are at hand. x holds n softmaxes one after the other, number i its entries
 * offset[i] .. offset[i + 1]; loss [n]. x becomes the gradient of scale * sum of the losses; it is used up when scale is 0. */
void ha_pieces_cross_entropy(int n, const int32_t *offset, float *x, const int32_t *target /* [n], within its piece */,
                             float scale, double *loss);
/* KL(softmax(teacher) || softmax(x)); teacher like x, used up */
void ha_pieces_kl(int n, const int32_t *offset, float *teacher, float *x, float scale, double *loss);

/* optimizer.c: pieces of the parameter arena that one AdamW pass visits */
typedef struct {
    size_t offset, count;
    float lr, decay;
} ha_segment;

ha_status ha_sum_squares(int n, const ha_segment *segment, const float *x, double *out, ha_arena *work);
/* One step; gradients are scaled by `clip` and zeroed; `step` counts from 1. m and v lie like the parameters. */
ha_status ha_adamw(int n, const ha_segment *segment, float *p, float *g, float *m, float *v, float clip, float beta1,
                   float beta2, float eps, int64_t step, ha_arena *work);

/* mirror.c: `both`, its offsets on the arena, holds the sequences of a batch twice, the second time back to front; it has no
 * tokens and positions. */
ha_status ha_mirror_batch(const ha_batch *batch, ha_arena *arena, ha_batch *both);
/* y [2 rows, width]: x [rows, width], which may be y itself, and behind it its rows back to front */
void ha_mirror(int rows, int width, const float *x, ptrdiff_t ldx, float *y);
/* y [rows, width] = the rows of x [2 rows, width] plus their images; y may be x */
void ha_fold(int rows, int width, const float *x, float *y, ptrdiff_t ldy);

/* sums.c: out[s] = sum over the rows of sequence s of <x, y>; x, y [rows,d] */
void ha_dot_per_sequence(const ha_batch *batch, int d, const float *x, ptrdiff_t ldx, const float *y, ptrdiff_t ldy,
                         double *out);
/* delta[r,h] = <dout, out> of head h */
void ha_dot_per_head(int rows, int heads, int dim, const float *x, ptrdiff_t ldx, const float *y, ptrdiff_t ldy,
                     float *delta);

#endif
