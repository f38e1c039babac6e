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

/* q = the whole number nearest to x / scale, and x becomes half(scale) q */
static void q8_0(const double *x, double *y)
{
    double most = 0.0;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        most = fmax(most, fabs(x[i]));
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        y[i] = most == 0.0 ? 0.0 : half(most / 127) * round(x[i] / (most / 127));
}

/* the number of the largest magnitude becomes -8 */
static void q4_0(const double *x, double *y)
{
    double most = 0.0;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        most = fabs(x[i]) > fabs(most) ? x[i] : most;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        y[i] = most == 0.0 ? 0.0 : half(most / -8) * (fmin(floor(x[i] / (most / -8) + 8.5), 15) - 8);
}

/* the smallest number becomes 0, the largest 15 */
static void q4_1(const double *x, double *y)
{
    double low = x[0], high = x[0];
    for (int i = 1; i < HA_BLOCK_ITEMS; i++) {
        low = fmin(low, x[i]);
        high = fmax(high, x[i]);
    }
    double scale = (high - low) / 15;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        y[i] = half(low) + (scale == 0.0 ? 0.0 : half(scale) * fmin(floor((x[i] - low) / scale + 0.5), 15));
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
