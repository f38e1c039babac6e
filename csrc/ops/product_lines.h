/* One side of a product: rows of A or columns of B, and how they are packed. */
#ifndef HA_OPS_PRODUCT_LINES_H
#define HA_OPS_PRODUCT_LINES_H

#include "kernels/kernels.h"

/* `lines` rows of A or columns of B: number j of line i is i * line + j * step numbers behind `at`,
 * of any storage type. */
typedef struct {
    ha_dtype type;
    const void *at;
    ptrdiff_t lines, line, step;
    int unit; /* lines of a panel */
    void (*pack)(int n, int k, ha_lines from, float *to, ptrdiff_t panel);
} ha_side;

/* n lines from `line`, k numbers of each from `at`, as panels that are `panel` items apart;
 * `numbers` of them are an item. Of block types `line` and `at` are multiples of HA_BLOCK_ITEMS. */
void ha_pack_lines(const ha_side *side, ptrdiff_t line, ptrdiff_t at, int n, int k, int numbers, float *to,
                   ptrdiff_t panel);

#endif
