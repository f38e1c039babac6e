/* Naive twins of the storage types: the numbers that are left of a matrix once it is stored. */
#include "ref/ref.h"

#include <math.h>

/* x with `bits` of mantissa and exponents down to `lowest`, ties to even */
static double rounded(double x, int bits, int lowest)
{
    int exponent;
    frexp(x, &exponent); /* |x| in [2^(exponent - 1), 2^exponent) */
    double unit = ldexp(1.0, (exponent - 1 > lowest ? exponent - 1 : lowest) - bits);
    return x == 0.0 ? 0.0 : nearbyint(x / unit) * unit;
}

static double half(double x)
{
    return rounded(x, 10, -14);
}

/* The code of x: GGML defines it by these float32 operations, which decide where ties fall. */
static double code(double x, double low, double scale)
{
    return (double)(((float)x - (float)low) * (1.0f / (float)scale));
}

/* scale = largest magnitude / 127 */
static void q8_0(const double *x, double *y)
{
    double most = 0.0;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        most = fmax(most, fabs(x[i]));
    double scale = (float)most / 127.0f;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        y[i] = most == 0.0 ? 0.0 : half(scale) * round(code(x[i], 0.0, scale));
}

/* the number of the largest magnitude becomes -8 */
static void q4_0(const double *x, double *y)
{
    double most = 0.0;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        most = fabs(x[i]) > fabs(most) ? x[i] : most;
    double scale = most / -8;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        y[i] = most == 0.0 ? 0.0 : half(scale) * (fmin(floor((float)code(x[i], 0.0, scale) + 8.5f), 15) - 8);
}

/* the smallest number becomes 0, the largest 15 */
static void q4_1(const double *x, double *y)
{
    double low = x[0], high = x[0];
    for (int i = 1; i < HA_BLOCK_ITEMS; i++) {
        low = fmin(low, x[i]);
        high = fmax(high, x[i]);
    }
    double scale = ((float)high - (float)low) / 15.0f;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        y[i] = half(low) + (scale == 0.0 ? 0.0 : half(scale) * fmin(floor((float)code(x[i], low, scale) + 0.5f), 15));
}

void ref_stored(ha_dtype type, size_t n, const double *x, double *y)
{
    for (size_t i = 0; i < n; i += ha_dtype_block(type))
        switch (type) {
        case HA_Q8_0:
            q8_0(x + i, y + i);
            break;
        case HA_Q4_0:
            q4_0(x + i, y + i);
            break;
        case HA_Q4_1:
            q4_1(x + i, y + i);
            break;
        case HA_F16:
            y[i] = half(x[i]);
            break;
        case HA_BF16:
            y[i] = rounded(x[i], 7, -126);
            break;
        default:
            y[i] = x[i];
        }
}
