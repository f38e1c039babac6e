/* Transposition of items of 4 bytes, which are moved whatever they are. */

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

/* 4 x 4 */
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

/* dst [cols, rows] of src [rows, cols] */
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
