/* A matrix as it is stored: in the parameter arena, or in another type elsewhere, as in a mapped
 * file. */
#ifndef HA_CORE_MATRIX_H
#define HA_CORE_MATRIX_H

#include <limits.h>

#include "core/dtype.h"

/* What products with a matrix are computed in: float32, or operands rounded to bfloat16 and sums in
 * float32. */
typedef enum { HA_COMPUTE_F32, HA_COMPUTE_BF16, HA_COMPUTE_COUNT } ha_compute;

/* Rows of one type without gaps; `next` holds the rows after them, as k follows q in a joined
 * projection. */
typedef struct ha_matrix {
    ha_dtype dtype;
    const void *data;
    int rows; /* of this part */
    const struct ha_matrix *next;
    ha_compute compute; /* of the first part, for all */
} ha_matrix;

/* A float32 matrix of as many rows as are asked for. */
static inline ha_matrix ha_f32(const float *data)
{
    return (ha_matrix){HA_F32, data, INT_MAX, NULL, HA_COMPUTE_F32};
}

#endif
