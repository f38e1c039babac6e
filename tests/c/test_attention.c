/* Softmax attention, linear attention and pools along a sequence, forward and backward: equal to its naive twin in double, gradients equal to difference
 * quotients, the same bits on one and two threads, and an error when the arena is full. */
#include "sequences.h"

/* y [rows of `part`, width] must be the last rows of each sequence of `all` [ROWS, width]. */
static void check_tails(const ha_batch *part, const float *y, const float *all, int width)
{
    for (int s = 0; s < SEQS; s++) {
        int n = part->offset[s + 1] - part->offset[s];
        CHECK_ALL_CLOSE(y + part->offset[s] * width, all + (offsets[s + 1] - n) * width, (size_t)(n * width), 1e-5);
    }
}

/* Halves give the bits of the floats that they stand for. */
static void check_halves(const ha_attention *a, const ha_batch *tails, const float *queries, const float *qkv, int ld,
                         const ha_keys *keys)
{
    const int q = HEADS * a->dim, k = a->kv_heads * a->dim;
    const size_t all = (size_t)(ROWS * ld), n = (size_t)(tails->rows * q);
    float *rounded = zeros(all), *wide_out = zeros(n), *half_out = zeros(n);
    uint16_t *halves = (uint16_t *)zeros(all);
    ha_keys wide_keys[SEQS], half_keys[SEQS];
    ha_from_f32(HA_F16, qkv, halves, all);
    ha_kernels_get()->decode[HA_F16](all, halves, rounded);
    for (int s = 0; s < SEQS; s++) {
        const ptrdiff_t own = offsets[s] * ld + q;
        wide_keys[s] = half_keys[s] = keys[s];
        wide_keys[s].k = rounded + own;
        wide_keys[s].v = rounded + own + k;
        half_keys[s].k = halves + own;
        half_keys[s].v = halves + own + k;
        half_keys[s].type = HA_F16;
    }
    const ha_attention_out half_to = {ha_rows_to(half_out, q), NULL, NULL};
    const ha_attention_out wide_to = {ha_rows_to(wide_out, q), NULL, NULL};
    EXERCISE(ha_attention_forward(a, tails, ha_rows_of(queries, q), half_keys, &half_to, &arena), {half_out, n});
    CHECK_INT(ha_attention_forward(a, tails, ha_rows_of(queries, q), wide_keys, &wide_to, &arena), HA_OK);
    CHECK_SAME(half_out, wide_out, n);
}

