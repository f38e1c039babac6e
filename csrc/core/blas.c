#include "core/blas.h"

#include "core/thread.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <blis.h>
#pragma GCC diagnostic pop

/* Up to FEW rows BLIS's path without packing is up to 3 times faster, but its bits depend on how threads cut the matrix:
 * there the cut is ours, fixed, and every piece is a product of one thread. Above, packing is as fast or faster. */
enum { FEW = 96, COLUMNS = 96 };

static void product(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t rsa, ptrdiff_t csa,
                    const float *b, ptrdiff_t rsb, ptrdiff_t csb, float beta, float *c, ptrdiff_t rsc, ptrdiff_t csc,
                    int threads)
{
    rntm_t runtime;
    bli_rntm_init(&runtime);
    bli_rntm_set_num_threads(threads, &runtime);
    if (m > FEW)
        bli_rntm_disable_l3_sup(&runtime);
    bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, k, &alpha, (float *)a, rsa, csa, (float *)b, rsb, csb,
                 &beta, c, rsc, csc, NULL, &runtime);
}

void ha_gemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t rsa, ptrdiff_t csa,
             const float *b, ptrdiff_t rsb, ptrdiff_t csb, float beta, float *c, ptrdiff_t rsc, ptrdiff_t csc)
{
    if (m <= 0 || n <= 0)
        return;
    if (m > FEW) {
        product(m, n, k, alpha, a, rsa, csa, b, rsb, csb, beta, c, rsc, csc, ha_threads());
        return;
    }
    ptrdiff_t blocks = (n + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (blocks > 1)
    for (ptrdiff_t i = 0; i < blocks; i++) {
        ptrdiff_t from = i * COLUMNS, width = n - from < COLUMNS ? n - from : COLUMNS;
        product(m, width, k, alpha, a, rsa, csa, b + from * csb, rsb, csb, beta, c + from * csc, rsc, csc, 1);
    }
}

void ha_gemm_alone(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t rsa, ptrdiff_t csa,
                   const float *b, ptrdiff_t rsb, ptrdiff_t csb, float beta, float *c, ptrdiff_t rsc, ptrdiff_t csc)
{
    if (m > 0 && n > 0)
        product(m, n, k, alpha, a, rsa, csa, b, rsb, csb, beta, c, rsc, csc, 1);
}

const char *ha_blas_version(void)
{
    return bli_info_get_version_str();
}

const char *ha_blas_arch(void)
{
    return bli_arch_string(bli_arch_query_id());
}
