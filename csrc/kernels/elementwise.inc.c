/* Loops over n items: dot products, activations, AdamW. MAP writes the vector body once, for whole
 * vectors and the tail. */
#define MAP(n, BODY)                   \
    do {                               \
        size_t i = 0;                  \
        for (; i + W <= (n); i += W) { \
            enum { part = 0 };         \
            const size_t left = W;     \
            (void)left;                \
            BODY                       \
        }                              \
        if (i < (n)) {                 \
            enum { part = 1 };         \
            const size_t left = (n)-i; \
            BODY                       \
        }                              \
    } while (0)
#define LOAD(p) (part ? v_load_part((p) + i, left, 0.0f) : v_load((p) + i))
#define STORE(p, v) (part ? v_store_part((p) + i, (v), left) : v_store((p) + i, (v)))

static float k_dot(size_t n, const float *x, const float *y)
{
    vf a = v_set(0.0f), b = a;
    size_t i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        a += v_load(x + i) * v_load(y + i);
        b += v_load(x + i + W) * v_load(y + i + W);
    }
    x += i, y += i, n -= i;
    MAP(n, { a += LOAD(x) * LOAD(y); });
    return v_sum(a + b);
}

static void k_axpy(size_t n, float a, const float *x, float *y)
{
    MAP(n, { STORE(y, LOAD(y) + v_set(a) * LOAD(x)); });
}

static void k_mul_add(size_t n, const float *a, const float *b, float *y)
{
    MAP(n, { STORE(y, LOAD(y) + LOAD(a) * LOAD(b)); });
}

static double k_sum_squares(size_t n, const float *x)
{
    double sum = 0.0;
    while (n > 0) { /* short float sums, added up in double */
        size_t block = n < 1024 ? n : 1024;
        sum += (double)k_dot(block, x, x);
        x += block, n -= block;
    }
    return sum;
}

static void k_exp(size_t n, const float *x, float *y)
{
    MAP(n, { STORE(y, v_exp(LOAD(x))); });
}

static void k_sigmoid(size_t n, const float *x, float *y)
{
    MAP(n, { STORE(y, v_sigmoid(LOAD(x))); });
}

static void k_sigmoid_backward(size_t n, const float *x, const float *dy, float *dx)
{
    MAP(n, {
        vf s = v_sigmoid(LOAD(x));
        STORE(dx, LOAD(dy) * (s * (v_set(1.0f) - s)));
    });
}

INLINE vf v_tanh(vf x)
{
    return v_set(2.0f) * v_sigmoid(v_set(2.0f) * x) - v_set(1.0f);
}

static void k_tanh(size_t n, const float *x, float *y)
{
    MAP(n, { STORE(y, v_tanh(LOAD(x))); });
}

static void k_tanh_backward(size_t n, const float *x, const float *dy, float *dx)
{
    MAP(n, {
        vf t = v_tanh(LOAD(x));
        STORE(dx, LOAD(dy) * (v_set(1.0f) - t * t));
    });
}

static void k_same(size_t n, const float *x, float *y)
{
    MAP(n, { STORE(y, LOAD(x)); });
}

static void k_same_backward(size_t n, const float *x, const float *dy, float *dx)
{
    (void)x;
    MAP(n, { STORE(dx, LOAD(dy)); });
}

static void k_silu(size_t n, const float *x, float *y)
{
    MAP(n, {
        vf a = LOAD(x);
        STORE(y, a * v_sigmoid(a));
    });
}

/* silu'(a) = s (1 + a (1 - s)), s = sigmoid(a) */
INLINE vf v_silu_slope(vf a, vf s)
{
    return s * (v_set(1.0f) + a * (v_set(1.0f) - s));
}

static void k_silu_backward(size_t n, const float *x, const float *dy, float *dx)
{
    MAP(n, {
        vf a = LOAD(x);
        STORE(dx, LOAD(dy) * v_silu_slope(a, v_sigmoid(a)));
    });
}