static void softmax_attention_of(const ha_attention *a)
{
    const int q = HEADS * a->dim, k = a->kv_heads * a->dim, ld = q + 2 * k;
    const size_t n = (size_t)(ROWS * q), all = (size_t)(ROWS * ld), h = ROWS * HEADS;
    float *qkv = numbers(all, 1), *y = zeros(n), *lse = zeros(h), *max = zeros(h), *d = zeros(all), *delta = zeros(h);
    float *dy = numbers(n, 1), *dlse = numbers(h, 1), *dmax = numbers(h, 1);
    double *want = keep(malloc((n + 2 * h) * sizeof *want));
    ha_keys keys[SEQS];
    for (int s = 0; s < SEQS; s++) {
        const float *own = qkv + offsets[s] * ld + q;
        keys[s] = (ha_keys){own, own + k, ld, a->dim, offsets[s + 1] - offsets[s], 0};
    }
    const ref_attention twin = {HEADS, a->kv_heads, a->dim, a->causal, a->window, a->sinks, (double)a->scale};
    const ha_attention_out to = {ha_rows_to(y, q), lse, max};
#define FORWARD ha_attention_forward(a, &batch, ha_rows_of(qkv, ld), keys, &to, &arena)
    EXERCISE(FORWARD, {y, n}, {lse, h}, {max, h});
    const ref_attention_in wide_in = {columns(qkv, ROWS, ld, 0, q), columns(qkv, ROWS, ld, q, k),
                                      columns(qkv, ROWS, ld, q + k, k)};
    const ref_attention_out wide_out = {want, want + n, want + n + h};
    ref_softmax_attention(&twin, &batch, offsets, &wide_in, &wide_out);
    CHECK_TWIN(y, want, n);
    CHECK_TWIN(lse, want + n, h);
    CHECK_TWIN(max, want + n + h, h);
    ha_dot_per_head(ROWS, HEADS, a->dim, dy, q, y, q, delta);
    for (size_t i = 0; i < h; i++)
        delta[i] -= dlse[i];
    const ha_attention_saved saved = {.queries = ha_rows_of(qkv, ld),
                                      .keys = ha_rows_of(qkv + q, ld),
                                      .values = ha_rows_of(qkv + q + k, ld),
                                      .key_offset = offsets,
                                      .log_sum = lse,
                                      .largest = max};
    const ha_attention_upstream down = {ha_rows_of(dy, q), delta, dmax};
    const ha_attention_gradient into = {ha_rows_to(d, ld), ha_rows_to(d + q, ld), ha_rows_to(d + q + k, ld)};
    EXERCISE(ha_attention_backward(a, &batch, &saved, &down, &into, &arena), {d, all});
    float *kept_y = copy(y, n);
    CHECK_SLOPE(qkv, d, all, FORWARD, {y, n, dy}, {lse, h, dlse}, {max, h, dmax});
#undef FORWARD
    /* the later half of each sequence as a prompt goes on, and the last row as a decoding step */
    for (int step = 0; step < 2; step++) {
        int32_t offset[SEQS + 1] = {0};
        float *queries = zeros(n), *part = zeros(n);
        for (int s = 0; s < SEQS; s++) {
            int tail = step ? 1 : (keys[s].length + 1) / 2;
            for (int r = 0; r < tail; r++)
                memcpy(queries + (offset[s] + r) * q, qkv + (offsets[s + 1] - tail + r) * ld, (size_t)q * sizeof *qkv);
            keys[s].past = keys[s].length - tail;
            offset[s + 1] = offset[s] + tail;
        }
        const ha_batch tails = {.rows = offset[SEQS], .n_seq = SEQS, .offset = offset};
        const ha_attention_out tails_to = {ha_rows_to(part, q), NULL, NULL};
        EXERCISE(ha_attention_forward(a, &tails, ha_rows_of(queries, q), keys, &tails_to, &arena),
                 {part, (size_t)(tails.rows * q)});
        check_tails(&tails, part, kept_y, q);
        check_halves(a, &tails, queries, qkv, ld, keys);
    }
}

static void softmax_attention(void)
{
    const int masks[][3] = {{1, 0, 0}, {1, 7, 3}, {1, 500, 5}, {0, 9, 0}, {1, 2, 70}, {0, 0, 0}}, kv[] = {1, 2, 4};
    for (int i = 0; i < 18; i++) {
        const int *mask = masks[i % 6], dim = dims[i / 6];
        const ha_attention a = {HEADS, kv[(i + i / 6) % 3], dim, mask[0], mask[1], mask[2], 1.0f / sqrtf((float)dim)};
        softmax_attention_of(&a);
        drop();
    }
}

