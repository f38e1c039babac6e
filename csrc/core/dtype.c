#include "core/dtype.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    size_t items, bytes; /* of a block */
} types[HA_DTYPE_COUNT] = {{"float32", 1, 4},
                           {"bfloat16", 1, 2},
                           {"float16", 1, 2},
                           {"q8_0", HA_BLOCK_ITEMS, 34},
                           {"q4_0", HA_BLOCK_ITEMS, 18},
                           {"q4_1", HA_BLOCK_ITEMS, 20}};

const char *ha_dtype_name(ha_dtype type)
{
    return types[type].name;
}

size_t ha_dtype_block(ha_dtype type)
{
    return types[type].items;
}

size_t ha_dtype_bytes(ha_dtype type, size_t n)
{
    return n / types[type].items * types[type].bytes;
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

static void put_half(float x, uint8_t *to)
{
    uint16_t h = float_to_half(x);
    memcpy(to, &h, sizeof h);
}

static float inverse(float x)
{
    return x != 0.0f ? 1.0f / x : 0.0f;
}

/* The scale that divides is float32; its float16 rounding is what is stored. */
static void encode_q8_0(const float *x, uint8_t *to)
{
    float most = 0.0f;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    float scale = most / 127.0f, up = inverse(scale);
    put_half(scale, to);
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        to[2 + i] = (uint8_t)(int8_t)roundf(x[i] * up);
}

static uint8_t nibbles(float low, float high)
{
    return (uint8_t)((int)fminf(low, 15.0f) | (int)fminf(high, 15.0f) << 4);
}

static void encode_q4_0(const float *x, uint8_t *to)
{
    float most = x[0]; /* of the largest magnitude: it becomes -8 */
    for (int i = 1; i < HA_BLOCK_ITEMS; i++)
        if (fabsf(x[i]) > fabsf(most))
            most = x[i];
    float scale = most / -8.0f, up = inverse(scale);
    put_half(scale, to);
    for (int i = 0; i < HA_BLOCK_ITEMS / 2; i++)
        to[2 + i] = nibbles(x[i] * up + 8.5f, x[i + HA_BLOCK_ITEMS / 2] * up + 8.5f);
}

static void encode_q4_1(const float *x, uint8_t *to)
{
    float low = x[0], high = x[0];
    for (int i = 1; i < HA_BLOCK_ITEMS; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float scale = (high - low) / 15.0f, up = inverse(scale);
    put_half(scale, to);
    put_half(low, to + 2);
    for (int i = 0; i < HA_BLOCK_ITEMS / 2; i++)
        to[4 + i] = nibbles((x[i] - low) * up + 0.5f, (x[i + HA_BLOCK_ITEMS / 2] - low) * up + 0.5f);
}

void ha_from_f32(ha_dtype type, const float *src, void *dst, size_t n)
{
    static void (*const encode[HA_DTYPE_COUNT])(const float *, uint8_t *) = {
        [HA_Q8_0] = encode_q8_0, [HA_Q4_0] = encode_q4_0, [HA_Q4_1] = encode_q4_1};
    uint16_t *out = dst;
    switch (type) {
    case HA_F32:
        memcpy(dst, src, n * sizeof *src);
        break;
    case HA_BF16:
        for (size_t i = 0; i < n; i++)
            out[i] = float_to_bfloat(src[i]);
        break;
    case HA_F16:
        for (size_t i = 0; i < n; i++)
            out[i] = float_to_half(src[i]);
        break;
    default:
        for (size_t b = 0; b < n / types[type].items; b++)
            encode[type](src + b * types[type].items, (uint8_t *)dst + b * types[type].bytes);
    }
}
