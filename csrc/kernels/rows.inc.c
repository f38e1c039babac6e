/* Kernels that reduce along one row: RMSNorm, LayerNorm, the two-sided softmax feature, RoPE,
 * attention tiles, losses. */

static float k_rms_norm(int d, const float *x, const float *w, float eps, float *y)
{
    size_t n = (size_t)d;
    float r = 1.0f / sqrtf(k_dot(n, x, x) / (float)d + eps);
    MAP(n, { STORE(y, LOAD(x) * v_set(r) * LOAD(w)); });
    return r;
}

/* y_i = x_i w_i r, r = (mean x^2 + eps)^-1/2:  dx = r (w dy) - x r^3 mean(x w dy) */
static void k_rms_norm_backward(int d, const float *x, const float *w, float eps, const float *dy, float *dx, float *dw)
{
    size_t n = (size_t)d;
    float r = 1.0f / sqrtf(k_dot(n, x, x) / (float)d + eps);
    vf sum = v_set(0.0f);
    MAP(n, { sum += LOAD(x) * LOAD(w) * LOAD(dy); });
    float pull = v_sum(sum) / (float)d * r * r * r;
    MAP(n, {
        vf u = LOAD(x);
        vf g = LOAD(dy);
        STORE(dx, LOAD(dx) + v_set(r) * LOAD(w) * g - v_set(pull) * u);
        if (dw)
            STORE(dw, LOAD(dw) + v_set(r) * u * g);
    });
}

/* The centre of a row, mean + rest: one float cannot say it well enough where the spread around it
 * is small. */
typedef struct {
    float mean, rest, inverse; /* inverse: 1 / sqrt(variance + eps) */
} centre;

static centre k_centre(int d, const float *x, float eps)
{
    size_t n = (size_t)d;
    centre c;
    vf sum = v_set(0.0f);
    MAP(n, { sum += LOAD(x); });
    c.mean = v_sum(sum) / (float)d;
    vf square = sum = v_set(0.0f);
    MAP(n, {
        vf u = (part ? v_load_part(x + i, left, c.mean) : v_load(x + i)) - v_set(c.mean);
        sum += u;
        square += u * u;
    });
    c.rest = v_sum(sum) / (float)d;
    c.inverse = 1.0f / sqrtf(v_sum(square) / (float)d - c.rest * c.rest + eps);
    return c;
}

/* (x - mean) / sqrt(variance + eps) */
INLINE vf v_centred(vf x, centre c)
{
    return (x - v_set(c.mean) - v_set(c.rest)) * v_set(c.inverse);
}

static void k_layer_norm(int d, const float *x, const float *w, const float *b, float eps, float *y)
{
    size_t n = (size_t)d;
    const centre c = k_centre(d, x, eps);
    MAP(n, { STORE(y, v_centred(LOAD(x), c) * LOAD(w) + LOAD(b)); });
}

/* u = (x - mean) r:  dx = r (w dy - mean(w dy) - u mean(u w dy)), dw = u dy, db = dy */
static void k_layer_norm_backward(int d, const float *x, const float *w, float eps, const float *dy, float *dx,
                                  float *dw, float *db)
{
    size_t n = (size_t)d;
    const centre c = k_centre(d, x, eps);
    vf plain = v_set(0.0f);
    vf along = plain;
    MAP(n, {
        vf g = LOAD(w) * LOAD(dy);
        plain += g;
        along += g * v_centred(LOAD(x), c);
    });
    float shift = v_sum(plain) / (float)d;
    float pull = v_sum(along) / (float)d;
    MAP(n, {
        vf u = v_centred(LOAD(x), c);
        vf g = LOAD(dy);
        STORE(dx, LOAD(dx) + v_set(c.inverse) * (LOAD(w) * g - v_set(shift) - u * v_set(pull)));
        if (dw) {
            STORE(dw, LOAD(dw) + u * g);
            STORE(db, LOAD(db) + g);
        }
    });
}

/* y [2 d] of x [d] */
static void k_softmax_pair(int d, const float *x, float *y)
{
    size_t n = (size_t)d;
    vf top = v_set(0.0f);
    MAP(n, {
        vf u = LOAD(x);
        top = v_max(top, v_max(u, -u));
    });
    vf max = v_set(v_reduce_max(top));
    vf sum = v_set(0.0f);
    float *z = y + n;
    MAP(n, {
        vf u = LOAD(x);
        vf up = v_exp(u - max);
        vf down = v_exp(-u - max);
        STORE(y, up);
        STORE(z, down);
    });
    n *= 2;
    MAP(n, { sum += LOAD(y); });
    vf scale = v_set(1.0f / v_sum(sum));
    MAP(n, { STORE(y, LOAD(y) * scale); });
}

/* dx [d] of y, dy [2 d] */
static void k_softmax_pair_backward(int d, const float *y, const float *dy, float *dx)
{
    size_t n = (size_t)d;
    vf mean = v_set(k_dot(2 * n, y, dy));
    const float *z = y + n;
    const float *dz = dy + n;
    MAP(n, { STORE(dx, LOAD(y) * (LOAD(dy) - mean) - LOAD(z) * (LOAD(dz) - mean)); });
}

/* x [2 half] in place; cos, sin [half] */
static void k_rope(int half, const float *cos, const float *sin, float sign, float *x)
{
    size_t n = (size_t)half;
    float *z = x + half;
    MAP(n, {
        vf c = LOAD(cos);
        vf s = LOAD(sin) * v_set(sign);
        vf a = LOAD(x);
        vf b = LOAD(z);
        STORE(x, a * c - b * s);
        STORE(z, b * c + a * s);
    });
}

