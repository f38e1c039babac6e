/* Every operation of the model, as forward/backward pairs on float arrays. One file per operation
 * beside this header; three have a header of their own, ops_*.h, which this one includes.
 *
 * Shapes are in brackets; a matrix is row-major with `ld` floats from row to row where that is not
 * its width. Gradients d<x> are overwritten unless the comment says +=. Each op runs on
 * ha_threads() threads, and its result does not depend on how many: work is cut in pieces of fixed
 * size and sums over pieces are taken in a fixed order. */
#ifndef HA_OPS_H
#define HA_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "core/activation.h"
#include "core/arena.h"
#include "core/batch.h"
#include "core/matmul.h"
#include "core/matrix.h"
#include "core/rows.h"
#include "core/status.h"
#include "ops/ops_attention.h"
#include "ops/ops_linear_attention.h"
#include "ops/ops_recurrence.h"

#define HA_MAX_HEAD_DIM 256

/* linear.c: scale (x W^T + bias); W [out, in] of any storage type (ha_f32(w) for a plain array;
 * `in` is a multiple of the type's block), bias [out] or NULL */
typedef struct {
    int in, out;
    ha_matrix weight;
    const float *bias;
    float scale;
} ha_linear;

/* The same with a scale of 1. */
static inline ha_linear ha_linear_of(int in, int out, ha_matrix weight, const float *bias)
{
    return (ha_linear){in, out, weight, bias, 1.0f};
}

/* y = (accumulate ? y : 0) + scale (x W^T + bias); x [rows, in], y [rows, out] */
void ha_linear_forward(const ha_linear *linear, int rows, ha_rows x, int accumulate, ha_rows_out y);

/* Where gradients go, each unless NULL: x [rows, in] = (accumulate ? x : 0) + scale dy W, weight
 * [out, in] += scale dy^T x, bias [out] += scale times the sum of dy over rows. */
typedef struct {
    ha_rows_out x;
    int accumulate;
    float *weight, *bias;
} ha_linear_gradient;

/* dy [rows, out]; x [rows, in] is read for the weight's gradient alone */
void ha_linear_backward(const ha_linear *linear, int rows, ha_rows x, ha_rows dy, const ha_linear_gradient *gradient);

/* linear_stored.c: y [rows, columns] = x [rows, depth] W^T for many rows and W [columns, depth] of
 * another type than float32, decoded tile by tile. */
void ha_stored_forward(ha_matmul p, ha_rows x, const ha_matrix *w, ha_rows_out y);
/* dx [rows, columns] = dy [rows, depth] W; W [depth, columns] */
void ha_stored_backward(ha_matmul p, ha_rows dy, const ha_matrix *w, ha_rows_out dx);
/* round_matrix.c: w [rows,in], overwritten, as rows of a block type; u [in,in]: U of H^-1 = U^T U,
 * upper triangular, where H = X^T X of the rows X that w is going to be multiplied with */
void ha_round_matrix(int rows, int in, ha_dtype type, const float *u, float *w, void *out);

/* norm.c: a norm over vectors of `width`; weight [width], bias [width] of a LayerNorm */
typedef struct {
    int width;
    const float *weight, *bias;
    float eps;
} ha_row_norm;

/* RMSNorm (Zhang and Sennrich 2019); x, y [rows, width] */
void ha_rms_norm_forward(const ha_row_norm *norm, int rows, ha_rows x, ha_rows_out y);
/* dx += ...; dweight += ... unless NULL */
ha_status ha_rms_norm_backward(const ha_row_norm *norm, int rows, ha_rows x, ha_rows dy, ha_rows_out dx, float *dweight,
                               ha_arena *work);
/* The same for each head of x, y [rows, heads, width] (qk-norm: Henry et al. 2020) */
void ha_head_norm_forward(const ha_row_norm *norm, int rows, int heads, ha_rows x, ha_rows_out y);
/* dx += ...; dweight [width] += ... unless NULL */
ha_status ha_head_norm_backward(const ha_row_norm *norm, int rows, int heads, ha_rows x, ha_rows dy, ha_rows_out dx,
                                float *dweight, ha_arena *work);
