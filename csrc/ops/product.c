/* Products over threads, each operand packed once.
 *
 * Floor: 2 m n k FLOP at FMA peak. The longer side of C is cut into pieces. Whoever is free takes one, packs its part of
 * that operand into L2, and meets the other operand, which all have packed together before. k is cut into even blocks, and
 * every number of C adds them in order, so its bits depend on neither the cut nor the threads. */
#include "ops/product.h"

#include <stdatomic.h>

#include "core/arena.h"
#include "core/blas.h"
#include "core/thread.h"
#include "kernels/kernels.h"

/* FEW rows: packing costs more than it gains. A k block is at most DEPTH numbers; LOCAL floats of a piece stay in L2; the shared
 * operand is met in parts of SHARED floats, or SMALL where there is no memory. */
enum {
    FEW = 96,
    DEPTH = 320,
    LOCAL = 144 * DEPTH,
    PIECES = 12,
    LEAST = 48,
    SHARED = 2 << 20,
    SMALL = 1 << 15,
    GROUP = 96,
    NUMBERS = 64
};

static ptrdiff_t min(ptrdiff_t a, ptrdiff_t b)
{
    return a < b ? a : b;
}

static ptrdiff_t up(ptrdiff_t n, ptrdiff_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* 576 = 288 + 288, not 320 + 256: each block crosses C once, whatever its length. */
static ptrdiff_t depth_of(ptrdiff_t k)
{
    return up((k + (k + DEPTH - 1) / DEPTH - 1) / ((k + DEPTH - 1) / DEPTH), 8);
}

/* One side of a product: `lines` rows of A or columns of B, each of k numbers `step` apart. */
typedef struct {
    const float *x;
    ptrdiff_t lines, line, step;
    int unit; /* lines of a panel */
    void (*pack)(int n, int k, const float *x, ptrdiff_t line, ptrdiff_t step, float *to, ptrdiff_t panel);
} side;

static const float *from(const side *s, ptrdiff_t line, ptrdiff_t at)
{
    return s->x + line * s->line + at * s->step;
}

/* A part of the shared operand and of k, from `line` and `at`; packed in blocks of `depth`, `padded` lines each. */
typedef struct {
    ptrdiff_t line, lines, padded, at, k, depth;
} part;

/* A task reads what lies together: some lines, or some numbers of all lines. */
static void pack_shared(const side *s, const part *p, float *to)
{
    const ptrdiff_t lines = s->step == 1 ? GROUP : p->lines, numbers = s->step == 1 ? p->depth : NUMBERS;
    const ptrdiff_t groups = (p->lines + lines - 1) / lines, each = (p->depth + numbers - 1) / numbers;
    const ptrdiff_t blocks = (p->k + p->depth - 1) / p->depth;
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads()) if (p->padded * p->k > SMALL)
    for (ptrdiff_t t = 0; t < groups * each * blocks; t++) {
        const ptrdiff_t line = t % groups * lines, begin = t / groups % each * numbers,
                        at = t / groups / each * p->depth;
        const ptrdiff_t k = min(p->k - at, p->depth), n = min(k - begin, numbers);
        if (n > 0)
            s->pack((int)min(p->lines - line, lines), (int)n, from(s, p->line + line, p->at + at + begin), s->line,
                    s->step, to + at * p->padded + line * k + begin * s->unit, s->unit * k);
    }
}

typedef struct {
    side cut, whole;
    int by_rows; /* the side that is cut is A */
    float scale;
    int accumulate;
    ha_rows_out c;
} problem;

static void meet(const problem *w, const part *p, ptrdiff_t piece, const float *shared)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ptrdiff_t pieces = (w->cut.lines + piece - 1) / piece;
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads()) if (pieces > 1)
    for (ptrdiff_t t = 0; t < pieces; t++) {
        float own[LOCAL] __attribute__((aligned(HA_ALIGN)));
        const ptrdiff_t first = t * piece, lines = min(w->cut.lines - first, piece);
        for (ptrdiff_t at = 0; at < p->k; at += p->depth) {
            const ptrdiff_t k = min(p->k - at, p->depth);
            const float *other = shared + at * p->padded;
            ha_matmul block = {w->by_rows ? lines : p->lines, w->by_rows ? p->lines : lines, k, w->scale,
                               w->accumulate || p->at + at > 0};
            w->cut.pack((int)lines, (int)k, from(&w->cut, first, p->at + at), w->cut.line, w->cut.step, own,
                        w->cut.unit * k);
            if (w->by_rows)
                kernel->packed_product(block, own, other, 0, ha_rows_out_from(w->c, first, p->line));
            else
                kernel->packed_product(block, other, own, 1, ha_rows_out_from(w->c, p->line, first));
        }
    }
}

/* One block of SHARED floats is kept from product to product. */
static _Atomic(float *) spare;

static float *take_shared(void)
{
    float *block = atomic_exchange(&spare, NULL);
    return block ? block : ha_block_alloc(SHARED * sizeof(float));
}

static void give_shared(float *block)
{
    ha_block_free(atomic_exchange(&spare, block), SHARED * sizeof(float));
}

static void all_parts(const problem *w, ptrdiff_t k, float *room, ptrdiff_t floats)
{
    const ptrdiff_t depth = depth_of(k), unit = w->whole.unit, most = LOCAL / DEPTH / w->cut.unit * w->cut.unit;
    const ptrdiff_t even = up((w->cut.lines + PIECES - 1) / PIECES, w->cut.unit);
    const ptrdiff_t piece = even > most ? most : even < LEAST ? up(LEAST, w->cut.unit) : even;
    const ptrdiff_t lines = min(w->whole.lines, floats / depth / GROUP * GROUP);
    part p = {.depth = depth};
    for (p.line = 0; p.line < w->whole.lines; p.line += lines) {
        p.lines = min(w->whole.lines - p.line, lines);
        p.padded = up(p.lines, unit);
        const ptrdiff_t together = floats / p.padded / depth * depth;
        for (p.at = 0; p.at < k; p.at += together) {
            p.k = min(k - p.at, together);
            pack_shared(&w->whole, &p, room);
            meet(w, &p, piece, room);
        }
    }
}

void ha_product(ha_matmul p, ha_view a, ha_view b, ha_rows_out c)
{
    const ha_kernels *kernel = ha_kernels_get();
    if (p.rows <= FEW || p.depth <= 0 || !kernel->packed_product) {
        ha_gemm(p, a, b, c);
        return;
    }
    const side rows = {a.at, p.rows, a.row, a.column, kernel->packed_rows, kernel->pack_rows};
    const side columns = {b.at, p.columns, b.column, b.row, kernel->packed_columns, kernel->pack_columns};
    const int by_rows = p.rows >= p.columns || b.column == 1; /* narrow pieces of long rows are slow to pack */
    const problem w = {by_rows ? rows : columns, by_rows ? columns : rows, by_rows, p.scale, p.accumulate, c};
    float small[SMALL] __attribute__((aligned(HA_ALIGN)));
    float *room = up(w.whole.lines, w.whole.unit) * p.depth > SMALL ? take_shared() : NULL;
    all_parts(&w, p.depth, room ? room : small, room ? SHARED : SMALL);
    if (room)
        give_shared(room);
}
