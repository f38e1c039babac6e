/* Products over threads, each operand packed once.
 *
 * Floor: 2 m n k FLOP at FMA peak. The longer side of C is cut into pieces. Whoever is free takes
 * one, packs its part of that operand into L2, and meets the other operand, which all have packed
 * together before. k is cut into even blocks, and every number of C adds them in order, so its bits
 * depend on neither the cut nor the threads. */
#include "ops/product.h"

#include "core/arena.h"
#include "core/blas.h"
#include "core/scratch.h"
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/product_lines.h"

/* FEW rows: packing costs more than it gains. A k block is at most DEPTH floats, or as many
 * bfloat16 as their bytes hold; LOCAL items of a piece stay in L2; the shared operand is met in
 * parts of SHARED items, and packed by one thread up to SMALL. NARROW items of each have to do
 * where there is no memory. */
enum {
    FEW = 96,
    DEPTH = 320,
    BF16_DEPTH = 640,
    LOCAL = 144 * DEPTH,
    PIECES = 12,
    LEAST = 48,
    SHARED = 2 << 20,
    SMALL = 1 << 15,
    NARROW = 36 * DEPTH, /* HA_BLOCK_ITEMS lines in whole panels of any kernel */
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

/* 576 = 288 + 288, not 320 + 256: each block crosses C once, whatever its length. It depends on k
 * alone. */
static ptrdiff_t depth_of(ptrdiff_t k, ptrdiff_t most, ptrdiff_t unit)
{
    return up((k + (k + most - 1) / most - 1) / ((k + most - 1) / most), unit);
}

/* Items of k numbers. */
static ptrdiff_t items(const ha_packed_kernels *kernel, ptrdiff_t k)
{
    return up(k, kernel->together) / kernel->numbers;
}

/* A part of the shared operand and of k, from `line` and `at`; packed in blocks of the problem's
 * depth, `padded` lines each. */
typedef struct {
    ptrdiff_t line, lines, padded, at, k;
} part;

typedef struct {
    const ha_packed_kernels *kernel;
    ha_side cut, whole;
    int by_rows; /* the side that is cut is A */
    ptrdiff_t depth;
    float scale;
    int accumulate;
    ha_rows_out c;
} problem;

/* A task reads what lies together: some lines, or some numbers of all lines. */
static void pack_shared(const problem *w, const part *p, float *to)
{
    const ha_side *s = &w->whole;
    const int each_item = w->kernel->numbers;
    const ptrdiff_t lines = s->step == 1 ? GROUP : p->lines, numbers = s->step == 1 ? w->depth : NUMBERS;
    const ptrdiff_t groups = (p->lines + lines - 1) / lines, each = (w->depth + numbers - 1) / numbers;
    const ptrdiff_t blocks = (p->k + w->depth - 1) / w->depth;
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads()) if (p->padded * p->k > SMALL)
    for (ptrdiff_t t = 0; t < groups * each * blocks; t++) {
        const ptrdiff_t line = t % groups * lines, begin = t / groups % each * numbers,
                        at = t / groups / each * w->depth;
        const ptrdiff_t k = min(p->k - at, w->depth), n = min(k - begin, numbers), panel = items(w->kernel, k);
        if (n > 0)
            ha_pack_lines(s, p->line + line, p->at + at + begin, (int)min(p->lines - line, lines), (int)n, each_item,
                          to + at / each_item * p->padded + line * panel + begin / each_item * s->unit,
                          s->unit * panel);
    }
}

/* Where both sides are packed: `whole` items of the shared one, and `each` items of a piece for
 * each thread. */
typedef struct {
    int threads;
    ptrdiff_t whole, each;
    float *shared, *own;
} room;

/* Every piece of `piece` lines meets the packed part of the shared side. */
static void meet(const problem *w, const part *p, ptrdiff_t piece, const room *in)
{
    const ha_packed_kernels *kernel = w->kernel;
    const ptrdiff_t pieces = (w->cut.lines + piece - 1) / piece;
#pragma omp parallel for schedule(dynamic, 1) num_threads(in->threads) if (pieces > 1)
    for (ptrdiff_t t = 0; t < pieces; t++) {
        float *own = in->own + ha_thread_index() * in->each;
        const ptrdiff_t first = t * piece, lines = min(w->cut.lines - first, piece);
        for (ptrdiff_t at = 0; at < p->k; at += w->depth) {
            const ptrdiff_t k = min(p->k - at, w->depth), panel = items(kernel, k);
            const float *other = in->shared + at / kernel->numbers * p->padded;
            ha_matmul block = {w->by_rows ? lines : p->lines, w->by_rows ? p->lines : lines, panel, w->scale,
                               w->accumulate || p->at + at > 0};
            ha_pack_lines(&w->cut, first, p->at + at, (int)lines, (int)k, kernel->numbers, own, w->cut.unit * panel);
            if (w->by_rows)
                kernel->product(block, own, other, 0, ha_rows_out_from(w->c, first, p->line));
            else
                kernel->product(block, other, own, 1, ha_rows_out_from(w->c, p->line, first));
        }
    }
}

