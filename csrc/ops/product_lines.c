/* Packing of operands of any storage type. Types that no kernel packs are decoded first, a tile at
 * a time on the stack. */
#include "ops/product_lines.h"

/* Whole panels of every kernel, and whole blocks of numbers. */
enum { TILE_LINES = 96, TILE_NUMBERS = 64 };

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* The number that lies i numbers behind `at`; of block types i is a multiple of the block. */
static const void *number(const ha_side *s, ptrdiff_t i)
{
    return (const char *)s->at + ha_dtype_bytes(s->type, (size_t)i);
}

/* At most TILE_LINES lines of TILE_NUMBERS numbers. */
static void pack_tile(const ha_side *s, ptrdiff_t line, ptrdiff_t at, int n, int k, float *to, ptrdiff_t panel)
{
    float tile[TILE_LINES * TILE_NUMBERS];
    const int long_lines = s->step == 1, rows = long_lines ? n : k, wide = long_lines ? k : n;
    const ptrdiff_t stride = long_lines ? s->line : s->step;
    const int whole = (wide + HA_BLOCK_ITEMS - 1) / HA_BLOCK_ITEMS * HA_BLOCK_ITEMS;
    const size_t block = ha_dtype_block(s->type), count = block == 1 ? (size_t)wide : (size_t)whole;
    for (int r = 0; r < rows; r++)
        ha_kernels_get()->decode[s->type](count, number(s, line * s->line + at * s->step + r * stride),
                                          tile + r * whole);
    s->pack(n, k, (ha_lines){HA_F32, tile, long_lines ? whole : 1, long_lines ? 1 : whole}, to, panel);
}

void ha_pack_lines(const ha_side *s, ptrdiff_t line, ptrdiff_t at, int n, int k, int numbers, float *to,
                   ptrdiff_t panel)
{
    if (s->type == HA_F32 || s->type == HA_BF16) {
        s->pack(n, k, (ha_lines){s->type, number(s, line * s->line + at * s->step), s->line, s->step}, to, panel);
        return;
    }
    for (int i = 0; i < n; i += TILE_LINES)
        for (int j = 0; j < k; j += TILE_NUMBERS)
            pack_tile(s, line + i, at + j, min(n - i, TILE_LINES), min(k - j, TILE_NUMBERS),
                      to + i / s->unit * panel + (ptrdiff_t)(j / numbers) * s->unit, panel);
}