/* LayerNorm (Ba et al. 2016); x, y [rows, width] */
void ha_layer_norm_forward(const ha_row_norm *norm, int rows, ha_rows x, ha_rows_out y);
/* dx += ...; dweight, dbias += ..., both or neither NULL */
ha_status ha_layer_norm_backward(const ha_row_norm *norm, int rows, ha_rows x, ha_rows dy, ha_rows_out dx,
                                 float *dweight, float *dbias, ha_arena *work);

/* rope.c: angles position * inv_freq [half], both tables times `factor`; cos, sin [rows,half] */
void ha_rope_table(int rows, int half, const int32_t *position, const float *inv_freq, float factor, float *cos,
                   float *sin);
/* What a rotation turns by: tables [rows, half] as above. */
typedef struct {
    int half;
    const float *cos, *sin;
} ha_rotation;

/* Rotates the first 2 half channels of each head of x [rows, heads, dim] in place; sign -1 is the
 * backward pass: factor^2 times the inverse. */
void ha_rope(const ha_rotation *rotation, int rows, int heads, int dim, float sign, ha_rows_out x);

/* glu.c: y = act(gate) * up; gate_up [rows, 2f] = [gate, up], y [rows,f] */
void ha_glu_forward(ha_act act, int rows, int f, const float *gate_up, float *y);
/* gate_up becomes its gradient; y unless NULL as above */
void ha_glu_backward(ha_act act, int rows, int f, float *gate_up, const float *dy, float *y);

/* swiglu.c: y = silu(gate) * up; gate_up [rows, 2f] = [gate, up], y [rows,f] */
void ha_swiglu_forward(int rows, int f, const float *gate_up, float *y);
/* gate_up becomes its own gradient; y [rows,f], unless NULL, is made again for the weight gradient
 * that follows */
void ha_swiglu_backward(int rows, int f, float *gate_up, const float *dy, float *y);

/* activation.c: y = f(x) for n numbers */
void ha_act_forward(ha_act f, size_t n, const float *x, float *y);
/* x becomes its own gradient; y, unless NULL, is made again for the weight gradient that follows */
void ha_act_backward(ha_act f, size_t n, float *x, const float *dy, float *y);

/* embed.c: x[r] = table[token[r]]; table [vocabulary, d] */
void ha_embed_forward(int rows, int d, const int32_t *token, ha_matrix table, float *x);
/* x[r] += table[index[r]]; table [., d] */
void ha_embed_add(int rows, int d, const int32_t *index, const float *table, float *x);
/* x[i] *= factor */
void ha_scale(size_t n, float factor, float *x);
/* dtable [vocabulary, d] += the rows of dx [rows, d], each at its token */
void ha_embed_backward(int rows, int d, const int32_t *token, const float *dx, float *dtable /* += */);

/* feature.c: feature maps of linear attention, head by head; x [rows, heads, dim], y [rows, heads,
 * width]
 *     ELU       elu(x) + 1                                         width dim    Katharopoulos et al. 2020
 *     RELU      max(x, 0)                                          width dim
 *     HEDGEHOG  softmax([W x, -W x])                               width 2 dim  Zhang et al. 2024
 *     FAVOR     exp([W x, -W x] - |x|^2 / (2 sqrt(dim)))           width 2 dim  Choromanski et al. 2021, lemma 1
 * with weight W [heads, dim, dim] for the last two, else NULL. Exponents of FAVOR end at 30. */
typedef enum { HA_FEATURE_ELU, HA_FEATURE_RELU, HA_FEATURE_HEDGEHOG, HA_FEATURE_FAVOR } ha_feature;

static inline int ha_feature_has_weight(ha_feature map)
{
    return map >= HA_FEATURE_HEDGEHOG;
}

/* Features of a head of `dim` channels. */
int ha_feature_width(ha_feature map, int dim);

typedef struct {
    ha_feature map;
    int heads, dim;
    const float *weight;
} ha_feature_map;

/* y [rows, heads, width] of x [rows, heads, dim] */
ha_status ha_feature_forward(const ha_feature_map *f, int rows, ha_rows x, ha_rows_out y, ha_arena *work);
/* dx += ...; dweight += ... unless NULL */
ha_status ha_feature_backward(const ha_feature_map *f, int rows, ha_rows x, ha_rows y, ha_rows dy, ha_rows_out dx,
                              float *dweight, ha_arena *work);

/* short_conv.c: y_t = sum_j w[:,j] x_{t-taps+1+j}, channel by channel within a sequence; x, y
 * [rows, channels], apart, weight [channels, taps], 1 <= taps <= HA_MAX_CONV. */
