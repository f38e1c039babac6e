/* What the forward and the backward pass of softmax attention share: which key tiles a query tile visits, and the mask. */
#ifndef HA_OPS_ATTENTION_TILE_H
#define HA_OPS_ATTENTION_TILE_H

#include "kernels/kernels.h"
#include "ops/ops.h"

enum { QUERY_TILE = 64, KEY_TILE = 64 };

/* Keys [from, to) seen by at least one of the queries at positions first .. last; the sinks are a range of their own. */
typedef struct {
    int sink_end, from, to;
} key_range;

static inline key_range keys_of(const ha_attention *a, int first, int last, int length)
{
    key_range r = {0, 0, length};
    if (a->causal && last + 1 < length)
        r.to = last + 1;
    if (a->window) {
        int low = first - a->window + 1, high = last + a->window;
        if (high < r.to)
            r.to = high;
        r.from = low > 0 ? low : 0;
        r.sink_end = a->sinks < r.from ? a->sinks : r.from;
        if (r.sink_end > r.to)
            r.sink_end = r.to;
    }
    return r;
}

/* The tile that follows the one ending at `at` (0 to start): returns its start and sets *end; -1 when there is none. */
static inline int next_tile(const key_range *r, int at, int *end)
{
    int start = at;
    if (start >= r->sink_end && start < r->from)
        start = r->from;
    int stop = start < r->sink_end ? r->sink_end : r->to;
    if (start >= stop)
        return -1;
    *end = start + KEY_TILE < stop ? start + KEY_TILE : stop;
    return start;
}

static inline int visible(const ha_attention *a, int query, int key)
{
    if (a->causal && key > query)
        return 0;
    if (!a->window || key < a->sinks)
        return 1;
    int distance = query - key;
    return distance < a->window && -distance < a->window;
}

/* Hides what the queries first .. first + m - 1 may not see of the keys start .. end - 1; s [m, end - start]. */
static inline void mask_tile(const ha_attention *a, int first, int m, int start, int end, float *s, ptrdiff_t lds)
{
    int last = first + m - 1;
    int causal_clear = !a->causal || end - 1 <= first;
    int window_clear = !a->window || end <= a->sinks || (last - start < a->window && end - 1 - first < a->window);
    if (causal_clear && window_clear)
        return;
    for (int r = 0; r < m; r++)
        for (int j = start; j < end; j++)
            if (!visible(a, first + r, j))
                s[r * lds + j - start] = HA_MASKED;
}

#endif
