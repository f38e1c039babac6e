/* Leaf loops on plain pointers, compiled once per instruction set and chosen when first asked for.
 *
 * No memory is allocated and no thread is started here. Reductions run in a fixed order, so a
 * kernel gives the same bits whoever calls it. `ld*` is the distance in floats between rows. */
#ifndef HA_KERNELS_H
#define HA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "core/activation.h"
#include "core/dtype.h"
#include "core/matmul.h"
#include "core/rows.h"
#include "core/status.h"

/* Masked-out attention logits, and the start of a running maximum: finite, so that differences
 * never are NaN. */
#define HA_MASKED (-3e38f)
#define HA_NO_MAX (-1e30f)

/* Rows of a type other than float32: row r begins `stride` bytes after row r - 1. */
typedef struct {
    const uint8_t *at;
    size_t stride;
} ha_stored_rows;

/* Keys or values of one head [count, dim] in a cache: floats or, with half set, IEEE halves,
 * `stride` numbers from one to the next. */
typedef struct {
    const void *at;
    ptrdiff_t stride;
    int half, count, dim;
} ha_cached_rows;

/* The rows of one head's linear recurrence over `count` tokens, [count, stride] each and zero from
 * channel key_dim on; the stride is a multiple of 16. With queries q, keys k, decay w, erase_write
 * a, erase_read b:
 *     u = S^T b,   S = diag(w) S + k z^T + a u^T,   o = S^T q;   S [key_dim, columns]
 * a and b NULL: nothing is read before the write. a NULL: the delta rule, z = beta (v - u);
 * otherwise z = v. value_decay wv [count, value_decay_stride], unless NULL, decays the columns in
 * the place of w: S = S diag(wv) + k z^T, without a and b. `group` heads of queries read the state,
 * query_group floats from one's rows to the next one's. */
typedef struct {
    int count, key_dim;
    ptrdiff_t stride;
    const float *queries, *keys, *decay, *erase_write, *erase_read, *value_decay;
    ptrdiff_t value_decay_stride;
    int group;
    ptrdiff_t query_group;
} ha_recurrence_chunk;

/* A block of columns: values, out and reads [count, columns], reads.at unless NULL; beta [count] or
 * NULL; state [key_dim, columns]. out_group: floats from the output for one head of the group to
 * the next. */
typedef struct {
    int columns;
    ha_rows values;
    const float *beta;
    ptrdiff_t beta_stride;
    ha_rows_out state, out, reads;
    ptrdiff_t out_group;
} ha_recurrence_block;

/* What a block of columns needs in its backward pass, [count, stride] each: in, what was written
 * (z) and what was read before (u), and the gradients of the outputs, dout_group floats from one
 * head of the group to the next; out, the gradients of z and u and of the columns' decay. */
enum { HA_REPLAY_COLUMNS = 8 };
typedef struct {
    ptrdiff_t stride, dout_group;
    const float *writes, *reads, *dout;
    float *dwrites, *dreads, *dvalue_decay;
} ha_recurrence_columns;

/* Gradients of the rows, added to; queries, a and b as in the chunk. */
typedef struct {
    float *queries, *keys, *decay, *erase_write, *erase_read;
} ha_recurrence_gradient;

/* What a step of AdamW (Loshchilov and Hutter 2019) multiplies with: gradients by `clip`, at first;
 * bias1, bias2 are 1 - beta^step. noise: what moments of 16 bits are rounded by in this step. */
typedef struct {
    float clip, rate, beta1, beta2, eps, decay, bias1, bias2;
    uint32_t noise;
} ha_adamw_step;

/* n rows of A or columns of B: number j of line i lies at at[i * line + j * step], and one of the
 * two is 1. */
typedef struct {
    ha_dtype type;
    const void *at;
    ptrdiff_t line, step;
} ha_lines;

/* Products of packed operands. A panel is `rows` rows of A or `columns` columns of B,
 * [items][width] of 4 bytes each and padded with zeros. An item is `numbers` numbers of one line; k
 * is padded to a multiple of `together` numbers first. */