enum { HA_MAX_CONV = 16 };
typedef struct {
    int channels, taps;
    const float *weight;
} ha_short_conv;

/* state [n_seq] pointers to the last inputs [taps - 1, channels], updated; NULL: zeros */
void ha_short_conv_forward(const ha_short_conv *conv, const ha_batch *batch, ha_rows x, float *const *state,
                           ha_rows_out y);
/* dx += ...; dweight += ... unless NULL; sequences start from zeros */
void ha_short_conv_backward(const ha_short_conv *conv, const ha_batch *batch, ha_rows x, ha_rows dy, ha_rows_out dx,
                            float *dweight);

/* pool.c: projection along the sequence, y_s = sum_j w[s,j] x_j; x [rows,d], w [slots,length], y
 * [slots of all sequences,d]. A sequence of `rows` <= length rows fills ha_pool_slots of the slots,
 * 1 <= slots <= length. */
typedef struct {
    int slots, length;
    int width; /* d, and the weight [slots, length]: for the passes alone */
    const float *weight;
} ha_pool;

/* Slots that a sequence of `rows` rows fills. */
int ha_pool_slots(const ha_pool *p, int rows);
/* offset [n_seq + 1] of the slots of each sequence */
void ha_pool_offsets(const ha_pool *p, const ha_batch *batch, int32_t *offset);
/* y [slots of all sequences, width] of x [rows, width] */
ha_status ha_pool_forward(const ha_pool *p, const ha_batch *batch, ha_rows x, float *y, ha_arena *work);
/* dx = ...; dweight += ... unless NULL */
ha_status ha_pool_backward(const ha_pool *p, const ha_batch *batch, ha_rows x, const float *dy, ha_rows_out dx,
                           float *dweight, ha_arena *work);
/* w [slots,length] = the mean over the stretch of each slot */
void ha_pool_start(const ha_pool *p, float *w);

/* head_loss.c: LM head and loss fused over pieces of rows, so that logits of a batch never exist at
 * once. A head is a linear layer [vocabulary, d] with a scale of 1, its weight float32 where its
 * gradient is wanted. Losses get one value a row. */

/* The gradient of scale * sum of the losses, each times its factor [rows] (NULL: 1) where one student
 * has targets: hidden [rows, d] = it, weight [vocabulary, d] and bias [vocabulary] += it unless NULL. */
typedef struct {
    float scale;
    float *hidden, *weight, *bias;
    const float *factor;
} ha_head_gradient;

/* loss [rows] = -log p(target); hidden [rows, d], target [rows], -1: loss 0; gradient or NULL */
ha_status ha_head_cross_entropy(const ha_linear *head, int rows, const float *hidden, const int32_t *target,
                                double *loss, const ha_head_gradient *gradient, const ha_interrupt *check,
                                ha_arena *work);

/* Hidden states of one teacher and of students that share a head, [rows, d] each. weight [rows] or
 * NULL (1): factors of the rows' losses in the sum that is differentiated; a row of weight 0 has
 * loss, nll and same 0. target [rows]: for nll. same [rows], unless NULL, = 1 where the last student
 * holds the token likeliest that the teacher does, the first of equals, else 0. */
typedef struct {
    int rows, students;
    const ha_linear *teacher_head, *head;
    const float *teacher_hidden, *const *hidden;
    const float *weight;
    const int32_t *target;
    double *same;
    int piece; /* rows whose logits are in memory together, 0: as many as are fast; sums over rows follow it */
} ha_head_students;

/* loss [students][rows] = KL(teacher || student); nll [rows], unless NULL: the last student's -log
 * p(target), 0 for target -1; gradient or NULL, for a single student only */
ha_status ha_head_kl(const ha_head_students *of, double *const *loss, double *nll, const ha_head_gradient *gradient,
                     const ha_interrupt *check, ha_arena *work);

/* row_error.c: RADLADS step 1 (arXiv 2505.03005): loss[r] = |y_r - target_r| / sqrt(d); dy of scale
 * * sum, unless NULL */
