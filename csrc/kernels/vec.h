/* A small vector of floats in GCC's vector extension: one source, every width. Included by the
 * per-ISA files only. */
#include <stdint.h>
#include <string.h>

#if defined HA_ISA_AVX512
#define W 16
#elif defined HA_ISA_AVX2
#define W 8
#else
#define W 4
#endif

/* Rows and columns of a tile of results that stays in registers. AVX2: 6 x 16 is 12 accumulators,
 * and a step of k costs 2 loads and 6 broadcasts for 12 FMAs, under the two loads a cycle that the
 * FMA units allow. */
#if defined HA_ISA_AVX512
#define MR 12
#elif defined HA_ISA_AVX2
#define MR 6
#else
#define MR 4
#endif
#define NR (2 * W)

#define INLINE static inline __attribute__((always_inline, unused))

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));

INLINE vf v_set(float x)
{
    return x - (vf){0};
}

INLINE vf v_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void v_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

/* sum + x * y, rounded once where the processor can, also in builds that do not contract. */
INLINE vf v_add_product(vf sum, vf x, vf y)
{
#if defined HA_ISA_AVX512
    return (vf)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)sum);
#elif defined HA_ISA_AVX2
    return (vf)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)sum);
#else
    return sum + x * y;
#endif
}

/* The first n < W items; the rest is `fill`. */
INLINE vf v_load_part(const float *p, size_t n, float fill)
{
    float t[W];
    for (int i = 0; i < W; i++)
        t[i] = fill;
    memcpy(t, p, n * sizeof *p);
    return v_load(t);
}

INLINE void v_store_part(float *p, vf v, size_t n)
{
    float t[W];
    v_store(t, v);
    memcpy(p, t, n * sizeof *p);
}

/* W whole numbers of 8 or 16 bits as int32. */
INLINE vi v_load_i8(const void *p)
{
#if defined HA_ISA_AVX512
    return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128(p));
#elif defined HA_ISA_AVX2
    return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64(p));
#else
    int8_t t[W];
    memcpy(t, p, sizeof t);
    return (vi){t[0], t[1], t[2], t[3]};
#endif
}

INLINE vi v_load_u8(const void *p)
{
#if defined HA_ISA_AVX512
    return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128(p));
#elif defined HA_ISA_AVX2
    return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
#else
    uint8_t t[W];
    memcpy(t, p, sizeof t);
    return (vi){t[0], t[1], t[2], t[3]};
#endif
}

INLINE vi v_load_u16(const void *p)
{
#if defined HA_ISA_AVX512
    return (vi)_mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
#elif defined HA_ISA_AVX2
    return (vi)_mm256_cvtepu16_epi32(_mm_loadu_si128(p));
#else
    uint16_t t[W];
    memcpy(t, p, sizeof t);
    return (vi){t[0], t[1], t[2], t[3]};
#endif
}

INLINE vf v_float(vi x)
{
    return __builtin_convertvector(x, vf);
}

INLINE vf v_load_bf16(const void *p)
{
    return (vf)(v_load_u16(p) << 16);
}

INLINE vf v_select(vi mask, vf yes, vf no)
{
    return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
}

INLINE vf v_max(vf a, vf b)
{
#if defined HA_ISA_AVX512
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined HA_ISA_AVX2
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return v_select(a > b, a, b);
#endif
}

/* W halves (IEEE binary16), exactly. */
INLINE vf v_load_half(const void *p)
{
#if defined HA_ISA_AVX512
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256(p));
#elif defined HA_ISA_AVX2
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128(p));
#else
    vi h = v_load_u16(p), magnitude = h & 0x7fff;
    vf normal = (vf)((magnitude << 13) + (112 << 23));
    vf tiny = __builtin_convertvector(magnitude, vf) * v_set(0x1p-24f); /* zero and subnormals */
    vf x = v_select(magnitude < 0x400, tiny, normal);
    x = v_select(magnitude >= 0x7c00, (vf)((magnitude << 13) | 0x7f800000), x);
    return (vf)((vi)x | (h & 0x8000) << 16);
#endif
}

INLINE vf v_load_half_part(const uint16_t *p, int n)
{
    uint16_t t[W] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return v_load_half(t);
}

