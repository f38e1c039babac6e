#include "core/blas.h"

#include "core/thread.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <blis.h>
#pragma GCC diagnostic pop

/* Up to FEW rows BLIS's path without packing is up to 3 times faster, but its bits depend on how threads cut the matrix:
 * there the cut is ours, fixed, and every piece is a product of one thread. Above, packing is as fast or faster. */
enum { FEW = 96, COLUMNS = 96 };

/* BLIS cuts k into blocks of KC and crosses C once for each: 576 = 256 + 256 + 64 wastes the third. Here the blocks are
 * about equal, up to 5/4 of KC (a panel of B then still fits in L1): 576 = 288 + 288. It depends on k alone. */
static void even_depth(ptrdiff_t k, cntx_t *context)
{
    cntx_t *own = (cntx_t *)bli_gks_query_cntx();
    *context = *own;
    if (k <= 0 ||
        bli_info_get_version_str()[0] != '0') /* later versions keep blocks behind a pointer: a copy would be shared */
        return;
    blksz_t depth = *bli_cntx_get_blksz(BLIS_KC, own);
    ptrdiff_t usual = bli_blksz_get_def(BLIS_FLOAT, &depth), most = usual + usual / 4;
    ptrdiff_t blocks = (k + most - 1) / most, even = ((k + blocks - 1) / blocks + 7) / 8 * 8;
    if (even <= usual / 2)
        return;
    bli_blksz_set_def(even, BLIS_FLOAT, &depth);
    bli_blksz_set_max(even, BLIS_FLOAT, &depth);
    bli_cntx_set_blksz(BLIS_KC, &depth, BLIS_KR, context);
}

static void product(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t rsa, ptrdiff_t csa,
                    const float *b, ptrdiff_t rsb, ptrdiff_t csb, float beta, float *c, ptrdiff_t rsc, ptrdiff_t csc,
                    int threads)
{
    rntm_t runtime;
    bli_rntm_init(&runtime);
    bli_rntm_set_num_threads(threads, &runtime);
    cntx_t context;
    if (m > FEW) {
        bli_rntm_disable_l3_sup(&runtime);
        even_depth(k, &context);
    }
    bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, k, &alpha, (float *)a, rsa, csa, (float *)b, rsb, csb,
                 &beta, c, rsc, csc, m > FEW ? &context : NULL, &runtime);
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
