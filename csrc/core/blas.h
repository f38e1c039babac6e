/* The seam to BLIS: matrix products, and which kernels it takes. No file but blas*.c knows a BLIS name. */
#ifndef HA_CORE_BLAS_H
#define HA_CORE_BLAS_H

#include "core/matmul.h"
#include "core/status.h"

/* C [rows, columns] = A [rows, depth] B [depth, columns] on ha_threads() threads; the result does
 * not depend on how many there are. */
void ha_gemm(ha_matmul p, ha_view a, ha_view b, ha_rows_out c);
/* The same on the calling thread alone, for pieces of a product inside a parallel region. */
void ha_gemm_alone(ha_matmul p, ha_view a, ha_view b, ha_rows_out c);

/* "0.9.0", "zen3": what was linked and what it picked for this processor. */
const char *ha_blas_version(void);
/* The processor that BLIS takes this one for, as "zen3". */
const char *ha_blas_arch(void);
/* HA_BAD_VALUE, with a message, where BLIS_ARCH_TYPE names kernels that BLIS does not have; every other call of
 * BLIS would end the process then. */
ha_status ha_blas_check(void);

#endif
