/* One new query of each head of a group against a run of keys and values: both are streamed once,
 * as they are stored.
 *
 * Floor: 4 dim bytes (float) or 2 dim bytes (half) a key, twice, at memory bandwidth. Up to three
 * heads share a load: 3 x 4 sums fill 12 of AVX2's 16 registers. */
enum { AHEAD = 16 }; /* rows between a load and the prefetch that went before it */
#define LOADED(half, p, at) ((half) ? v_load_half((const uint16_t *)(p) + (at)) : v_load((const float *)(p) + (at)))
#define LOADED_PART(half, p, at, n)                             \
    ((half) ? v_load_half_part((const uint16_t *)(p) + (at), n) \
            : v_load_part((const float *)(p) + (at), (size_t)(n), 0.0f))

/* The same rows from `row` and `column` on. */
INLINE ha_cached_rows cached_from(const int half, ha_cached_rows x, ptrdiff_t row, int column)
{
    x.at = (const char *)x.at + (row * x.stride + column) * (half ? 2 : 4);
    return x;
}

/* scores [mr, nr] = scale q_i . k_j for mr heads and the first nr keys */
INLINE void score_tile(const int half, const int mr, const int nr, ha_cached_rows keys, float scale,
                       const float *queries, ha_rows_out scores)
{
    const int dim = keys.dim;
    vf acc[3][4];
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < 4; j++)
            acc[i][j] = v_set(0.0f);
    int c = 0;
    for (; c + W <= dim; c += W)
        for (int j = 0; j < nr; j++) {
            vf row = LOADED(half, keys.at, j * keys.stride + c);
            for (int i = 0; i < mr; i++)
                acc[i][j] += v_load(queries + i * dim + c) * row;
        }
    if (c < dim)
        for (int j = 0; j < nr; j++) {
            vf row = LOADED_PART(half, keys.at, j * keys.stride + c, dim - c);
            for (int i = 0; i < mr; i++)
                acc[i][j] += v_load_part(queries + i * dim + c, (size_t)(dim - c), 0.0f) * row;
        }
    for (int i = 0; i < mr; i++) {
        float sums[4];
        v_sums(acc[i], sums);
        for (int j = 0; j < nr; j++)
            scores.at[i * scores.stride + j] = scale * sums[j];
    }
}

/* scores [mr, count] of mr heads, four keys at a time */
INLINE void score_rows(const int half, const int mr, ha_cached_rows keys, float scale, const float *queries,
                       ha_rows_out scores)
{
    const int size = half ? 2 : 4;
    int j = 0;
    for (; j + 4 <= keys.count; j += 4) {
        for (ptrdiff_t r = j + AHEAD; r < j + AHEAD + 4; r++)
            for (int byte = 0; byte < keys.dim * size; byte += 64)
                __builtin_prefetch((const char *)keys.at + r * keys.stride * size + byte);
        score_tile(half, mr, 4, cached_from(half, keys, j, 0), scale, queries, ha_rows_out_from(scores, 0, j));
    }
    for (; j < keys.count; j++)
        score_tile(half, mr, 1, cached_from(half, keys, j, 0), scale, queries, ha_rows_out_from(scores, 0, j));
}

/* out [mr, first nv W channels] += sum_j weights[i,j] v_j; the last vector holds `left` items when
 * that is not 0 */
INLINE void mix_tile(const int half, const int mr, const int nv, int left, ha_cached_rows values, ha_rows weights,
                     float *out)
{
    const int size = half ? 2 : 4, dim = values.dim;
    vf acc[3][4];
    for (int i = 0; i < mr; i++)
        for (int c = 0; c < nv; c++)
            acc[i][c] = left ? v_load_part(out + i * dim, (size_t)left, 0.0f) : v_load(out + i * dim + c * W);
    for (int j = 0; j < values.count; j++)
        for (int c = 0; c < nv; c++) {
            if (c * W * size % 64 == 0)
                __builtin_prefetch((const char *)values.at + ((j + AHEAD) * values.stride + c * W) * size);
            vf row = left ? LOADED_PART(half, values.at, j * values.stride, left)
                          : LOADED(half, values.at, j * values.stride + c * W);
            for (int i = 0; i < mr; i++)
                acc[i][c] += v_set(weights.at[i * weights.stride + j]) * row;
        }
    for (int i = 0; i < mr; i++)
        for (int c = 0; c < nv; c++) {
            if (left)
                v_store_part(out + i * dim, acc[i][c], (size_t)left);
            else
                v_store(out + i * dim + c * W, acc[i][c]);
        }
}

/* out [mr, dim] += weights [mr, count] V, four vectors of channels at a time */
INLINE void mix_rows(const int half, const int mr, ha_cached_rows values, ha_rows weights, float *out)
{
    const int dim = values.dim;
    int c = 0;
    for (; c + 4 * W <= dim; c += 4 * W)
        mix_tile(half, mr, 4, 0, cached_from(half, values, 0, c), weights, out + c);
    for (; c + W <= dim; c += W)
        mix_tile(half, mr, 1, 0, cached_from(half, values, 0, c), weights, out + c);
    if (c < dim)
        mix_tile(half, mr, 1, dim - c, cached_from(half, values, 0, c), weights, out + c);
}

/* Three heads at a time, and the one or two that are left; their number is a constant in each
 * call. */
#define BY_HEADS(HALF, CALL)         \
    for (; heads >= 3; heads -= 3) { \
        enum { mr = 3 };             \
        CALL(HALF);                  \
    }                                \
    if (heads == 2) {                \
        enum { mr = 2 };             \
        CALL(HALF);                  \
    } else if (heads == 1) {         \
        enum { mr = 1 };             \
        CALL(HALF);                  \
    }
#define SCORES(HALF) \
    (score_rows(HALF, mr, *keys, scale, queries, scores), queries += mr * keys->dim, scores.at += mr * scores.stride)
#define MIX(HALF) \
    (mix_rows(HALF, mr, *values, weights, out), weights.at += mr * weights.stride, out += mr * values->dim)

/* See kernels.h. */
static void k_decode_scores(const ha_cached_rows *keys, int heads, float scale, const float *queries,
                            ha_rows_out scores)
{
    if (keys->half) {
        BY_HEADS(1, SCORES)
    } else {
        BY_HEADS(0, SCORES)
    }
}

/* See kernels.h. */
static void k_decode_mix(const ha_cached_rows *values, int heads, ha_rows weights, float *out)
{
    if (values->half) {
        BY_HEADS(1, MIX)
    } else {
        BY_HEADS(0, MIX)
    }
}

/* y [n] of x [n] */
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
