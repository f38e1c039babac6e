/* Softmax attention: what its passes read and write. */
#ifndef HA_OPS_OPS_ATTENTION_H
#define HA_OPS_OPS_ATTENTION_H

#include "core/arena.h"
#include "core/batch.h"
#include "core/dtype.h"
#include "core/rows.h"
#include "core/status.h"

/* Softmax attention of grouped heads: query i of a sequence sees key j when j <= past + i (causal),
 * and, with a window, when also past + i - j < window or j < sinks. Query head h reads key head h /
 * (heads / kv_heads). */
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

/* Where results go: values [rows, heads, dim]; log_sum [rows, heads] = log sum exp and largest
 * [rows, heads] = the largest logit, each unless NULL. */
typedef struct {
    ha_rows_out values;
    float *log_sum, *largest;
} ha_attention_out;

/* What the backward pass reads: queries [rows, heads, dim]; keys and values [., kv_heads, dim], of
 * one stride, those of sequence s in rows key_offset[s] .. key_offset[s + 1] (batch->offset where
 * every token brings its own); log_sum and largest [rows, heads] as they came out. `largest` is
 * looked at where its gradient is given. */
typedef struct {
    ha_rows queries, keys, values;
    const int32_t *key_offset;
    const float *log_sum, *largest;
} ha_attention_saved;

/* dvalues [rows, heads, dim] of what came out; delta [rows, heads] = <dvalues, values> - dlog_sum;
 * dlargest [rows, heads], a gradient to the largest logit, or NULL */
typedef struct {
    ha_rows dvalues;
    const float *delta, *dlargest;
} ha_attention_upstream;

/* Gradients of queries, keys and values, shaped as they are. */
typedef struct {
    ha_rows_out queries, keys, values;
} ha_attention_gradient;

/* attention.c: tiled online softmax; queries [rows, heads, dim], keys [n_seq]. Memory: the keys
 * once more, transposed. */
ha_status ha_attention_forward(const ha_attention *a, const ha_batch *batch, ha_rows queries, const ha_keys *keys,
                               const ha_attention_out *out, ha_arena *work);
enum { HA_FEW_QUERIES = 16 };
/* attention_decode.c: the same for a few query rows a sequence, causal where they are several;
 * streams the keys once */
ha_status ha_attention_decode(const ha_attention *a, const ha_batch *batch, ha_rows queries, const ha_keys *keys,
                              const ha_attention_out *out, ha_arena *work);
/* attention_backward.c: no past */
ha_status ha_attention_backward(const ha_attention *a, const ha_batch *batch, const ha_attention_saved *saved,
                                const ha_attention_upstream *upstream, const ha_attention_gradient *gradient,
                                ha_arena *work);

/* What ha_attention_reach looks at: queries [rows, heads, dim], keys and values [rows, kv_heads,
 * dim], log_sum [rows, heads] as it came out; every how many queries one is asked. */
typedef struct {
    ha_rows queries, keys, values;
    const float *log_sum;
    int every;
} ha_reach_in;

/* attention_reach.c: sums [heads][3] += how many queries were asked, the mean of log(1 +
 * distance in tokens) of each, their spreads from 0 (one key) to 1 (all alike) */
ha_status ha_attention_reach(const ha_attention *a, const ha_batch *batch, const ha_reach_in *in, double *sums,
                             ha_arena *arena);

#endif
