/* One new query of each head of a group against a run of keys and values: both are streamed once, as they are stored.
 *
 * Floor: 4 dim bytes (float) or 2 dim bytes (half) a key, twice, at memory bandwidth. Up to three heads share a load:
 * 3 x 4 sums fill 12 of AVX2's 16 registers. */
enum { AHEAD = 16 }; /* rows between a load and the prefetch that went before it */
#define LOADED(half, p, at) ((half) ? v_load_half((const uint16_t *)(p) + (at)) : v_load((const float *)(p) + (at)))
#define LOADED_PART(half, p, at, n)                             \
    ((half) ? v_load_half_part((const uint16_t *)(p) + (at), n) \
            : v_load_part((const float *)(p) + (at), (size_t)(n), 0.0f))

/* s[i,j] = scale q_i . k_j for mr heads and nr keys */
INLINE void score_tile(const int half, const int mr, const int nr, int d, float scale, const float *q, const void *k,
                       ptrdiff_t at, ptrdiff_t ldk, float *s, ptrdiff_t lds)
{
    vf acc[3][4];
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < 4; j++)
            acc[i][j] = v_set(0.0f);
    int c = 0;
    for (; c + W <= d; c += W)
        for (int j = 0; j < nr; j++) {
            vf row = LOADED(half, k, at + j * ldk + c);
            for (int i = 0; i < mr; i++)
                acc[i][j] += v_load(q + i * d + c) * row;
        }
    if (c < d)
        for (int j = 0; j < nr; j++) {
            vf row = LOADED_PART(half, k, at + j * ldk + c, d - c);
            for (int i = 0; i < mr; i++)
                acc[i][j] += v_load_part(q + i * d + c, (size_t)(d - c), 0.0f) * row;
        }
    for (int i = 0; i < mr; i++) {
        float sums[4];
        v_sums(acc[i], sums);
        for (int j = 0; j < nr; j++)
            s[i * lds + j] = scale * sums[j];
    }
}

INLINE void score_rows(const int half, const int mr, int n, int d, float scale, const float *q, const void *k,
                       ptrdiff_t ldk, float *s, ptrdiff_t lds)
{
    const int size = half ? 2 : 4;
    int j = 0;
    for (; j + 4 <= n; j += 4) {
        for (ptrdiff_t r = j + AHEAD; r < j + AHEAD + 4; r++)
            for (int byte = 0; byte < d * size; byte += 64)
                __builtin_prefetch((const char *)k + r * ldk * size + byte);
        score_tile(half, mr, 4, d, scale, q, k, j * ldk, ldk, s + j, lds);
    }
    for (; j < n; j++)
        score_tile(half, mr, 1, d, scale, q, k, j * ldk, ldk, s + j, lds);
}

/* out[i, c .. c + nv W] += sum_j p[i,j] v_j for mr heads; the last vector holds `left` items when that is not 0 */
INLINE void mix_tile(const int half, const int mr, const int nv, int left, int n, int d, const float *p, ptrdiff_t ldp,
                     const void *v, ptrdiff_t ldv, float *out)
{
    const int size = half ? 2 : 4;
    vf acc[3][4];
    for (int i = 0; i < mr; i++)
        for (int c = 0; c < nv; c++)
            acc[i][c] = left ? v_load_part(out + i * d, (size_t)left, 0.0f) : v_load(out + i * d + c * W);
    for (int j = 0; j < n; j++)
        for (int c = 0; c < nv; c++) {
            if (c * W * size % 64 == 0)
                __builtin_prefetch((const char *)v + ((j + AHEAD) * ldv + c * W) * size);
            vf row = left ? LOADED_PART(half, v, j * ldv, left) : LOADED(half, v, j * ldv + c * W);
            for (int i = 0; i < mr; i++)
                acc[i][c] += v_set(p[i * ldp + j]) * row;
        }
    for (int i = 0; i < mr; i++)
        for (int c = 0; c < nv; c++) {
            if (left)
                v_store_part(out + i * d, acc[i][c], (size_t)left);
            else
                v_store(out + i * d + c * W, acc[i][c]);
        }
}

INLINE void mix_rows(const int half, const int mr, int n, int d, const float *p, ptrdiff_t ldp, const void *v,
                     ptrdiff_t ldv, float *out)
{
    const ptrdiff_t size = half ? 2 : 4;
    int c = 0;
    for (; c + 4 * W <= d; c += 4 * W)
        mix_tile(half, mr, 4, 0, n, d, p, ldp, (const char *)v + c * size, ldv, out + c);
    for (; c + W <= d; c += W)
        mix_tile(half, mr, 1, 0, n, d, p, ldp, (const char *)v + c * size, ldv, out + c);
    if (c < d)
        mix_tile(half, mr, 1, d - c, n, d, p, ldp, (const char *)v + c * size, ldv, out + c);
}

#define BY_HEADS(HALF, CALL) \
    for (; m >= 3; m -= 3) { \
        enum { mr = 3 };     \
        CALL(HALF);          \
    }                        \
    if (m == 2) {            \
        enum { mr = 2 };     \
        CALL(HALF);          \
    } else if (m == 1) {     \
        enum { mr = 1 };     \
        CALL(HALF);          \
    }
#define SCORES(HALF) (score_rows(HALF, mr, n, d, scale, q, k, ldk, s, lds), q += mr * d, s += mr * lds)
#define MIX(HALF) (mix_rows(HALF, mr, n, d, p, ldp, v, ldv, out), p += mr * ldp, out += mr * d)

static void k_decode_scores(int half, int m, int n, int d, float scale, const float *q, const void *k, ptrdiff_t ldk,
                            float *s, ptrdiff_t lds)
{
    if (half) {
        BY_HEADS(1, SCORES)
    } else {
        BY_HEADS(0, SCORES)
    }
}

static void k_decode_mix(int half, int m, int n, int d, const float *p, ptrdiff_t ldp, const void *v, ptrdiff_t ldv,
                         float *out)
{
    if (half) {
        BY_HEADS(1, MIX)
    } else {
        BY_HEADS(0, MIX)
    }
}

static void k_float_to_half(size_t n, const float *x, uint16_t *y)
{
    size_t i = 0;
    for (; i + W <= n; i += W)
        v_store_half(y + i, v_load(x + i));
    for (; i < n; i++) {
        uint16_t t[W];
        v_store_half(t, v_set(x[i]));
        y[i] = t[0];
    }
}
