/* The seam to BLIS: matrix products with general strides. No other file knows a BLIS name. */
#ifndef HA_CORE_BLAS_H
#define HA_CORE_BLAS_H

#include <stddef.h>

/* C[m,n] = beta * C + alpha * A[m,k] B[k,n]; element (i,j) of X lies at i*rs + j*cs; beta = 0 never reads C.
 * Runs on ha_threads() threads; the result does not depend on how many there are. */
void ha_gemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t rsa, ptrdiff_t csa,
             const float *b, ptrdiff_t rsb, ptrdiff_t csb, float beta, float *c, ptrdiff_t rsc, ptrdiff_t csc);
/* The same on the calling thread alone, for pieces of a product inside a parallel region. */
void ha_gemm_alone(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t rsa, ptrdiff_t csa,
                   const float *b, ptrdiff_t rsb, ptrdiff_t csb, float beta, float *c, ptrdiff_t rsc, ptrdiff_t csc);

/* "0.9.0", "zen3": what was linked and what it picked for this processor. */
const char *ha_blas_version(void);
const char *ha_blas_arch(void);

#endif
