/* Products of many rows with a matrix of 16, 8 and 4 bits, decoded tile by tile in scratch of the
 * thread that uses it.
 *
 * Floor: 2 rows*in*n FLOP at GEMM peak. A tile stays in L2 and is decoded again for every PIECE of
 * rows: some 3% of the product. Every thread does whole pieces in a fixed order, so the result does
 * not depend on how many there are. */
#include "core/blas.h"
#include "core/scratch.h"
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

/* LONG is the side that sums run over, SHORT the side of the result; both are whole blocks of the
 * block types. */
enum { PIECE = 512, LONG = 256, SHORT = 128, SHORTER = 32 };

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* tile [n, k] = W[row .. row + n, column .. column + k] */
static void decode(const ha_matrix *w, int in, int row, int column, int n, int k, float *tile)
{
    const size_t stride = ha_dtype_bytes(w->dtype, (size_t)in), skip = ha_dtype_bytes(w->dtype, (size_t)column);
    for (int i = 0; i < n; i++)
        ha_kernels_get()->decode[w->dtype]((size_t)k, (const char *)w->data + (size_t)(row + i) * stride + skip,
                                           tile + (ptrdiff_t)i * k);
}

/* Tiles of `threads` threads: LONG numbers of `lines` rows or columns of the result each. */
typedef struct {
    int threads, lines;
    float *tiles;
} tile_room;

typedef void stored_product(ha_matmul p, ha_rows x, const ha_matrix *w, ha_rows_out y, const tile_room *room);

/* The calling thread's tile. */
static float *tile_of(const tile_room *room)
{
    return room->tiles + (ptrdiff_t)ha_thread_index() * room->lines * LONG;
}

/* y [rows, columns] = x W^T */
static void forward(ha_matmul p, ha_rows x, const ha_matrix *w, ha_rows_out y, const tile_room *room)
{
    const int rows = (int)p.rows, n = (int)p.columns, in = (int)p.depth;
    const int lines = room->lines, blocks = (n + lines - 1) / lines, pieces = (rows + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(dynamic) num_threads(room->threads)
    for (int t = 0; t < blocks * pieces; t++) {
        float *tile = tile_of(room);
        const int row = t % blocks * lines, from = t / blocks * PIECE;
        const int wide = min(n - row, lines), m = min(rows - from, PIECE);
        for (int at = 0; at < in; at += LONG) {
            const int k = min(in - at, LONG);
            decode(w, in, row, at, wide, k, tile);
            ha_gemm_alone((ha_matmul){m, wide, k, p.scale, at || p.accumulate}, ha_view_rows(ha_rows_from(x, from, at)),
                          ha_view_transposed(ha_rows_of(tile, k)), ha_rows_out_from(y, from, row));
        }
    }
}

/* dx [rows, columns] = dy W */
static void backward(ha_matmul p, ha_rows dy, const ha_matrix *w, ha_rows_out dx, const tile_room *room)
{
    const int rows = (int)p.rows, in = (int)p.columns, n = (int)p.depth;
    const int lines = room->lines, blocks = (in + lines - 1) / lines, pieces = (rows + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(dynamic) num_threads(room->threads)
    for (int t = 0; t < blocks * pieces; t++) {
        float *tile = tile_of(room);
        const int column = t % blocks * lines, from = t / blocks * PIECE;
        const int wide = min(in - column, lines), m = min(rows - from, PIECE);
        for (int at = 0; at < n; at += LONG) {
            const int k = min(n - at, LONG);
            decode(w, in, at, column, k, wide, tile);
            ha_gemm_alone((ha_matmul){m, wide, k, p.scale, at || p.accumulate},
                          ha_view_rows(ha_rows_from(dy, from, at)), ha_view_rows(ha_rows_of(tile, wide)),
                          ha_rows_out_from(dx, from, column));
        }
    }
}

/* A smaller tile on the stack, for the calling thread alone. */
static __attribute__((noinline)) void without_memory(stored_product *run, ha_matmul p, ha_rows x, const ha_matrix *w,
                                                     ha_rows_out y)
{
    float tile[SHORTER * LONG] __attribute__((aligned(HA_ALIGN)));
    run(p, x, w, y, &(tile_room){1, SHORTER, tile});
}

/* Runs either with the tiles that there is memory for. */
static void with_tiles(stored_product *run, ha_matmul p, ha_rows x, const ha_matrix *w, ha_rows_out y)
{
    const int threads = ha_threads();
    float *tiles = ha_scratch_take((size_t)threads * SHORT * LONG * sizeof *tiles);
    if (tiles)
        run(p, x, w, y, &(tile_room){threads, SHORT, tiles});
    else
        without_memory(run, p, x, w, y);
    ha_scratch_give(tiles);
}

void ha_stored_forward(ha_matmul p, ha_rows x, const ha_matrix *w, ha_rows_out y)
{
    with_tiles(forward, p, x, w, y);
}

void ha_stored_backward(ha_matmul p, ha_rows dy, const ha_matrix *w, ha_rows_out dx)
{
    with_tiles(backward, p, dy, w, dx);
}
