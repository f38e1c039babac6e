#include "core/blas.h"

#include "core/thread.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <blis.h>
#pragma GCC diagnostic pop

/* Every call of BLIS runs on one thread: its own barriers spin without giving way, which costs whole time slices where
 * threads outnumber free cores. The cut over threads is ours, by the shape alone, and whoever is free takes the next
 * piece. Pieces are whole numbers of register blocks and k is never cut here, so no bit depends on the cut.
 *
 * Up to FEW rows BLIS's path without packing is up to 3 times faster. Above, each piece packs its own part of A and B: a
 * number that is packed is used for as many sums as the piece is long on the other side, hence pieces as large as
 * balance allows. */
enum { FEW = 96, COLUMNS = 96, BLOCK = 96, ROW_PIECE = 512, COLUMN_PIECE = 1024 };

/* BLIS cuts k into blocks of KC and crosses C once for each: 576 = 256 + 256 + 64 wastes the third. Here the blocks are
 * about equal, up to 5/4 of KC (a panel of B then still fits in L1): 576 = 288 + 288. It depends on k alone. */
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
        product(piece, (ha_view){a.at + row * a.row, a.row, a.column},
                (ha_view){b.at + column * b.column, b.row, b.column}, ha_rows_out_from(c, row, column), packed);
    }
}

void ha_gemm_alone(ha_matmul p, ha_view a, ha_view b, ha_rows_out c)
{
    if (p.rows > 0 && p.columns > 0)
        product(p, a, b, c, p.rows > FEW);
}

const char *ha_blas_version(void)
{
    return bli_info_get_version_str();
}

const char *ha_blas_arch(void)
{
    return bli_arch_string(bli_arch_query_id());
}
