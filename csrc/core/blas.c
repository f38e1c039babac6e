#include "core/blas.h"

#include <pthread.h>
#include <stdatomic.h>

#include "core/arena.h"
#include "core/thread.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <blis.h>
#pragma GCC diagnostic pop

/* Every call of BLIS runs on one thread: its own barriers spin without giving way, which costs
 * whole time slices where threads outnumber free cores. The cut over threads is ours, by the shape
 * alone, and whoever is free takes the next piece. Pieces are whole numbers of register blocks and
 * k is never cut here, so no bit depends on the cut.
 *
 * Up to FEW rows BLIS's path without packing is up to 3 times faster. Above, each piece packs its
 * own part of A and B: a number that is packed is used for as many sums as the piece is long on the
 * other side, hence pieces as large as balance allows. */
enum { FEW = 96, COLUMNS = 96, BLOCK = 96, ROW_PIECE = 512, COLUMN_PIECE = 1024 };

/* BLIS cuts k into blocks of KC and crosses C once for each: 576 = 256 + 256 + 64 wastes the third.
 * Here the blocks are about equal, up to 5/4 of KC (a panel of B then still fits in L1): 576 = 288
 * + 288. It depends on k alone. */
static void even_depth(ptrdiff_t k, cntx_t *context)
{
    cntx_t *own = (cntx_t *)bli_gks_query_cntx();
    *context = *own;
    if (k <= 0 ||
        bli_info_get_version_str()[0] != '0') /* later versions keep blocks behind a pointer: a copy would be shared */
        return;
    blksz_t depth = *bli_cntx_get_blksz(BLIS_KC, own);
    ptrdiff_t usual = bli_blksz_get_def(BLIS_FLOAT, &depth), most = usual + usual / 4;
    ptrdiff_t blocks = (k + most - 1) / most, even = ((k + blocks - 1) / blocks + 7) / 8 * 8;
    if (even <= usual / 2)
        return;
    bli_blksz_set_def(even, BLIS_FLOAT, &depth);
    bli_blksz_set_max(even, BLIS_FLOAT, &depth);
    bli_cntx_set_blksz(BLIS_KC, &depth, BLIS_KR, context);
}

/* Bytes of the two blocks that a product packs into. BLIS sizes them for its widest type. */
static size_t packing_bytes(void)
{
    static const num_t types[] = {BLIS_FLOAT, BLIS_DOUBLE, BLIS_SCOMPLEX, BLIS_DCOMPLEX};
    cntx_t *context = (cntx_t *)bli_gks_query_cntx();
    size_t most = 0;
    for (int i = 0; i < 4; i++) {
        const size_t depth = (size_t)bli_cntx_get_blksz_max_dt(types[i], BLIS_KC, context);
        const size_t lines = (size_t)bli_cntx_get_blksz_max_dt(types[i], BLIS_MC, context) +
                             (size_t)bli_cntx_get_blksz_max_dt(types[i], BLIS_NC, context);
        const size_t bytes = (depth + depth / 4) * lines * (size_t)bli_dt_size(types[i]);
        most = bytes > most ? bytes : most;
    }
    return most + (1 << 20); /* and its small tables */
}

/* BLIS keeps its blocks, as many as products have run at a time, and ends the process where the
 * system refuses one. So before one more product than ever runs, this asks the system for as much.
 * 0: there is no memory, do not pack. `finished` either way. */
static atomic_int running, granted;

/* 1: this product may pack. */
static int may_pack(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    const int now = atomic_fetch_add(&running, 1) + 1;
    if (now <= atomic_load(&granted))
        return 1;
    pthread_mutex_lock(&lock);
    const int more = now - atomic_load(&granted);
    if (more > 0) {
        const size_t bytes = (size_t)more * packing_bytes();
        void *block = ha_block_alloc(bytes);
        ha_block_free(block, bytes);
        if (block)
            atomic_store(&granted, now);
    }
    pthread_mutex_unlock(&lock);
    return now <= atomic_load(&granted);
}