/* All of k, part by part of the shared side. */
static void all_parts(const problem *w, ptrdiff_t k, const room *in)
{
    const ptrdiff_t unit = w->whole.unit, own = w->cut.unit, depth = items(w->kernel, w->depth);
    const ptrdiff_t most = min(in->each / DEPTH, in->each / depth) / own * own;
    const ptrdiff_t even = up((w->cut.lines + PIECES - 1) / PIECES, own);
    const ptrdiff_t piece = min(even < LEAST ? up(LEAST, own) : even, most);
    const ptrdiff_t fit = in->whole / depth,
                    fitting = fit < GROUP ? fit / HA_BLOCK_ITEMS * HA_BLOCK_ITEMS : fit / GROUP * GROUP;
    const ptrdiff_t lines = min(w->whole.lines, fitting);
    part p;
    for (p.line = 0; p.line < w->whole.lines; p.line += lines) {
        p.lines = min(w->whole.lines - p.line, lines);
        p.padded = up(p.lines, unit);
        const ptrdiff_t together = in->whole / p.padded / depth * w->depth;
        for (p.at = 0; p.at < k; p.at += together) {
            p.k = min(k - p.at, together);
            pack_shared(w, &p, in->shared);
            meet(w, &p, piece, in);
        }
    }
}

/* The same sums with what a stack has room for, on the calling thread. */
static __attribute__((noinline)) void without_memory(const problem *w, ptrdiff_t k)
{
    float shared[NARROW] __attribute__((aligned(HA_ALIGN))), own[NARROW] __attribute__((aligned(HA_ALIGN)));
    all_parts(w, k, &(room){1, NARROW, NARROW, shared, own});
}

/* C [rows, columns] with one set of kernels, k in blocks of `depth` numbers. */
static void run(const ha_packed_kernels *kernel, ptrdiff_t depth, ha_matmul p, ha_stored_view a, ha_stored_view b,
                ha_rows_out c)
{
    const ha_side rows = {a.type, a.at, p.rows, a.row, a.column, kernel->rows, kernel->pack_rows};
    const ha_side columns = {b.type, b.at, p.columns, b.column, b.row, kernel->columns, kernel->pack_columns};
    const int by_rows = p.rows >= p.columns || b.column == 1; /* narrow pieces of long rows are slow to pack */
    const problem w = {.kernel = kernel,
                       .cut = by_rows ? rows : columns,
                       .whole = by_rows ? columns : rows,
                       .by_rows = by_rows,
                       .depth = depth,
                       .scale = p.scale,
                       .accumulate = p.accumulate,
                       .c = c};
    const int threads = ha_threads();
    float *scratch = ha_scratch_take((SHARED + (size_t)threads * LOCAL) * sizeof *scratch);
    if (scratch)
        all_parts(&w, p.depth, &(room){threads, SHARED, LOCAL, scratch, scratch + SHARED});
    else
        without_memory(&w, p.depth);
    ha_scratch_give(scratch);
}

void ha_product(ha_matmul p, ha_view a, ha_view b, ha_rows_out c)
{
    const ha_packed_kernels *kernel = &ha_kernels_get()->packed;
    if (p.rows <= FEW || p.depth <= 0 || !kernel->product)
        ha_gemm(p, a, b, c);
    else
        run(kernel, depth_of(p.depth, DEPTH, 8), p, ha_view_stored(a), ha_view_stored(b), c);
}

void ha_product_bf16(ha_matmul p, ha_view a, ha_stored_view b, ha_rows_out c)
{
    if (p.rows > 0 && p.columns > 0 && p.depth > 0)
        run(ha_bf16_get(), depth_of(p.depth, BF16_DEPTH, HA_BLOCK_ITEMS), p, ha_view_stored(a), b, c);
    else if (p.rows > 0 && p.columns > 0)
        ha_gemm(p, a, a, c); /* depth 0: C is cleared or stays, nothing of B is read */
}