/* s [rows, cols]; max, sum, correction [rows] */
static void k_softmax_step(int rows, int cols, float *s, ptrdiff_t lds, float *max, float *sum, float *correction)
{
    size_t n = (size_t)cols;
    for (int r = 0; r < rows; r++) {
        float *x = s + r * lds;
        vf top = v_set(max[r]);
        MAP(n, { top = v_max(top, part ? v_load_part(x + i, left, HA_MASKED) : v_load(x + i)); });
        float new_max = v_reduce_max(top);
        vf m = v_set(new_max);
        vf total = v_set(0.0f);
        MAP(n, {
            vf e = v_exp((part ? v_load_part(x + i, left, HA_MASKED) : v_load(x + i)) - m);
            total += e;
            STORE(x, e);
        });
        float c = new_max == max[r] ? 1.0f : v_exp(v_set(max[r] - new_max))[0];
        correction[r] = c;
        sum[r] = sum[r] * c + v_sum(total);
        max[r] = new_max;
    }
}

/* s, dp [rows, cols] in place; lse, delta [rows] */
static void k_softmax_tile_backward(int rows, int cols, float *s, ptrdiff_t lds, float *dp, ptrdiff_t ldp,
                                    const float *lse, const float *delta)
{
    size_t n = (size_t)cols;
    for (int r = 0; r < rows; r++) {
        float *x = s + r * lds;
        float *d = dp + r * ldp;
        vf l = v_set(lse[r]);
        vf shift = v_set(delta[r]);
        MAP(n, {
            vf p = v_exp((part ? v_load_part(x + i, left, HA_MASKED) : v_load(x + i)) - l);
            STORE(x, p);
            STORE(d, p * (LOAD(d) - shift));
        });
    }
}

/* x [rows, cols] in place; factor [rows] */
static void k_scale_rows(int rows, int cols, float *x, ptrdiff_t ldx, const float *factor)
{
    size_t n = (size_t)cols;
    for (int r = 0; r < rows; r++) {
        float *y = x + r * ldx;
        if (factor[r] == 1.0f) /* most rows of a running softmax */
            continue;
        vf f = v_set(factor[r]);
        MAP(n, { STORE(y, LOAD(y) * f); });
    }
}

/* The largest of n > 0 numbers. */
INLINE float row_max(size_t n, const float *x)
{
    vf a = v_set(HA_MASKED), b = a;
    size_t i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        a = v_max(a, v_load(x + i));
        b = v_max(b, v_load(x + i + W));
    }
    for (; i + W <= n; i += W)
        a = v_max(a, v_load(x + i));
    if (i < n)
        a = v_max(a, v_load_part(x + i, n - i, HA_MASKED));
    return v_reduce_max(v_max(a, b));
}

/* KL = sum_i p_i ((t_i - s_i) - (lse_t - lse_s)), p = softmax(t); the sums of a row are kept in
 * short float runs. */
static double k_kl_row(int vocabulary, float *s, float *t, float scale, double *log_sum)
{
    size_t n = (size_t)vocabulary;
    float max_s = row_max(n, s), max_t = row_max(n, t);
    double z_s = 0.0, z_t = 0.0, cross = 0.0;
    for (size_t at = 0; at < n; at += 1024) {
        size_t block = n - at < 1024 ? n - at : 1024;
        float *a = s + at;
        float *b = t + at;
        vf sum_s = v_set(0.0f), sum_t = sum_s, sum_c = sum_s;
        MAP(block, {
            vf u = (part ? v_load_part(a + i, left, HA_MASKED) : v_load(a + i)) - v_set(max_s);
            vf w = (part ? v_load_part(b + i, left, HA_MASKED) : v_load(b + i)) - v_set(max_t);
            vf eu = v_exp(u);
            vf ew = v_exp(w);
            sum_s += eu;
            sum_t += ew;
            sum_c += v_select(ew > v_set(0.0f), ew * (w - u), v_set(0.0f));
            STORE(a, eu);
            STORE(b, ew);
        });
        z_s += (double)v_sum(sum_s);
        z_t += (double)v_sum(sum_t);
        cross += (double)v_sum(sum_c);
    }
    if (scale != 0.0f) {
        vf fs = v_set(scale / (float)z_s), ft = v_set(scale / (float)z_t);
        MAP(n, { STORE(s, LOAD(s) * fs - LOAD(t) * ft); });
    }
    *log_sum = (double)max_s + log(z_s);
    return cross / z_t - log(z_t) + log(z_s);
}

/* s [vocabulary], overwritten */
static double k_cross_entropy_row(int vocabulary, float *s, int target, float scale)
{
    size_t n = (size_t)vocabulary;
    float max = row_max(n, s);
    double wanted = (double)s[target] - (double)max, z = 0.0;
    for (size_t at = 0; at < n; at += 1024) {
        size_t block = n - at < 1024 ? n - at : 1024;
        float *a = s + at;
        vf sum = v_set(0.0f);
        MAP(block, {
            vf e = v_exp((part ? v_load_part(a + i, left, HA_MASKED) : v_load(a + i)) - v_set(max));
            sum += e;
            STORE(a, e);
        });
        z += (double)v_sum(sum);
    }
    if (scale != 0.0f) {
        vf f = v_set(scale / (float)z);
        MAP(n, { STORE(s, LOAD(s) * f); });
        s[target] -= scale;
    }
    return log(z) - wanted;
}