typedef struct {
    const char *isa; /* "avx512_bf16", or NULL for kernels of the table's own instruction set */
    int rows, columns, numbers, together;
    /* p.depth counts items; rows_outside: A is read once and B again and again, else the other way
     * round. */
    void (*product)(ha_matmul p, const float *a, const float *b, int rows_outside, ha_rows_out c);
    /* n lines of k numbers as panels, `panel` items apart. Float32, or for products of bfloat16
     * also bfloat16. */
    void (*pack_rows)(int n, int k, ha_lines from, float *to, ptrdiff_t panel);
    void (*pack_columns)(int n, int k, ha_lines from, float *to, ptrdiff_t panel);
} ha_packed_kernels;

typedef struct {
    const char *isa;

    /* products
     * ------------------------------------------------------------------------------------------------- */
    /* C [rows, columns] = A [rows, depth] B [depth, columns], for tiles in cache. */
    void (*gemm)(ha_matmul p, ha_view a, ha_rows b, ha_rows_out c);
    ha_packed_kernels packed; /* of float32; .product is NULL where BLIS's kernels are better */
    ha_packed_kernels bf16;   /* of bfloat16 */
    /* y [rows, columns] = x [rows, depth] W^T, W [columns, depth], for a few rows: streams W
     * once. */
    void (*gemv)(ha_matmul p, ha_rows x, ha_rows w, ha_rows_out y);
    /* The same for W of another type than float32, by ha_dtype; depth is a multiple of the block.
     * Numbers are decoded in registers, x stays float32. */
    void (*stored_gemv[HA_DTYPE_COUNT])(ha_matmul p, ha_rows x, ha_stored_rows w, ha_rows_out y);
    /* n numbers of that type, a multiple of the block, as float32 */
    void (*decode[HA_DTYPE_COUNT])(size_t n, const void *src, float *dst);
    /* dst[cols,rows] = src[rows,cols]^T */
    void (*transpose)(int rows, int cols, const float *src, ptrdiff_t lds, float *dst, ptrdiff_t ldd);
    float (*dot)(size_t n, const float *x, const float *y);
    void (*axpy)(size_t n, float a, const float *x, float *y);
    /* y += a * b, item by item */
    void (*mul_add)(size_t n, const float *a, const float *b, float *y);
    double (*sum_squares)(size_t n, const float *x);

    /* elementwise, n items; in place is fine
     * ------------------------------------------------------------------- */
    void (*exp)(size_t n, const float *x, float *y);
    /* y = f(x) by ha_act, and dx = dy * f'(x) */
    void (*act[HA_ACTS])(size_t n, const float *x, float *y);
    void (*act_backward[HA_ACTS])(size_t n, const float *x, const float *dy, float *dx);
    /* y = silu(a) * b */
    void (*silu_mul)(size_t n, const float *a, const float *b, float *y);
    /* da = dy * b * silu'(a), db = dy * silu(a); da, db may be a, b. y (if not NULL) = silu(a) * b,
     * read before. */
    void (*silu_mul_backward)(size_t n, const float *a, const float *b, const float *dy, float *da, float *db,
                              float *y);

    /* rows
     * ----------------------------------------------------------------------------------------------------- */
    /* y = x * w / rms(x); returns 1 / rms(x) */
    float (*rms_norm)(int d, const float *x, const float *w, float eps, float *y);
    /* dx += the vector-Jacobian product of rms_norm; dw += likewise, unless NULL */
    void (*rms_norm_backward)(int d, const float *x, const float *w, float eps, const float *dy, float *dx, float *dw);
    /* y = (x - mean) / deviation * w + b */
    void (*layer_norm)(int d, const float *x, const float *w, const float *b, float eps, float *y);
    /* dx += ...; dw, db += ..., both or neither NULL */
    void (*layer_norm_backward)(int d, const float *x, const float *w, float eps, const float *dy, float *dx, float *dw,
                                float *db);
    /* y = softmax of the 2n numbers [x, -x] */
    void (*softmax_pair)(int n, const float *x, float *y);
    /* dx from dy and y = softmax_pair(x) */
    void (*softmax_pair_backward)(int n, const float *y, const float *dy, float *dx);
    /* rotate_half form: pairs (i, i + half) by angle table cos, sin [half]; sign -1 turns back */
    void (*rope)(int half, const float *cos, const float *sin, float sign, float *x);

    /* attention tiles
     * ------------------------------------------------------------------------------------------ */
    /* One step of the online softmax on s[rows,cols]: s becomes exp(s - max); running max and sum
     * are updated, and correction[r] = exp(old max - new max) is what the output so far has to be
     * multiplied with. */
    void (*softmax_step)(int rows, int cols, float *s, ptrdiff_t lds, float *max, float *sum, float *correction);
    /* s becomes p = exp(s - lse), dp becomes p * (dp - delta); [rows,cols], lse and delta [rows] */
    void (*softmax_tile_backward)(int rows, int cols, float *s, ptrdiff_t lds, float *dp, ptrdiff_t ldp,
                                  const float *lse, const float *delta);
    /* x[r,:] *= factor[r] */
    void (*scale_rows)(int rows, int cols, float *x, ptrdiff_t ldx, const float *factor);

    /* decoding: the query heads of a group share its keys and values
     * ----------------------------------------------- */
    /* scores [heads, count] = scale queries [heads, dim] K^T */
    void (*decode_scores)(const ha_cached_rows *keys, int heads, float scale, const float *queries, ha_rows_out scores);
    /* out [heads, dim] += weights [heads, count] V */
    void (*decode_mix)(const ha_cached_rows *values, int heads, ha_rows weights, float *out);
    /* rounded to nearest even; decode[HA_F16] is the way back */
    void (*float_to_half)(size_t n, const float *x, uint16_t *y);

    /* linear recurrences
     * --------------------------------------------------------------------------------------- */
    /* The state of a block over the chunk. Rows of the state are padded: up to the next multiple of
     * 32 columns may be read and written, and rows of value_decay read up to one of 16. */
    void (*recurrence)(const ha_recurrence_chunk *c, const ha_recurrence_block *block);
    /* history [count + 1, columns, stride]: the transposed state before each token and after the
     * last, from the first on */
    void (*recurrence_replay)(const ha_recurrence_chunk *c, int columns, const ha_recurrence_columns *x,
                              float *history);
    /* d [columns, stride]: the gradient of the state after the chunk becomes that of the state
     * before it */
    void (*recurrence_backward)(const ha_recurrence_chunk *c, int columns, const float *beta, const float *history,
                                float *d, const ha_recurrence_columns *x, const ha_recurrence_gradient *g);

    /* losses on one row of v logits
     * ---------------------------------------------------------------------------- */
    /* KL(softmax(t) || softmax(s)), and *log_sum = log sum exp(s); s becomes scale * (softmax(s) -
     * softmax(t)) when scale != 0, and is overwritten like t otherwise. */
    double (*kl_row)(int v, float *s, float *t, float scale, double *log_sum);
    /* -log softmax(s)[target]; s becomes scale * (softmax(s) - onehot) when scale != 0 */
    double (*cross_entropy_row)(int v, float *s, int target, float scale);

    /* optimizer
     * ------------------------------------------------------------------------------------------------ */
    /* A step on n items from number `at` of the arena on, which clears the gradients; mean and square
     * are the two moments, in float32 [0] or rounded stochastically to bfloat16 [1]. */
    void (*adamw[2])(const ha_adamw_step *step, size_t n, size_t at, float *weights, float *gradients, void *mean,
                     void *square);
} ha_kernels;

/* The table for this processor, or for the set named in HYBRIDATTN_ISA (generic, avx2, avx512,
 * avx512_bf16) if it can run here. */
const ha_kernels *ha_kernels_get(void);
/* Its kernels of bfloat16: the processor's own, or the table's. They give the same bits. */
const ha_packed_kernels *ha_bf16_get(void);
/* All that can run here, the plainest first; reached from tests only. */
enum { HA_BF16_KERNELS = 4 };
/* Fills `list` and returns how many. */
int ha_bf16_each(const ha_packed_kernels *list[HA_BF16_KERNELS]);
/* HA_BAD_VALUE, with a message, where HYBRIDATTN_ISA names no instruction set that this processor
 * has. */
ha_status ha_kernels_check(void);

/* y = f(x) and dx = dy * f'(x), n items on the calling thread; in place is fine */
static inline void ha_activate(ha_act f, size_t n, const float *x, float *y)
{
    ha_kernels_get()->act[f](n, x, y);
}

static inline void ha_activate_backward(ha_act f, size_t n, const float *x, const float *dy, float *dx)
{
    ha_kernels_get()->act_backward[f](n, x, dy, dx);
}

#endif
