/* Rows of floats that may lie apart, as the heads of q do in a joined projection: row r begins at
 * at + r * stride. */
#ifndef HA_CORE_ROWS_H
#define HA_CORE_ROWS_H

#include <stddef.h>

typedef struct {
    const float *at;
    ptrdiff_t stride;
} ha_rows;

/* The same to be written. */
typedef struct {
    float *at;
    ptrdiff_t stride;
} ha_rows_out;

static inline ha_rows ha_rows_of(const float *at, ptrdiff_t stride)
{
    return (ha_rows){at, stride};
}

static inline ha_rows_out ha_rows_to(float *at, ptrdiff_t stride)
{
    return (ha_rows_out){at, stride};
}

/* The rows from `row` on, from `column` on. */
static inline ha_rows ha_rows_from(ha_rows x, ptrdiff_t row, ptrdiff_t column)
{
    return (ha_rows){x.at + row * x.stride + column, x.stride};
}

static inline ha_rows_out ha_rows_out_from(ha_rows_out x, ptrdiff_t row, ptrdiff_t column)
{
    return (ha_rows_out){x.at + row * x.stride + column, x.stride};
}

#endif