/* Rounded to nearest even; 65520 and above become infinity. */
INLINE void v_store_half(uint16_t *p, vf v)
{
#if defined HA_ISA_AVX512
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined HA_ISA_AVX2
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
    vi bits = (vi)v, magnitude = bits & 0x7fffffff;
    vi normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112 << 23)) >> 13;
    vi tiny = (vi)((vf)magnitude + v_set(0.5f)) - (vi)v_set(0.5f); /* the sum rounds where a subnormal half ends */
    vi h = (vi)v_select(magnitude < 0x38800000, (vf)tiny, (vf)normal);
    h = (vi)v_select(magnitude >= 0x477ff000, (vf)(vi){0x7c00, 0x7c00, 0x7c00, 0x7c00}, (vf)h);
    h = (vi)v_select(magnitude > 0x7f800000, (vf)(vi){0x7e00, 0x7e00, 0x7e00, 0x7e00}, (vf)h);
    h |= bits >> 16 & 0x8000;
    for (int i = 0; i < W; i++)
        p[i] = (uint16_t)h[i];
#endif
}

INLINE vf v_min(vf a, vf b)
{
#if defined HA_ISA_AVX512
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined HA_ISA_AVX2
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return v_select(a < b, a, b);
#endif
}

/* Sums and maxima across a vector, as a fixed tree: halves onto each other. */
#if defined HA_ISA_AVX2
#define HALVES(OP, v) (__m256)(v)
#elif defined HA_ISA_AVX512
#define HALVES(OP, v)                                     \
    _mm256_##OP##_ps(_mm512_castps512_ps256((__m512)(v)), \
                     _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd((__m512)(v)), 1)))
#endif
#if defined HALVES
#define ACROSS(NAME, OP)                                            \
    INLINE float NAME(vf v)                                         \
    {                                                               \
        __m256 wide = HALVES(OP, v);                                \
        __m128 x = _mm256_castps256_ps128(wide);                    \
        x = _mm_##OP##_ps(x, _mm256_extractf128_ps(wide, 1));       \
        x = _mm_##OP##_ps(x, _mm_movehl_ps(x, x));                  \
        return _mm_cvtss_f32(_mm_##OP##_ss(x, _mm_movehdup_ps(x))); \
    }
ACROSS(v_sum, add)
ACROSS(v_reduce_max, max)
#undef ACROSS
#else
INLINE float v_sum(vf v)
{
    float t[W];
    v_store(t, v);
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            t[i] += t[i + half];
    return t[0];
}

INLINE float v_reduce_max(vf v)
{
    float t[W];
    v_store(t, v);
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            t[i] = t[i] > t[i + half] ? t[i] : t[i + half];
    return t[0];
}
#endif

/* The sums of four vectors, each in the same fixed order. */
INLINE void v_sums(const vf v[4], float sum[4])
{
#if defined HA_ISA_AVX2 || defined HA_ISA_AVX512
    __m256 t[4];
    for (int i = 0; i < 4; i++)
        t[i] = HALVES(add, v[i]);
    __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(t[0], t[1]), _mm256_hadd_ps(t[2], t[3]));
    _mm_storeu_ps(sum, _mm256_castps256_ps128(all) + _mm256_extractf128_ps(all, 1));
#else
    for (int i = 0; i < 4; i++)
        sum[i] = v_sum(v[i]);
#endif
}

/* e^x within 2 ulp: x log2 e = n + f, |f| <= 1/2, 2^f by a minimax polynomial of degree 5 (relative
 * error 9e-8) whose terms are paired to keep the chain of dependent operations short, and 2^n
 * through the exponent bits. Below -87.7 n is -127 and the bits are those of 0 (so masked logits
 * vanish); above 88.3 it saturates. */
INLINE vf v_exp(vf x)
{
    x = v_max(v_set(-88.0f), v_min(v_set(88.3f), x)); /* in this order a NaN passes through */
    vf shift = v_set(12582912.0f + 127.0f);           /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    vf t = x * v_set(1.44269502f) + shift;
    vf f = x * v_set(1.92596303e-8f) + (x * v_set(1.44269502f) - (t - shift)); /* log2 e in two parts */
    vf square = f * f;
    vf p = v_set(1.0f) + v_set(6.9314697760e-1f) * f;
    vf q = v_set(2.4022242085e-1f) + v_set(5.5507337437e-2f) * f;
    vf r = v_set(9.6715126489e-3f) + v_set(1.3264727066e-3f) * f;
    return (p + square * (q + square * r)) * (vf)((vi)t << 23);
}

INLINE vf v_sigmoid(vf x)
{
    return v_set(1.0f) / (v_set(1.0f) + v_exp(-x));
}
