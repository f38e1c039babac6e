/* Packing of float32 operands for product_tile.inc.c. */

/* Panels of `width` lines: panel j goes to to + j * panel, [k][width]. */
INLINE void pack_panels(const int width, int n, int k, ha_lines from, float *to, ptrdiff_t panel)
{
    const float *x = from.at;
    const ptrdiff_t line = from.line, step = from.step;
    enum { NUMBERS = 16 }; /* of all lines, before the next: rows of x are then read once */
    for (int i = n / width * width; i < n; i += width)
        memset(to + i / width * panel, 0, (size_t)width * (size_t)k * sizeof *to);
    if (step == 1) {
        for (int i = 0; i < n; i += width, to += panel)
            k_transpose(n - i < width ? n - i : width, k, x + i * line, line, to, width);
        return;
    }
    for (int p0 = 0; p0 < k; p0 += NUMBERS)
        for (int i = 0; i < n; i += width) {
            const float *row = x + p0 * step + i;
            float *at = to + i / width * panel + (ptrdiff_t)p0 * width;
            const int last = p0 + NUMBERS < k ? NUMBERS : k - p0;
            if (i + width <= n)
                for (int p = 0; p < last; p++, row += step, at += width)
                    memcpy(at, row, (size_t)width * sizeof *at);
            else
                for (int p = 0; p < last; p++, row += step, at += width)
                    memcpy(at, row, (size_t)(n - i) * sizeof *at);
        }
}

static void k_pack_rows(int n, int k, ha_lines from, float *to, ptrdiff_t panel)
{
    pack_panels(MR, n, k, from, to, panel);
}

static void k_pack_columns(int n, int k, ha_lines from, float *to, ptrdiff_t panel)
{
    pack_panels(NR, n, k, from, to, panel);
}
