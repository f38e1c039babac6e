/* Small matrix products whose operands are already in cache, and products with a few rows that
 * stream the matrix. */

/* mr rows and nv vectors of columns of C; mr and nv are constants where this is called. */
INLINE void tile(const int mr, const int nv, ha_matmul p, ha_view a, ha_rows b, ha_rows_out c)
{
    const float *restrict left = a.at, *restrict right = b.at;
    float *restrict to = c.at;
    vf acc[MR][2];
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nv; j++)
            acc[i][j] = v_set(0.0f);
    for (int k = 0; k < (int)p.depth; k++, left += a.column, right += b.stride) {
        vf row[2];
        for (int j = 0; j < nv; j++)
            row[j] = v_load(right + j * W);
        for (int i = 0; i < mr; i++) {
            vf x = v_set(left[i * a.row]);
            for (int j = 0; j < nv; j++)
                acc[i][j] += x * row[j];
        }
    }
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nv; j++) {
            vf y = v_set(p.scale) * acc[i][j];
            v_store(to + i * c.stride + j * W, p.accumulate ? v_load(to + i * c.stride + j * W) + y : y);
        }
}

/* All p.rows rows of nv vectors of columns. A tile's row count is a constant, so that the
 * accumulators live in registers. */
INLINE void tile_rows(const int nv, ha_matmul p, ha_view a, ha_rows b, ha_rows_out c)
{
    int rows = (int)p.rows;
    for (; rows >= MR; rows -= MR, a.at += MR * a.row, c.at += MR * c.stride)
        tile(MR, nv, p, a, b, c);
#define REST(N)                                                           \
    for (; rows >= N; rows -= N, a.at += N * a.row, c.at += N * c.stride) \
        tile(N, nv, p, a, b, c);
#if MR > 8
    REST(8)
#endif
    REST(4)
    REST(2)
    REST(1)
#undef REST
}

/* The last columns < W of them: B's are copied into a padded panel, results come back through a
 * padded tile. */
static void tile_tail(ha_matmul p, ha_view a, ha_rows b, ha_rows_out c)
{
    enum { DEPTH = 256, ROWS = 64 };
    const int columns = (int)p.columns, m = (int)p.rows, k = (int)p.depth;
    float panel[DEPTH * W], result[ROWS * W];
    for (int p0 = 0; p0 == 0 || p0 < k; p0 += DEPTH) {
        int depth = k - p0 < DEPTH ? k - p0 : DEPTH;
        for (int i = 0; i < depth; i++)
            v_store(panel + i * W, v_load_part(b.at + (p0 + i) * b.stride, columns, 0.0f));
        for (int i0 = 0; i0 < m; i0 += ROWS) {
            int rows = m - i0 < ROWS ? m - i0 : ROWS;
            tile_rows(1, (ha_matmul){rows, W, depth, p.scale, 0},
                      (ha_view){a.at + i0 * a.row + p0 * a.column, a.row, a.column}, (ha_rows){panel, W},
                      (ha_rows_out){result, W});
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < columns; j++) {
                    float *to = c.at + (i0 + i) * c.stride + j;
                    *to = (p.accumulate || p0 ? *to : 0.0f) + result[i * W + j];
                }
        }
    }
}

/* Two vectors of columns at a time, then one, then what is left of one. */
static void k_gemm(ha_matmul p, ha_view a, ha_rows b, ha_rows_out c)
{
    const int columns = (int)p.columns;
    int j = 0;
    for (; j + NR <= columns; j += NR)
        tile_rows(2, p, a, ha_rows_from(b, 0, j), ha_rows_out_from(c, 0, j));
    if (j + W <= columns) {
        tile_rows(1, p, a, ha_rows_from(b, 0, j), ha_rows_out_from(c, 0, j));
        j += W;
    }
    if (j < columns) {
        p.columns = columns - j;
        tile_tail(p, a, ha_rows_from(b, 0, j), ha_rows_out_from(c, 0, j));
    }
}

/* Four short rows at a time end before the processor's own prefetching has begun. Rows lie one
 * behind the other, so what comes STREAM_AHEAD bytes later is what is read next. Zen 4, f32: 16 to
 * 32% faster (docs/log.md). */
enum { STREAM_AHEAD = 8192 };

INLINE void prefetch(const char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(p + i);
}

/* mr rows of x against nr rows of W: the sums of every pair stay in registers while both rows
 * stream past. */
INLINE void dots(const int mr, const int nr, ha_matmul p, ha_rows x, ha_rows w, ha_rows_out y)
{
    const int depth = (int)p.depth;
    vf acc[4][4];
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nr; j++)
            acc[i][j] = v_set(0.0f);
    int k = 0;
    const char *ahead = (const char *)w.at + STREAM_AHEAD;
    for (; k + W <= depth; k += W) {
        prefetch(ahead, (size_t)(nr * W) * sizeof *w.at);
        ahead += (size_t)(nr * W) * sizeof *w.at;
        for (int j = 0; j < nr; j++) {
            vf row = v_load(w.at + j * w.stride + k);
            for (int i = 0; i < mr; i++)
                acc[i][j] += v_load(x.at + i * x.stride + k) * row;
        }
    }
    if (k < depth)
        for (int j = 0; j < nr; j++) {
            vf row = v_load_part(w.at + j * w.stride + k, depth - k, 0.0f);
            for (int i = 0; i < mr; i++)
                acc[i][j] += v_load_part(x.at + i * x.stride + k, depth - k, 0.0f) * row;
        }
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nr; j++) {
            float *to = y.at + i * y.stride + j;
            *to = (p.accumulate ? *to : 0.0f) + p.scale * v_sum(acc[i][j]);
        }
}

/* Four rows of W at a time against two rows of x. */
static void k_gemv(ha_matmul p, ha_rows x, ha_rows w, ha_rows_out y)
{
    const int rows = (int)p.rows, columns = (int)p.columns;
    int j = 0;
    for (; j + 4 <= columns; j += 4, w.at += 4 * w.stride) {
        int i = 0;
        for (; i + 2 <= rows; i += 2)
            dots(2, 4, p, ha_rows_from(x, i, 0), w, ha_rows_out_from(y, i, j));
        if (i < rows)
            dots(1, 4, p, ha_rows_from(x, i, 0), w, ha_rows_out_from(y, i, j));
    }
    for (; j < columns; j++, w.at += w.stride)
        for (int i = 0; i < rows; i++)
            dots(1, 1, p, ha_rows_from(x, i, 0), w, ha_rows_out_from(y, i, j));
}
