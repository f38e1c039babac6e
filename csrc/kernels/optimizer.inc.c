/* AdamW on a piece of the arena, its moments in float32 or in bfloat16.
 *
 * A moment of 8 bits of mantissa forgets what a step adds below half of its last one, so it is rounded
 * up as often as its place between two neighbours says (stochastic rounding, Gupta et al. 2015): right
 * on average. What decides is a number drawn by step and place in the arena, which no cut and no
 * thread changes. The update itself takes the moments as they were before rounding. */

typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));

/* 32 random bits for each of W places; the mixing of "lowbias32" (C. Wellons, 2018) */
INLINE vu v_random(uint32_t key, uint32_t at)
{
    vu x;
    for (uint32_t i = 0; i < W; i++)
        x[i] = at + i;
    x ^= key;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

/* bfloat16 of x, up where the noise (16 bits) carries; infinity and NaN stay */
INLINE vh v_rounded(vf x, vu noise)
{
    const vu bits = (vu)x, carried = bits + noise;
    const vu finite = (vu)((bits & 0x7fffffffu) < 0x7f800000u);
    const vu kept = (carried & finite) | (bits & ~finite);
    return __builtin_convertvector(kept >> 16, vh);
}

/* W moments, or the `left` that there are in the last part */
INLINE vf v_load_moments(const int part, const int narrow, const void *from, size_t at, size_t left)
{
    if (!narrow)
        return part ? v_load_part((const float *)from + at, left, 0.0f) : v_load((const float *)from + at);
    uint16_t t[W] = {0};
    const uint16_t *source = (const uint16_t *)from + at;
    if (!part)
        return v_load_bf16(source);
    memcpy(t, source, left * sizeof *t);
    return v_load_bf16(t);
}

INLINE void v_store_moments(const int part, const int narrow, void *to, size_t at, size_t left, vf x, vu noise)
{
    const size_t n = part ? left : W;
    if (narrow) {
        const vh half = v_rounded(x, noise);
        memcpy((uint16_t *)to + at, &half, n * sizeof(uint16_t));
    } else if (part) {
        v_store_part((float *)to + at, x, left);
    } else {
        v_store((float *)to + at, x);
    }
}

/* A step on n items, of which the first is number `at` of the arena. */
INLINE void adamw(const int narrow, const ha_adamw_step *step, size_t n, size_t at, float *weights, float *gradients,
                  void *mean, void *square)
{
    const ha_adamw_step s = *step; /* a copy, which no store below can change */
    const vf keep = v_set(1.0f - s.rate * s.decay);
    const vf rate = v_set(s.rate / s.bias1);
    const vf unbias = v_set(1.0f / s.bias2);
    MAP(n, {
        vf gradient = LOAD(gradients) * v_set(s.clip);
        vf first = v_set(s.beta1) * v_load_moments(part, narrow, mean, i, left) + v_set(1.0f - s.beta1) * gradient;
        vf second = v_set(s.beta2) * v_load_moments(part, narrow, square, i, left) +
                    v_set(1.0f - s.beta2) * gradient * gradient;
        vu noise = narrow ? v_random(s.noise, (uint32_t)(at + i)) : (vu){0};
        v_store_moments(part, narrow, mean, i, left, first, noise & 0xffffu);
        v_store_moments(part, narrow, square, i, left, second, noise >> 16);
        STORE(gradients, v_set(0.0f));
        STORE(weights, LOAD(weights) * keep - rate * first / (v_sqrt(second * unbias) + v_set(s.eps)));
    });
}

static void k_adamw(const ha_adamw_step *step, size_t n, size_t at, float *weights, float *gradients, void *mean,
                    void *square)
{
    adamw(0, step, n, at, weights, gradients, mean, square);
}

static void k_adamw_bf16(const ha_adamw_step *step, size_t n, size_t at, float *weights, float *gradients, void *mean,
                         void *square)
{
    adamw(1, step, n, at, weights, gradients, mean, square);
}
