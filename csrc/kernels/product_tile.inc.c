/* Products of packed operands: panels of MR rows of A and NR columns of B, [k][MR] and [k][NR]
 * items of 4 bytes, padded with zeros. Both are read once from front to back, so that every load is
 * of the next bytes. An item is a float, or with HA_BF16_PAIRS two bfloat16, of which the second is
 * added first. */

/* Steps of k that B is asked for before it is used: from L2 or L3, where the first tile of a panel
 * finds it. */
enum { B_AHEAD = W == 16 ? 16 : 64 };

#if defined HA_BF16_PAIRS
INLINE int32_t bits_of(float item)
{
    int32_t bits;
    memcpy(&bits, &item, sizeof bits);
    return bits;
}

#define SPREAD(item) (vf) _mm512_set1_epi32(bits_of(item))
#define ADD_PRODUCT(sum, x, y) sum = (vf)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(x), (__m512bh)(y))
#else
#define SPREAD(item) v_set(item)
#define ADD_PRODUCT(sum, x, y) sum = v_add_product(sum, x, y)
#endif

/* One tile of C, p.rows <= MR rows and p.columns <= NR columns of which are wanted. */
INLINE void packed_tile(ha_matmul p, const float *restrict a, const float *restrict b, ha_rows_out to)
{
    const int m = (int)p.rows, n = (int)p.columns, k = (int)p.depth, accumulate = p.accumulate;
    const ptrdiff_t ldc = to.stride;
    float *c = to.at;
    vf acc[MR][2];
    for (int i = 0; i < MR; i++)
        acc[i][0] = acc[i][1] = v_set(0.0f);
    for (int i = 0; i < m; i++) {
        __builtin_prefetch(c + i * ldc, 1);
        __builtin_prefetch(c + i * ldc + NR - 1, 1);
    }
    for (int at = 0; at < k; at++, a += MR, b += NR) {
        const vf left = v_load(b), right = v_load(b + W);
        __builtin_prefetch(b + B_AHEAD * NR);
        if (4 * NR > 64)
            __builtin_prefetch(b + B_AHEAD * NR + W);
        for (int i = 0; i < MR; i++) {
            const vf x = SPREAD(a[i]);
            ADD_PRODUCT(acc[i][0], x, left);
            ADD_PRODUCT(acc[i][1], x, right);
        }
    }
    if (p.scale != 1.0f)
        for (int i = 0; i < MR; i++)
            for (int j = 0; j < 2; j++) {
                acc[i][j] *= v_set(p.scale);
                __asm__("" : "+m"(acc[i][j])); /* rounded before it is added, as the products of few rows are */
            }
    if (m == MR && n == NR) {
        for (int i = 0; i < MR; i++, c += ldc)
            for (int j = 0; j < 2; j++)
                v_store(c + j * W, accumulate ? v_load(c + j * W) + acc[i][j] : acc[i][j]);
        return;
    }
    float edge[MR * NR];
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < 2; j++)
            v_store(edge + i * NR + j * W, acc[i][j]);
    for (int i = 0; i < m; i++, c += ldc)
        for (int j = 0; j < n; j++)
            c[j] = accumulate ? c[j] + edge[i * NR + j] : edge[i * NR + j];
}

static __attribute__((noinline)) void one_tile(ha_matmul p, const float *a, const float *b, ha_rows_out c)
{
    packed_tile(p, a, b, c);
}

/* Tile by tile; the outer side stays, the inner side is read again and again. */
static void k_packed_product(ha_matmul p, const float *a, const float *b, int rows_outside, ha_rows_out c)
{
    const int m = (int)p.rows, n = (int)p.columns;
    const int down = (m + MR - 1) / MR, across = (n + NR - 1) / NR;
    const int outer = rows_outside ? down : across, inner = rows_outside ? across : down;
    for (int o = 0; o < outer; o++)
        for (int t = 0; t < inner; t++) {
            const int i = rows_outside ? o : t, j = rows_outside ? t : o;
            p.rows = m - i * MR < MR ? m - i * MR : MR;
            p.columns = n - j * NR < NR ? n - j * NR : NR;
            one_tile(p, a + i * MR * p.depth, b + j * NR * p.depth, ha_rows_out_from(c, i * MR, j * NR));
        }
}
