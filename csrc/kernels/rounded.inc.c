/* The portable twin of bfloat16 products: operands are rounded to bfloat16 while they are packed
 * and kept as floats, and the tiles of float32 multiply them.
 *
 * It gives the bits of VDPBF16PS. That instruction adds two products to a sum, the one of the odd
 * numbers first, each product exact and each sum rounded to nearest even, numbers below 2^-126
 * counting as 0 (Intel's manual, volume 2; the same is found on AMD's Zen 4 by test_product.c). A
 * product of two bfloat16 is exact in float32, so one FMA after the other does the same, and so
 * does a multiplication before an addition: panels hold each pair of numbers in reverse. */

/* Rounded to nearest even; what is below 2^-126 becomes 0, NaN stay NaN. */
INLINE float rounded(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t magnitude = bits & 0x7fffffff;
    uint32_t near = bits + 0x7fff + (bits >> 16 & 1);
    near = magnitude > 0x7f800000 ? bits | 0x400000 : near;
    near = magnitude < 0x00800000 ? bits & 0x80000000 : near;
    near &= 0xffff0000;
    memcpy(&x, &near, sizeof x);
    return x;
}

enum { ROUND_LINES = NR, ROUND_NUMBERS = 64 };

/* n numbers, `step` apart, of float32 or bfloat16 */
INLINE void round_line(int n, ha_dtype type, const void *x, ptrdiff_t step, float *to)
{
    if (type == HA_F32)
        for (int i = 0; i < n; i++)
            to[i] = rounded(((const float *)x)[i * step]);
    else
        for (int i = 0; i < n; i++) {
            const uint32_t bits = (uint32_t)((const uint16_t *)x)[i * step] << 16;
            memcpy(to + i, &bits, sizeof bits);
        }
}

INLINE const void *at_number(ha_dtype type, const void *x, ptrdiff_t i)
{
    return (const char *)x + i * (type == HA_F32 ? (ptrdiff_t)sizeof(float) : (ptrdiff_t)sizeof(uint16_t));
}

/* Panels of `width` lines, their k numbers by reversed pairs; the last of an odd number has a zero
 * in front. */
INLINE void pack_rounded(const int width, int n, int k, ha_lines from, float *to, ptrdiff_t panel)
{
    const ha_dtype type = from.type;
    const void *x = from.at;
    const ptrdiff_t line = from.line, step = from.step;
    const int even = k + k % 2;
    for (int i = 0; i < n; i += width, to += panel) {
        const int lines = n - i < width ? n - i : width;
        if (lines < width)
            memset(to, 0, (size_t)width * (size_t)even * sizeof *to);
        if (k % 2)
            memset(to + (ptrdiff_t)(k - 1) * width, 0, (size_t)width * sizeof *to);
        if (step != 1) {
            for (int p = 0; p < k; p++)
                round_line(lines, type, at_number(type, x, p * step + i), 1, to + (ptrdiff_t)(p ^ 1) * width);
            continue;
        }
        for (int p0 = 0; p0 < k; p0 += ROUND_NUMBERS) {
            float together[ROUND_LINES * ROUND_NUMBERS], line_of[ROUND_NUMBERS];
            const int numbers = k - p0 < ROUND_NUMBERS ? k - p0 : ROUND_NUMBERS, padded = numbers + numbers % 2;
            for (int l = 0; l < lines; l++) {
                line_of[padded - 1] = 0.0f;
                round_line(numbers, type, at_number(type, x, (i + l) * line + p0), 1, line_of);
                for (int p = 0; p < padded; p++)
                    together[l * ROUND_NUMBERS + p] = line_of[p ^ 1];
            }
            k_transpose(lines, padded, together, ROUND_NUMBERS, to + (ptrdiff_t)p0 * width, width);
        }
    }
}

static void k_round_rows(int n, int k, ha_lines from, float *to, ptrdiff_t panel)
{
    pack_rounded(MR, n, k, from, to, panel);
}

static void k_round_columns(int n, int k, ha_lines from, float *to, ptrdiff_t panel)
{
    pack_rounded(NR, n, k, from, to, panel);
}
