/* What the tests of products share: operands, and numbers of C against sums in double. */
#ifndef TESTS_PRODUCTS_H
#define TESTS_PRODUCTS_H

#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "core/matmul.h"
#include "core/rng.h"

/* From -1/2 to 1/2, times powers of two; `spread`: how many of them */
static inline float *numbers(size_t n, int spread, uint64_t seed)
{
    ha_rng rng = ha_rng_seed(seed);
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        const double part = ha_rng_uniform(&rng) - 0.5;
        x[i] = (float)(spread ? ldexp(part, (int)((ha_rng_uniform(&rng) - 0.5) * spread)) : part);
    }
    return x;
}

typedef struct {
    const float *before, *after; /* C [rows, columns], rows `stride` apart */
    ptrdiff_t stride;
} c_of_product;

/* A few numbers of C, at all corners, edges and between. `rounded`: what becomes of an operand first.
 * `tolerance`: of a sum of 50 products. */
static inline void compare_product(ha_matmul p, ha_view a, ha_view b, c_of_product c, float (*rounded)(float),
                                   double tolerance)
{
    for (ptrdiff_t i = 0; i < p.rows; i += i < 13 || i > p.rows - 14 ? 1 : 37)
        for (ptrdiff_t j = 0; j < p.columns; j += j < 33 || j > p.columns - 34 ? 1 : 41) {
            double sum = 0.0;
            for (ptrdiff_t k = 0; k < p.depth; k++)
                sum +=
                    (double)rounded(a.at[i * a.row + k * a.column]) * (double)rounded(b.at[k * b.row + j * b.column]);
            const double old = p.accumulate ? (double)c.before[i * c.stride + j] : 0.0;
            CHECK_CLOSE(c.after[i * c.stride + j], old + (double)p.scale * sum,
                        tolerance * (1.0 + (double)p.depth / 50.0));
        }
}

/* What lies between the rows of C stays. */
static inline void compare_between(ha_matmul p, c_of_product c)
{
    for (ptrdiff_t i = 0; i < p.rows; i++)
        CHECK(memcmp(c.after + i * c.stride + p.columns, c.before + i * c.stride + p.columns,
                     (size_t)(c.stride - p.columns) * sizeof *c.after) == 0);
}

#endif
