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

INLINE void tile(const int mr, const int nv, int k, float alpha, const float *restrict a, ptrdiff_t rsa, ptrdiff_t csa,
                 const float *restrict b, ptrdiff_t ldb, int accumulate, float *restrict c, ptrdiff_t ldc)
{
    vf acc[MR][2];
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nv; j++)
            acc[i][j] = v_set(0.0f);
    for (int p = 0; p < k; p++, a += csa, b += ldb) {
        vf row[2];
        for (int j = 0; j < nv; j++)
            row[j] = v_load(b + j * W);
        for (int i = 0; i < mr; i++) {
            vf x = v_set(a[i * rsa]);
            for (int j = 0; j < nv; j++)
                acc[i][j] += x * row[j];
        }
    }
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nv; j++) {
            vf y = v_set(alpha) * acc[i][j];
            v_store(c + i * ldc + j * W, accumulate ? v_load(c + i * ldc + j * W) + y : y);
        }
}

/* The tile's row count as a constant, so that the accumulators live in registers. */
INLINE void tile_rows(int mr, const int nv, int k, float alpha, const float *a, ptrdiff_t rsa, ptrdiff_t csa,
                      const float *b, ptrdiff_t ldb, int accumulate, float *c, ptrdiff_t ldc)
{
    for (; mr >= MR; mr -= MR, a += MR * rsa, c += MR * ldc)
        tile(MR, nv, k, alpha, a, rsa, csa, b, ldb, accumulate, c, ldc);
#define REST(N)                                          \
    for (; mr >= N; mr -= N, a += N * rsa, c += N * ldc) \
        tile(N, nv, k, alpha, a, rsa, csa, b, ldb, accumulate, c, ldc);
#if MR > 8
    REST(8)
#endif
    REST(4)
    REST(2)
    REST(1)
#undef REST
}

/* The last n < W columns: B's columns are copied into a padded panel, results come back through a padded tile. */
static void tile_tail(int m, int n, int k, float alpha, const float *a, ptrdiff_t rsa, ptrdiff_t csa, const float *b,
                      ptrdiff_t ldb, int accumulate, float *c, ptrdiff_t ldc)
{
    enum { DEPTH = 256, ROWS = 64 };
    float panel[DEPTH * W], result[ROWS * W];
    for (int p0 = 0; p0 == 0 || p0 < k; p0 += DEPTH) {
        int depth = k - p0 < DEPTH ? k - p0 : DEPTH;
        for (int p = 0; p < depth; p++)
            v_store(panel + p * W, v_load_part(b + (p0 + p) * ldb, n, 0.0f));
        for (int i0 = 0; i0 < m; i0 += ROWS) {
            int rows = m - i0 < ROWS ? m - i0 : ROWS;
            tile_rows(rows, 1, depth, alpha, a + i0 * rsa + p0 * csa, rsa, csa, panel, W, 0, result, W);
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < n; j++) {
                    float *to = c + (i0 + i) * ldc + j;
                    *to = (accumulate || p0 ? *to : 0.0f) + result[i * W + j];
                }
        }
    }
}

static void k_gemm(int m, int n, int k, float alpha, const float *a, ptrdiff_t rsa, ptrdiff_t csa, const float *b,
                   ptrdiff_t ldb, int accumulate, float *c, ptrdiff_t ldc)
{
    int j = 0;
    for (; j + NR <= n; j += NR)
        tile_rows(m, 2, k, alpha, a, rsa, csa, b + j, ldb, accumulate, c + j, ldc);
    if (j + W <= n) {
        tile_rows(m, 1, k, alpha, a, rsa, csa, b + j, ldb, accumulate, c + j, ldc);
        j += W;
    }
    if (j < n)
        tile_tail(m, n - j, k, alpha, a, rsa, csa, b + j, ldb, accumulate, c + j, ldc);
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
INLINE void dots(const int mr, const int nr, int k, float alpha, const float *x, ptrdiff_t ldx, const float *w,
                 ptrdiff_t ldw, int accumulate, float *y, ptrdiff_t ldy)
{
    vf acc[4][4];
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nr; j++)
            acc[i][j] = v_set(0.0f);
    int p = 0;
    const char *ahead = (const char *)w + STREAM_AHEAD;
    for (; p + W <= k; p += W) {
        prefetch(ahead, (size_t)(nr * W) * sizeof *w);
        ahead += (size_t)(nr * W) * sizeof *w;
        for (int j = 0; j < nr; j++) {
            vf row = v_load(w + j * ldw + p);
            for (int i = 0; i < mr; i++)
                acc[i][j] += v_load(x + i * ldx + p) * row;
        }
    }
    if (p < k)
        for (int j = 0; j < nr; j++) {
            vf row = v_load_part(w + j * ldw + p, k - p, 0.0f);
            for (int i = 0; i < mr; i++)
                acc[i][j] += v_load_part(x + i * ldx + p, k - p, 0.0f) * row;
        }
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nr; j++) {
            float *to = y + i * ldy + j;
            *to = (accumulate ? *to : 0.0f) + alpha * v_sum(acc[i][j]);
        }
}

static void k_gemv(int m, int n, int k, float alpha, const float *x, ptrdiff_t ldx, const float *w, ptrdiff_t ldw,
                   int accumulate, float *y, ptrdiff_t ldy)
{
    int j = 0;
    for (; j + 4 <= n; j += 4, w += 4 * ldw) {
        int i = 0;
        for (; i + 2 <= m; i += 2)
            dots(2, 4, k, alpha, x + i * ldx, ldx, w, ldw, accumulate, y + i * ldy + j, ldy);
        if (i < m)
            dots(1, 4, k, alpha, x + i * ldx, ldx, w, ldw, accumulate, y + i * ldy + j, ldy);
    }
    for (; j < n; j++, w += ldw)
        for (int i = 0; i < m; i++)
            dots(1, 1, k, alpha, x + i * ldx, ldx, w, ldw, accumulate, y + i * ldy + j, ldy);
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