static void linear_attention_of(int kv, int dim, int lag, int both)
{
    const int features = 2 * dim, F = HEADS * features, E = kv * features, V = kv * dim, N = HEADS * dim;
    const ha_linear_attention a = {HEADS, kv, features, dim, lag, both};
    const size_t fs = (size_t)(ROWS * F), es = (size_t)(ROWS * E), vs = (size_t)(ROWS * V), ns = (size_t)(ROWS * N);
    const size_t h = ROWS * HEADS, saves = ha_linear_attention_states(&a, &batch), size = (size_t)(E * (dim + 1));
    const double small = 1.0 / sqrt(features);
    float *f = numbers(fs, small), *e = numbers(es, small), *v = numbers(vs, 1), *dnum = numbers(ns, 1);
    float *dden = numbers(h, 1), *num = zeros(ns), *den = zeros(h), *saved = zeros(saves), *df = zeros(fs);
    float *de = zeros(es), *dv = zeros(vs), *start = numbers(SEQS * size, .3), *end = zeros(SEQS * size), *state[SEQS];
    ha_rows keys[SEQS], values[SEQS];
    double *want = keep(malloc((ns + h) * sizeof *want)), *want_end = wide(start, SEQS * size);
    for (int s = 0; s < SEQS; s++) {
        keys[s] = ha_rows_of(e + offsets[s] * E, E);
        values[s] = ha_rows_of(v + offsets[s] * V, V);
        state[s] = end + (size_t)s * size;
    }
    const ref_linear_shape twin = {HEADS, kv, features, dim, lag, both};
    const ha_linear_attention_in in = {ha_rows_of(f, F), keys, values};
    const ha_linear_attention_out out = {ha_rows_to(num, N), den};
    const ha_linear_attention_upstream down = {ha_rows_of(dnum, N), dden};
    const ha_linear_attention_gradient gradient = {ha_rows_to(df, F), ha_rows_to(de, E), ha_rows_to(dv, V)};
#define FORWARD ha_linear_attention_forward(&a, &batch, &in, NULL, &out, saved, &arena)
    EXERCISE(FORWARD, {num, ns}, {den, h}, {saved, saves});
    const ref_attention_in wide_in = {wide(f, fs), wide(e, es), wide(v, vs)};
    ref_linear_attention(&twin, &batch, &wide_in, NULL, want, want + ns);
    CHECK_TWIN(num, want, ns);
    CHECK_TWIN(den, want + ns, h);
    EXERCISE(ha_linear_attention_backward(&a, &batch, &in, saved, &down, &gradient, &arena), {df, fs}, {de, es},
             {dv, vs});
    float *const x[] = {f, e, v}, *const dx[] = {df, de, dv};
    const size_t sizes[] = {fs, es, vs};
    for (int i = 0; lag < 130 && i < 3; i++)
        CHECK_SLOPE(x[i], dx[i], sizes[i], FORWARD, {num, ns, dnum}, {den, h, dden});
#undef FORWARD
    if (lag || both)
        return;
    EXERCISE((memcpy(end, start, SEQS * size * sizeof *end),
              ha_linear_attention_forward(&a, &batch, &in, state, &out, NULL, &arena)),
             {num, ns}, {den, h}, {end, SEQS * size});
    ref_linear_attention(&twin, &batch, &wide_in, want_end, want, want + ns);
    CHECK_TWIN(num, want, ns);
    CHECK_TWIN(end, want_end, SEQS * size);
}

static void linear_attention(void)
{
    const int kv[] = {4, 2, 1}, lags[] = {0, 5, 69, 200}; /* longer than some sequences, and than all */
    for (int i = 0; i < 24; i++) {
        linear_attention_of(kv[i % 3], dims[i % 3], lags[i / 3 % 4], i >= 12);
        drop();
    }
}

static void pool(void)
{
    const ha_pool shapes[] = {{.slots = 1, .length = 130}, {.slots = 7, .length = 131}, {.slots = 64, .length = 200}};
    for (int i = 0; i < 3; i++) {
        const ha_pool *p = &shapes[i];
        const int d = dims[i] + 61;
        int32_t at[SEQS + 1];
        ha_pool_offsets(p, &batch, at);
        const size_t n = (size_t)(ROWS * d), k = (size_t)(p->slots * p->length), m = (size_t)(at[SEQS] * d);
        float *x = numbers(n, 1), *w = numbers(k, 0.1), *y = zeros(m), *dy = numbers(m, 1), *dx = zeros(n);
        float *dw = zeros(k);
        double *want = keep(malloc(m * sizeof *want));
        const ha_pool own = {p->slots, p->length, d, w};
#define FORWARD ha_pool_forward(&own, &batch, ha_rows_of(x, d), y, &arena)
        EXERCISE(FORWARD, {y, m});
        ref_pool(&batch, d, p->slots, p->length, wide(x, n), wide(w, k), want);
        CHECK_TWIN(y, want, m);
        EXERCISE(ha_pool_backward(&own, &batch, ha_rows_of(x, d), dy, ha_rows_to(dx, d), dw, &arena), {dx, n},
                 {dw, k, 1});
        CHECK_SLOPE(x, dx, n, FORWARD, {y, m, dy});
        CHECK_SLOPE(w, dw, k, FORWARD, {y, m, dy});
#undef FORWARD
        drop();
    }
}

int main(void)
{
    ha_arena_open(&arena);
    RUN(softmax_attention);
    RUN(linear_attention);
    RUN(pool);
    ha_arena_close(&arena);
    return REPORT();
}
