/* C = A B for matrices of any size: the driver of all products of many rows. */
#ifndef HA_OPS_PRODUCT_H
#define HA_OPS_PRODUCT_H

#include "core/matmul.h"

/* C [rows, columns] = A [rows, depth] B [depth, columns] on ha_threads() threads. */
void ha_product(ha_matmul p, ha_view a, ha_view b, ha_rows_out c);
/* The same with both operands rounded to bfloat16 (nearest even) and sums in float32. Numbers below
 * 2^-126 count as 0. */
void ha_product_bf16(ha_matmul p, ha_view a, ha_stored_view b, ha_rows_out c);

#endif