/* The normal distribution's Phi(-a), a >= 0, from e = exp(-a^2 / 2): Mills' ratio as a polynomial
 * in 1 / (1 + .29 a), fitted to a relative error of 2e-8 up to a = 7. Both tails keep their
 * relative accuracy, as no 1 is taken away from a 1. */
INLINE vf v_normal_tail(vf a, vf e)
{
    vf t = v_set(1.0f) / (v_set(1.0f) + v_set(0.29f) * a);
    vf square = t * t;
    vf p = v_set(1.1544464745e-1f) + v_set(1.1949032448e-1f) * t;
    vf q = v_set(8.1076178801e-2f) + v_set(1.7752945171e-1f) * t;
    vf r = v_set(-1.4139719184e-1f) + v_set(2.9892623814e-1f) * t;
    vf s = v_set(-1.8987708999e-1f) + v_set(3.8807431458e-2f) * t;
    return e * t * (p + square * (q + square * (r + square * s)));
}

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|) */
static void k_gelu(size_t n, const float *x, float *y)
{
    MAP(n, {
        vf u = LOAD(x);
        vf a = v_max(u, -u);
        STORE(y, v_max(u, v_set(0.0f)) - a * v_normal_tail(a, v_exp(v_set(-0.5f) * u * u)));
    });
}

/* Phi(x) + x phi(x) */
static void k_gelu_backward(size_t n, const float *x, const float *dy, float *dx)
{
    MAP(n, {
        vf u = LOAD(x);
        vf e = v_exp(v_set(-0.5f) * u * u);
        vf tail = v_normal_tail(v_max(u, -u), e);
        vf below = v_select(u > v_set(0.0f), v_set(1.0f) - tail, tail);
        STORE(dx, LOAD(dy) * (below + v_set(0.3989422804f) * u * e));
    });
}

/* 1/2 x (1 + tanh(sqrt(2 / pi) (x + .044715 x^3))) = x sigmoid(twice that angle) */
INLINE vf v_gelu_angle(vf x)
{
    return x * (v_set(1.5957691216f) + v_set(7.1354816e-2f) * x * x);
}

static void k_gelu_tanh(size_t n, const float *x, float *y)
{
    MAP(n, {
        vf u = LOAD(x);
        STORE(y, u * v_sigmoid(v_gelu_angle(u)));
    });
}

static void k_gelu_tanh_backward(size_t n, const float *x, const float *dy, float *dx)
{
    MAP(n, {
        vf u = LOAD(x);
        vf s = v_sigmoid(v_gelu_angle(u));
        vf slope = u * (v_set(1.5957691216f) + v_set(2.14064448e-1f) * u * u);
        STORE(dx, LOAD(dy) * s * (v_set(1.0f) + slope * (v_set(1.0f) - s)));
    });
}

static void k_relu(size_t n, const float *x, float *y)
{
    MAP(n, { STORE(y, v_max(v_set(0.0f), LOAD(x))); }); /* in this order a NaN passes through */
}

static void k_relu_backward(size_t n, const float *x, const float *dy, float *dx)
{
    MAP(n, { STORE(dx, v_select(LOAD(x) > v_set(0.0f), LOAD(dy), v_set(0.0f))); });
}

static void k_silu_mul(size_t n, const float *a, const float *b, float *y)
{
    MAP(n, {
        vf u = LOAD(a);
        STORE(y, u * v_sigmoid(u) * LOAD(b));
    });
}

static void k_silu_mul_backward(size_t n, const float *a, const float *b, const float *dy, float *da, float *db,
                                float *y)
{
    MAP(n, {
        vf u = LOAD(a);
        vf g = LOAD(b);
        vf d = LOAD(dy);
        vf s = v_sigmoid(u);
        if (y)
            STORE(y, u * s * g);
        STORE(da, d * g * v_silu_slope(u, s));
        STORE(db, d * u * s);
    });
}