static void finished(void)
{
    atomic_fetch_sub(&running, 1);
}

/* The same sums one by one, which needs no memory. */
static void without_packing(ha_matmul p, ha_view a, ha_view b, ha_rows_out c)
{
    for (ptrdiff_t i = 0; i < p.rows; i++)
        for (ptrdiff_t j = 0; j < p.columns; j++) {
            float *to = c.at + i * c.stride + j;
            double sum = 0.0;
            for (ptrdiff_t k = 0; k < p.depth; k++)
                sum += (double)a.at[i * a.row + k * a.column] * (double)b.at[k * b.row + j * b.column];
            *to = (p.accumulate ? *to : 0.0f) + p.scale * (float)sum;
        }
}

/* The whole of C [rows, columns], both operands packed first or not. */
static void product(ha_matmul p, ha_view a, ha_view b, ha_rows_out c, int packed)
{
    rntm_t runtime;
    bli_rntm_init(&runtime);
    bli_rntm_set_num_threads(1, &runtime);
    cntx_t context;
    if (packed) {
        bli_rntm_disable_l3_sup(&runtime);
        even_depth(p.depth, &context);
    }
    float before = p.accumulate ? 1.0f : 0.0f; /* 0: C is not read */
    bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, p.rows, p.columns, p.depth, &p.scale, (float *)a.at, a.row,
                 a.column, (float *)b.at, b.row, b.column, &before, c.at, c.stride, 1, packed ? &context : NULL,
                 &runtime);
}

/* Whether BLIS multiplies FEW rows without packing on this processor. */
static int has_few_rows_path(void)
{
    switch (bli_arch_query_id()) {
    case BLIS_ARCH_SKX:
    case BLIS_ARCH_HASWELL:
    case BLIS_ARCH_ZEN:
    case BLIS_ARCH_ZEN2:
    case BLIS_ARCH_ZEN3:
        return 1;
    default:
        return 0;
    }
}

/* The same within the memory that there is. */
static void checked_product(ha_matmul p, ha_view a, ha_view b, ha_rows_out c, int packed)
{
    if (!packed && has_few_rows_path()) {
        product(p, a, b, c, packed);
        return;
    }
    if (may_pack())
        product(p, a, b, c, packed);
    else
        without_packing(p, a, b, c);
    finished();
}

/* n cut into equal pieces of at most `most`, of whole blocks. */
static ptrdiff_t piece_of(ptrdiff_t n, ptrdiff_t most)
{
    ptrdiff_t pieces = (n + most - 1) / most, blocks = (n + BLOCK - 1) / BLOCK;
    return (blocks + pieces - 1) / pieces * BLOCK;
}

void ha_gemm(ha_matmul p, ha_view a, ha_view b, ha_rows_out c)
{
    const ptrdiff_t m = p.rows, n = p.columns;
    if (m <= 0 || n <= 0)
        return;
    const int packed = m > FEW;
    const ptrdiff_t tall = packed ? piece_of(m, ROW_PIECE) : m, wide = packed ? piece_of(n, COLUMN_PIECE) : COLUMNS;
    const ptrdiff_t down = (m + tall - 1) / tall, pieces = down * ((n + wide - 1) / wide);
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads()) if (pieces > 1)
    for (ptrdiff_t i = 0; i < pieces; i++) {
        const ptrdiff_t row = i % down * tall, column = i / down * wide;
        ha_matmul piece = p;
        piece.rows = m - row < tall ? m - row : tall;
        piece.columns = n - column < wide ? n - column : wide;
        checked_product(piece, (ha_view){a.at + row * a.row, a.row, a.column},
                        (ha_view){b.at + column * b.column, b.row, b.column}, ha_rows_out_from(c, row, column), packed);
    }
}

void ha_gemm_alone(ha_matmul p, ha_view a, ha_view b, ha_rows_out c)
{
    if (p.rows > 0 && p.columns > 0)
        checked_product(p, a, b, c, p.rows > FEW);
}
