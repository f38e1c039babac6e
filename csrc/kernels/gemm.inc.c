/* Small matrix products whose operands are already in cache, and products with a few rows that stream the matrix.
 *
 * A tile of MR x NR results stays in registers. AVX2: 6 x 16 is 12 accumulators, and a step of k costs 2 loads and 6
 * broadcasts for 12 FMAs, under the two loads a cycle that the FMA units allow. */
#if defined HA_ISA_AVX512
#define MR 12
#elif defined HA_ISA_AVX2
#define MR 6
#else
#define MR 4
#endif
#define NR (2 * W)

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

/* All p.rows rows of nv vectors of columns. A tile's row count is a constant, so that the accumulators live in registers. */
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

/* The last columns < W of them: B's are copied into a padded panel, results come back through a padded tile. */
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

/* Four short rows at a time end before the processor's own prefetching has begun. Rows lie one behind the other, so what
 * comes STREAM_AHEAD bytes later is what is read next. Zen 4, f32: 16 to 32% faster (docs/log.md). */
enum { STREAM_AHEAD = 8192 };

INLINE void prefetch(const char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(p + i);
}

/* mr rows of x against nr rows of W: the sums of every pair stay in registers while both rows stream past. */
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

#if defined HA_ISA_AVX2 || defined HA_ISA_AVX512
/* 8 x 8: pairs, then fours, then halves of 128 bits change places */
INLINE void transpose_block(const float *src, ptrdiff_t lds, float *dst, ptrdiff_t ldd)
{
    __m256 x[8], y[8];
    for (int i = 0; i < 8; i++)
        x[i] = _mm256_loadu_ps(src + i * lds);
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        x[i] = _mm256_shuffle_ps(y[i], y[i + 2], 0x44);
        x[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], 0xEE);
        x[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44);
        x[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(dst + i * ldd, _mm256_permute2f128_ps(x[i], x[i + 4], 0x20));
        _mm256_storeu_ps(dst + (i + 4) * ldd, _mm256_permute2f128_ps(x[i], x[i + 4], 0x31));
    }
}

INLINE void transpose_four(const float *src, ptrdiff_t lds, float *dst, ptrdiff_t ldd)
{
    __m128 x[4];
    for (int i = 0; i < 4; i++)
        x[i] = _mm_loadu_ps(src + i * lds);
    _MM_TRANSPOSE4_PS(x[0], x[1], x[2], x[3]);
    for (int i = 0; i < 4; i++)
        _mm_storeu_ps(dst + i * ldd, x[i]);
}

/* In blocks; the last ones overlap those before. */
INLINE void transpose_blocks(const int block, int rows, int cols, const float *src, ptrdiff_t lds, float *dst,
                             ptrdiff_t ldd)
{
    for (int i0 = 0; i0 < rows; i0 += block)
        for (int j0 = 0; j0 < cols; j0 += block) {
            const int i = i0 + block <= rows ? i0 : rows - block, j = j0 + block <= cols ? j0 : cols - block;
            if (block == 8)
                transpose_block(src + i * lds + j, lds, dst + j * ldd + i, ldd);
            else
                transpose_four(src + i * lds + j, lds, dst + j * ldd + i, ldd);
        }
}
#endif

static void k_transpose(int rows, int cols, const float *src, ptrdiff_t lds, float *dst, ptrdiff_t ldd)
{
    enum { B = 8 };
#if defined HA_ISA_AVX2 || defined HA_ISA_AVX512
    if (rows >= B && cols >= B) {
        transpose_blocks(B, rows, cols, src, lds, dst, ldd);
        return;
    }
    if (rows >= 4 && cols >= 4) {
        transpose_blocks(4, rows, cols, src, lds, dst, ldd);
        return;
    }
#endif
    for (int i0 = 0; i0 < rows; i0 += B)
        for (int j0 = 0; j0 < cols; j0 += B)
            for (int j = j0; j < j0 + B && j < cols; j++)
                for (int i = i0; i < i0 + B && i < rows; i++)
                    dst[j * ldd + i] = src[i * lds + j];
}
