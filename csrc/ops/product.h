/* C = A B for matrices of any size: the driver of all products of many rows. */
#ifndef HA_OPS_PRODUCT_H
#define HA_OPS_PRODUCT_H

#include <stddef.h>

/* A matrix in memory: element (i, j) lies at x[i * row + j * column], and one of the two is 1. */
typedef struct {
    const float *x;
    ptrdiff_t row, column;
} ha_view;

static inline ha_view ha_view_rows(const float *x, ptrdiff_t ld)
{
    return (ha_view){x, ld, 1};
}

static inline ha_view ha_view_transposed(const float *x, ptrdiff_t ld)
{
    return (ha_view){x, 1, ld};
}

/* C[m,n] = (accumulate ? C : 0) + alpha A[m,k] B[k,n], C row-major. */
void ha_product(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, ha_view a, ha_view b, int accumulate, float *c,
                ptrdiff_t ldc);

#endif
