/* One product of matrices: what is computed, and how its operands lie in memory. */
#ifndef HA_CORE_MATMUL_H
#define HA_CORE_MATMUL_H

#include <stddef.h>

#include "core/dtype.h"
#include "core/rows.h"

/* C = (accumulate ? C : 0) + scale A B; A [rows, depth], B [depth, columns], C [rows, columns] */
typedef struct {
    ptrdiff_t rows, columns, depth;
    float scale;
    int accumulate;
} ha_matmul;

/* The same with a scale of 1. */
static inline ha_matmul ha_matmul_of(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, int accumulate)
{
    return (ha_matmul){rows, columns, depth, 1.0f, accumulate};
}

/* A matrix in memory: element (i, j) lies at at[i * row + j * column], and one of the two is 1. */
typedef struct {
    const float *at;
    ptrdiff_t row, column;
} ha_view;

static inline ha_view ha_view_rows(ha_rows x)
{
    return (ha_view){x.at, x.stride, 1};
}

static inline ha_view ha_view_transposed(ha_rows x)
{
    return (ha_view){x.at, 1, x.stride};
}

/* The same of numbers of any storage type; for the block types `column` is 1 in memory and `row` a
 * whole number of blocks, or the other way round, as of W^T. */
typedef struct {
    ha_dtype type;
    const void *at;
    ptrdiff_t row, column;
} ha_stored_view;

static inline ha_stored_view ha_view_stored(ha_view x)
{
    return (ha_stored_view){HA_F32, x.at, x.row, x.column};
}

#endif
