#include "core/dtype.h"

#include <string.h>

static const struct {
    const char *name;
    size_t size;
} types[HA_DTYPE_COUNT] = {{"float32", 4}, {"bfloat16", 2}, {"float16", 2}};

const char *ha_dtype_name(ha_dtype type)
{
    return types[type].name;
}

size_t ha_dtype_size(ha_dtype type)
{
    return types[type].size;
}

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31)
        return from_bits(sign | 0x7f800000 | mantissa << 13);
    if (exponent == 0) /* zero and subnormals: mantissa * 2^-24, exact in float32 */
        return from_bits(sign | to_bits((float)mantissa * 0x1p-24f));
    return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

static uint16_t float_to_half(float x)
{
    uint32_t bits = to_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* subnormal: adding 0.5 puts the rounding where the half's last bit is */
        float shifted = from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (to_bits(shifted) - to_bits(0.5f)));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1) - (112u << 23);
    return (uint16_t)(sign | magnitude >> 13);
}

static uint16_t float_to_bfloat(float x)
{
    uint32_t bits = to_bits(x);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void ha_to_f32(ha_dtype type, const void *src, float *dst, size_t n)
{
    const uint16_t *in = src;
    switch (type) {
    case HA_BF16:
        for (size_t i = 0; i < n; i++)
            dst[i] = from_bits((uint32_t)in[i] << 16);
        break;
    case HA_F16:
        for (size_t i = 0; i < n; i++)
            dst[i] = half_to_float(in[i]);
        break;
    default:
        memcpy(dst, src, n * sizeof *dst);
    }
}

void ha_from_f32(ha_dtype type, const float *src, void *dst, size_t n)
{
    uint16_t *out = dst;
    switch (type) {
    case HA_BF16:
        for (size_t i = 0; i < n; i++)
            out[i] = float_to_bfloat(src[i]);
        break;
    case HA_F16:
        for (size_t i = 0; i < n; i++)
            out[i] = float_to_half(src[i]);
        break;
    default:
        memcpy(dst, src, n * sizeof *src);
    }
}