void ha_align_loss(int rows, int d, const float *target, const float *y, float scale, double *loss, float *dy);
/* loss[r] = |y_r - target_r|^2 / d; dy of scale * sum, unless NULL; dy may be y */
void ha_squared_error(int rows, int d, const float *target, const float *y, float scale, double *loss, float *dy);
/* loss[r] = |y_r - target_r|^2 / |target_r|^2; dy of scale * sum of weight[r] loss[r] (weight NULL:
 * 1), unless NULL */
void ha_relative_error(int rows, int d, const float *target, const float *y, const float *weight, float scale,
                       double *loss, float *dy);

/* pool_sequences.c: y [n_seq,d] = the first or last row of each sequence of x [rows,d], or the mean
 * of its rows */
typedef enum { HA_POOL_FIRST, HA_POOL_LAST, HA_POOL_MEAN } ha_pool_kind;

/* y [n_seq, d] of x [rows, d] */
void ha_pool_sequences(ha_pool_kind pool, const ha_batch *batch, int d, const float *x, float *y);
/* dx [rows,d]; rows that are not read get 0 */
void ha_pool_sequences_backward(ha_pool_kind pool, const ha_batch *batch, int d, const float *dy, float *dx);

/* task_loss.c: losses on logits that are at hand. x holds n softmaxes one after the other, number i
 * its entries offset[i] .. offset[i + 1]; loss [n]. x becomes the gradient of scale * sum of the
 * losses; it is used up when scale is 0. */
void ha_pieces_cross_entropy(int n, const int32_t *offset, float *x, const int32_t *target /* [n], within its piece */,
                             float scale, double *loss);
/* KL(softmax(teacher) || softmax(x)); teacher like x, used up */
void ha_pieces_kl(int n, const int32_t *offset, float *teacher, float *x, float scale, double *loss);

/* optimizer.c: pieces of the parameter arena that one AdamW pass visits */
typedef struct {
    size_t offset, count;
    float lr, decay;
} ha_segment;

/* *out = the sum of x^2 over all pieces, in a fixed order. */
ha_status ha_sum_squares(int n, const ha_segment *segment, const float *x, double *out, ha_arena *work);
/* Gradients are scaled by `clip`; steps count from 1. */
typedef struct {
    float clip, beta1, beta2, eps;
    int64_t step;
} ha_adamw_options;

/* Arenas of one layout; mean and square are AdamW's two moments, of type `moments`: HA_F32, or
 * HA_BF16, to which they are rounded stochastically: up with the probability that makes the mean
 * right, drawn by step and place in the arena. */
typedef struct {
    float *weights, *gradients;
    void *mean, *square;
    ha_dtype moments;
} ha_adamw_arenas;

/* One step on `segments` pieces, which clears their gradients. */
ha_status ha_adamw(const ha_adamw_options *options, int segments, const ha_segment *segment, const ha_adamw_arenas *at,
                   ha_arena *work);

/* mirror.c: `both`, its offsets on the arena, holds the sequences of a batch twice, the second time
 * back to front; it has no tokens and positions. */
ha_status ha_mirror_batch(const ha_batch *batch, ha_arena *arena, ha_batch *both);
/* y [2 rows, width]: x [rows, width], which may be y itself, and behind it its rows back to
 * front */
void ha_mirror(int rows, int width, const float *x, ptrdiff_t ldx, float *y);
/* y [rows, width] = the rows of x [2 rows, width] plus their images; y may be x */
void ha_fold(int rows, int width, const float *x, float *y, ptrdiff_t ldy);

/* sums.c: out[s] = sum over the rows of sequence s of <x, y>; x, y [rows,d] */
void ha_dot_per_sequence(const ha_batch *batch, int d, const float *x, ptrdiff_t ldx, const float *y, ptrdiff_t ldy,
                         double *out);
/* delta[r,h] = <dout, out> of head h */
void ha_dot_per_head(int rows, int heads, int dim, const float *x, ptrdiff_t ldx, const float *y, ptrdiff_t ldy,
                     float *delta);

/* Rows x [rows, in] and what a linear function of them should give, y [rows, out]. */
typedef struct {
    int rows, in, out;
    const float *x, *y;
} ha_regression;

/* least_squares.c: weight [out, in] = the W with the least sum of |x W^T - y|^2 plus damping, times
 * the mean of X^T X's diagonal, times |W - start|^2; weight may be start */
ha_status ha_least_squares(const ha_regression *r, double damping, const float *start, float *weight, ha_arena *arena);

#endif
