/* bfloat16 products count numbers below 2^-126 as 0, as the processor's own instructions always do.
 * Where there is a mode for it, it is set for the length of a product and put back. */
#if defined __SSE__
#include <xmmintrin.h>
#endif

static void k_bf16_product(ha_matmul p, const float *a, const float *b, int rows_outside, ha_rows_out c)
{
#if defined __SSE__
    enum { FLUSH_RESULTS = 0x8000, FLUSH_OPERANDS = 0x0040 };
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | FLUSH_RESULTS | FLUSH_OPERANDS);
#endif
    k_packed_product(p, a, b, rows_outside, c);
#if defined __SSE__
    _mm_setcsr(before);
#endif
}
