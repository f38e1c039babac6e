/* What the forward and the backward pass of softmax attention share: which key tiles a query tile
 * visits, and the mask. */
#ifndef HA_OPS_ATTENTION_TILE_H
#define HA_OPS_ATTENTION_TILE_H

#include "kernels/kernels.h"
#include "ops/ops.h"

enum { QUERY_TILE = 64, KEY_TILE = 128, ROWS = 12 /* a step down the diagonal */ };

/* Keys [from, to) seen by at least one of the queries at positions first .. last; the sinks are a
 * range of their own. */
typedef struct {
    int sink_end, from, to;
} key_range;

/* What queries first .. last of a sequence with `length` keys see. */
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

/* The tile that follows the one ending at `at` (0 to start): returns its start and sets *end; -1
 * when there is none. Tiles do not cross a multiple of KEY_TILE, so that each lies in one packed
 * tile. */
static inline int next_tile(const key_range *r, int at, int *end)
{
    int start = at;
    if (start >= r->sink_end && start < r->from)
        start = r->from;
    int stop = start < r->sink_end ? r->sink_end : r->to;
    if (start >= stop)
        return -1;
    int whole = (start / KEY_TILE + 1) * KEY_TILE;
    *end = whole < stop ? whole : stop;
    return start;
}

/* Packed keys or values of one head: tile after tile, [KEY_TILE, dim] or transposed [dim,
 * KEY_TILE]. Key j and its row or column are at packed_row, packed_column. Rows of the joined
 * projection lie kilobytes apart, where a tile falls into a few sets of L1; packed, a tile is 4
 * KEY_TILE dim consecutive bytes. */
static inline size_t packed_floats(int length, int d)
{
    return (size_t)((length + KEY_TILE - 1) / KEY_TILE) * KEY_TILE * (size_t)d;
}

static inline const float *packed_row(const float *packed, int j, int d)
{
    return packed + (ptrdiff_t)j * d;
}

static inline const float *packed_column(const float *packed, int j, int d)
{
    return packed + (ptrdiff_t)(j / KEY_TILE) * KEY_TILE * d + j % KEY_TILE;
}

static inline void pack_rows(int length, int d, const float *x, ptrdiff_t ldx, float *packed)
{
    for (int j = 0; j < length; j++)
        __builtin_memcpy(packed + (ptrdiff_t)j * d, x + j * ldx, (size_t)d * sizeof *x);
}

static inline void pack_columns(int length, int d, const float *x, ptrdiff_t ldx, float *packed)
{
    for (int j = 0; j < length; j += KEY_TILE)
        ha_kernels_get()->transpose(length - j < KEY_TILE ? length - j : KEY_TILE, d, x + j * ldx, ldx,
                                    packed + (ptrdiff_t)j * d, KEY_TILE);
}

/* Whether query and key, positions in their sequence, see each other. */
static inline int visible(const ha_attention *a, int query, int key)
{
    if (a->causal && key > query)
        return 0;
    if (!a->window || key < a->sinks)
        return 1;
    int distance = query - key;
    return distance < a->window && -distance < a->window;
}

/* Of the keys start .. start + n - 1, how many a query up to `last` may see, in whole vectors of
 * the widest kernel. */
static inline int seen(const ha_attention *a, int last, int start, int n)
{
    int m = last < start ? 16 : (last - start + 16) / 16 * 16;
    return a->causal && m < n ? m : n;
}

/* Rows r .. of a tile of m queries that go into one product: all of them, or ROWS where the
 * diagonal cuts the tile. */
static inline int rows_alike(const ha_attention *a, int first, int r, int m, int start, int n)
{
    int whole = !a->causal || seen(a, first, start, n) == n;
    return whole || m - r < ROWS ? m - r : ROWS;
}

/* Hides what the queries first .. first + m - 1 may not see of the keys start .. end - 1; s [m, end
 * - start]. */
static inline void mask_tile(const ha_attention *a, int first, int m, int start, int end, float *s, ptrdiff_t lds)
{
    int last = first + m - 1;
    int causal_clear = !a->causal || end - 1 <= first;
    int window_clear = !a->window || end <= a->sinks || (last - start < a->window && end - 1 - first < a->window);
    if (causal_clear && window_clear)
        return;
    for (int r = 0; r < m; r++) {
        int open = end; /* keys from here on come after the query */
        if (a->causal && first + r + 1 < end)
            open = first + r + 1 > start ? first + r + 1 : start;
        for (int j = start; j < open && !window_clear; j++)
            if (!visible(a, first + r, j))
                s[r * lds + j - start] = HA_MASKED;
        for (int j = open; j < end; j++)
            s[r * lds + j - start] = HA_MASKED;
    }
}

#endif
