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

/* Rounded to nearest even; too large becomes infinity. */
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

/* Rounded to nearest even; a NaN stays one. */
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

/* Exact. */
static float half_to_float(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = (uint32_t)(h & 0x7fff) << 13;
    if (magnitude >= 0x0f800000) /* infinity and NaN */
        return from_bits(sign | (magnitude + (224u << 23)));
    if (magnitude < 0x00800000) { /* subnormal: subtracting 0.5 puts the exponent where the number says */
        const float x = from_bits(to_bits(0.5f) + (h & 0x3ff)) - 0.5f;
        return sign ? -x : x;
    }
    return from_bits(sign | (magnitude + (112u << 23)));
}

/* The scale that divides is float32; its float16 rounding is what is stored. */
static void q8_0_grid(const float *x, ha_grid *g)
{
    float most = 0.0f;
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    g->scale = most / 127.0f;
}

/* x [HA_BLOCK_ITEMS]: the number of largest magnitude becomes -8. */
static void q4_0_grid(const float *x, ha_grid *g)
{
    float most = x[0]; /* of the largest magnitude: it becomes -8 */
    for (int i = 1; i < HA_BLOCK_ITEMS; i++)
        if (fabsf(x[i]) > fabsf(most))
            most = x[i];
    g->scale = most / -8.0f;
}

/* x [HA_BLOCK_ITEMS]: codes from the least to the largest number. */
static void q4_1_grid(const float *x, ha_grid *g)
{
    float low = x[0], high = x[0];
    for (int i = 1; i < HA_BLOCK_ITEMS; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    g->scale = (high - low) / 15.0f;
    g->low = low;
}

/* What follows from scale and low. */
static void settle(ha_grid *g)
{
    g->up = inverse(g->scale);
    g->step = half_to_float(float_to_half(g->scale));
    g->start = g->type == HA_Q4_1 ? half_to_float(float_to_half(g->low)) : g->type == HA_Q4_0 ? -8.0f * g->step : 0.0f;
}

ha_grid ha_grid_of(ha_dtype type, const float *x)
{
    ha_grid g = {.type = type};
    if (type == HA_Q8_0)
        q8_0_grid(x, &g);
    else if (type == HA_Q4_0)
        q4_0_grid(x, &g);
    else
        q4_1_grid(x, &g);
    settle(&g);
    return g;
}

ha_grid ha_grid_narrowed(ha_grid g, float part)
{
    if (g.type == HA_Q4_1)
        g.low += 7.5f * (1.0f - part) * g.scale;
    g.scale *= part;
    settle(&g);
    return g;
}

int ha_grid_code(const ha_grid *g, float x)
{
    if (g->type == HA_Q8_0)
        return (int)roundf(fminf(fmaxf(x * g->up, -127.0f), 127.0f));
    const float code = g->type == HA_Q4_0 ? x * g->up + 8.5f : (x - g->low) * g->up + 0.5f;
    return (int)fminf(fmaxf(code, 0.0f), 15.0f);
}

void ha_grid_store(const ha_grid *g, const int8_t *code, uint8_t *to)
{
    put_half(g->scale, to);
    to += 2;
    if (g->type == HA_Q4_1) {
        put_half(g->low, to);
        to += 2;
    }
    if (g->type == HA_Q8_0)
        memcpy(to, code, HA_BLOCK_ITEMS);
    else
        for (int i = 0; i < HA_BLOCK_ITEMS / 2; i++)
            to[i] = (uint8_t)(code[i] | code[i + HA_BLOCK_ITEMS / 2] << 4);
}

/* One block of `type` from x [HA_BLOCK_ITEMS]. */
static void encode_block(ha_dtype type, const float *x, uint8_t *to)
{
    const ha_grid grid = ha_grid_of(type, x);
    int8_t code[HA_BLOCK_ITEMS];
    for (int i = 0; i < HA_BLOCK_ITEMS; i++)
        code[i] = (int8_t)ha_grid_code(&grid, x[i]);
    ha_grid_store(&grid, code, to);
}

void ha_from_f32(ha_dtype type, const float *src, void *dst, size_t n)
{
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
            encode_block(type, src + b * types[type].items, (uint8_t *)dst + b * types[type].bytes);
    }
}
