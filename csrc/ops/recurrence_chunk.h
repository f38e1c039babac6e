/* One chunk of the linear recurrence: the rows of a head as the kernels read them. Shared by both
 * passes. */
#ifndef HA_OPS_RECURRENCE_CHUNK_H
#define HA_OPS_RECURRENCE_CHUNK_H

#include <string.h>

#include "kernels/kernels.h"
#include "ops/ops.h"

enum { C = HA_CHUNK };

static inline int chunks_of(const ha_batch *batch, int s)
{
    return (batch->offset[s + 1] - batch->offset[s] + C - 1) / C;
}

/* (*first) [n_seq]: where the saved states of each sequence begin, in floats. */
static inline ha_status first_states(const ha_recurrence *r, const ha_batch *batch, ha_arena *work, size_t **first)
{
    HA_PUSH(*first, work, (size_t)batch->n_seq);
    for (int s = 0, n = 0; s < batch->n_seq; n += chunks_of(batch, s), s++)
        (*first)[s] = (size_t)n * (size_t)r->heads * (size_t)r->key_dim * (size_t)r->value_dim;
    return HA_OK;
}

/* Channels of a key, padded for the widest vector. */
static inline ptrdiff_t padded(int dk)
{
    return (dk + 15) / 16 * 16;
}

/* Floats that pack_chunk fills. */
static inline size_t packed_floats(const ha_recurrence *r)
{
    return (size_t)C *
           (size_t)((4 + r->group) * padded(r->key_dim) + (r->gate == HA_GATE_VALUE ? padded(r->value_dim) : 0));
}

/* Asks for row `row` of a head, `width` floats at its place among rows of ld, to be read or
 * written: rows of one head lie a page apart, and hardware does not guess the next one. */
#define PREFETCH_ROW(x, ld, width, row, h, write)                                                             \
    for (const float *at_ = (x) + (row) * (ld) + (ptrdiff_t)(h) * (width), *end_ = at_ + (width); at_ < end_; \
         at_ += 16)                                                                                           \
    __builtin_prefetch(at_, write, 2)

/* Rows row .. row + n of head h as the kernels need them, in `to`, which the caller zeroed once. */
static inline ha_recurrence_chunk pack_chunk(const ha_recurrence *r, const ha_recurrence_in *in, ptrdiff_t row, int n,
                                             int h, float *to)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ptrdiff_t ld = padded(r->key_dim), dk = r->key_dim, ldwv = padded(r->value_dim);
    float *q = to, *k = q + r->group * C * ld, *w = k + C * ld, *a = w + C * ld, *b = a + C * ld, *wv = b + C * ld,
          decay[C];
    const int shared = r->gate == HA_GATE_NONE || r->gate == HA_GATE_HEAD, values = r->gate == HA_GATE_VALUE;
    const size_t bytes = (size_t)dk * sizeof *to;
    for (int t = 0; t < n; t++)
        decay[t] = r->gate == HA_GATE_HEAD ? in->log_decay[(row + t) * r->heads + h] : 0.0f;
    if (shared)
        kernel->exp((size_t)n, decay, decay);
    for (int t = 0; t < n; t++, row++) {
        const ptrdiff_t from = row * in->key_stride + h * dk, at = t * ld;
        for (ptrdiff_t g = 0; g < r->group; g++)
            memcpy(q + g * C * ld + at, in->queries + row * in->query_stride + (h * r->group + g) * dk, bytes);
        memcpy(k + at, in->keys + from, bytes);
        if (r->gate == HA_GATE_CHANNEL)
            kernel->exp((size_t)dk, in->log_decay + (row * r->heads + h) * dk, w + at);
        if (values)
            kernel->exp((size_t)r->value_dim, in->log_decay + (row * r->heads + h) * r->value_dim, wv + t * ldwv);
        for (int i = 0; shared && i < dk; i++)
            w[at + i] = decay[t];
        if (in->erase_write) {
            memcpy(a + at, in->erase_write + from, bytes);
            memcpy(b + at, in->erase_read + from, bytes);
        }
        for (int i = 0; in->beta && i < dk; i++)
            b[at + i] = w[at + i] * k[at + i];
    }
    return (ha_recurrence_chunk){n,
                                 (int)dk,
                                 ld,
                                 q,
                                 k,
                                 w,
                                 in->erase_write ? a : NULL,
                                 in->erase_write || in->beta ? b : NULL,
                                 values ? wv : NULL,
                                 ldwv,
                                 r->group,
                                 C * ld};
}

#endif
