/* Packing for VDPBF16PS: an item of a panel is two numbers of one line, the first in its low half.
 * Conversion is to nearest even, and counts what is below 2^-126 as 0. */

enum { PAIR_LINES = NR, PAIR_NUMBERS = 64 };

INLINE __mmask16 first_16(int n)
{
    return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}

/* Up to 16 numbers that lie together, zeros behind them. */
INLINE __m256i load_16(int n, ha_dtype type, const void *x, ptrdiff_t at)
{
    if (type == HA_F32)
        return (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(first_16(n), (const float *)x + at));
    const uint16_t *from = (const uint16_t *)x + at;
    if (n >= 16)
        return _mm256_loadu_si256((const __m256i *)from);
    uint16_t part[16] = {0};
    if (n > 0)
        memcpy(part, from, (size_t)n * sizeof *part);
    return _mm256_loadu_si256((const __m256i *)part);
}

/* The pairs of up to 16 lines: numbers `at` and at + step of each. */
INLINE __m512 pairs_of(int n, ha_dtype type, const void *x, ptrdiff_t at, ptrdiff_t step, int both)
{
    const __m256i first = load_16(n, type, x, at), second = load_16(both ? n : 0, type, x, both ? at + step : at);
    const __m512i low = _mm512_cvtepu16_epi32(first), high = _mm512_cvtepu16_epi32(second);
    return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

/* Lines whose numbers lie together: each is converted, then the pairs are transposed. */
INLINE void pack_long(const int width, int lines, int k, ha_dtype type, const void *x, ptrdiff_t line, ptrdiff_t from,
                      float *to)
{
    for (int p0 = 0; p0 < k; p0 += PAIR_NUMBERS) {
        float together[PAIR_LINES * PAIR_NUMBERS / 2];
        const int numbers = k - p0 < PAIR_NUMBERS ? k - p0 : PAIR_NUMBERS;
        for (int l = 0; l < lines; l++)
            for (int p = 0; p < numbers; p += 16) {
                const __m256i sixteen = load_16(numbers - p, type, x, from + l * line + p0 + p);
                memcpy(together + (l * PAIR_NUMBERS + p) / 2, &sixteen, sizeof sixteen);
            }
        k_transpose(lines, (numbers + 1) / 2, together, PAIR_NUMBERS / 2, to + (ptrdiff_t)p0 / 2 * width, width);
    }
}

INLINE void pack_pairs(const int width, int n, int k, const ha_dtype type, ha_lines from, float *to, ptrdiff_t panel)
{
    const void *x = from.at;
    const ptrdiff_t line = from.line, step = from.step;
    enum { PAIRS = 16 }; /* of all lines, before the next: rows of x are then read once */
    const int pairs = (k + 1) / 2;
    if (step == 1) {
        for (int i = 0; i < n; i += width, to += panel) {
            const int lines = n - i < width ? n - i : width;
            if (lines < width)
                memset(to, 0, (size_t)width * (size_t)pairs * sizeof *to);
            pack_long(width, lines, k, type, x, line, i * line, to);
        }
        return;
    }
    for (int p0 = 0; p0 < pairs; p0 += PAIRS)
        for (int i = 0; i < n; i += width) {
            float *at = to + i / width * panel + (ptrdiff_t)p0 * width;
            const int last = p0 + PAIRS < pairs ? p0 + PAIRS : pairs;
            for (int p = p0; p < last; p++, at += width)
                for (int l = 0; l < width; l += 16)
                    _mm512_mask_storeu_ps(at + l, first_16(width - l),
                                          pairs_of(n - i - l < width - l ? n - i - l : width - l, type, x,
                                                   2 * p * step + i + l, step, 2 * p + 1 < k));
        }
}

static void k_pair_rows(int n, int k, ha_lines from, float *to, ptrdiff_t panel)
{
    if (from.type == HA_F32)
        pack_pairs(MR, n, k, HA_F32, from, to, panel);
    else
        pack_pairs(MR, n, k, HA_BF16, from, to, panel);
}

static void k_pair_columns(int n, int k, ha_lines from, float *to, ptrdiff_t panel)
{
    if (from.type == HA_F32)
        pack_pairs(NR, n, k, HA_F32, from, to, panel);
    else
        pack_pairs(NR, n, k, HA_BF16, from, to, panel);
}
