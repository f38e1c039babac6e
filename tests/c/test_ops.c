/* Operations on odd shapes: one and two threads give the same bits, pieces equal the whole, a full arena is an error. */
#include <stdlib.h>

#include "check.h"
#include "hybridattn.h"

static ha_arena arena;

/* n numbers in [-scale, scale), of memory the sanitizer watches to the byte */
static float *numbers(size_t n, float scale)
{
    static uint64_t seed = 1;
    ha_rng rng = ha_rng_seed(seed++);
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = scale * (float)(2.0 * ha_rng_uniform(&rng) - 1.0);
    return x;
}

static float *copy(const float *x, size_t n)
{
    float *y = malloc(n * sizeof *y);
    memcpy(y, x, n * sizeof *y);
    return y;
}

/* Runs `work` into `out` on one thread and on three, and compares bits. */
#define SAME_ON_THREADS(out, n, work)        \
    do {                                     \
        ha_set_threads(1);                   \
        work;                                \
        float *first = copy(out, n);         \
        memset(out, 0, (n) * sizeof *(out)); \
        ha_set_threads(3);                   \
        work;                                \
        CHECK_SAME(first, out, n);           \
        free(first);                         \
        ha_set_threads(2);                   \
    } while (0)

static const int32_t offsets[] = {0, 1, 66, 129, 193};
static const ha_batch batch = {.rows = 193, .n_seq = 4, .offset = offsets};
enum { ROWS = 193, HEADS = 4, KV = 2, DIM = 24, Q = HEADS * DIM, K = KV * DIM };

static void linear(void)
{
    const int shapes[][3] = {{1, 7, 5}, {3, 64, 130}, {65, 33, 257}, {130, 96, 48}};
    for (int i = 0; i < 4; i++) {
        int rows = shapes[i][0], in = shapes[i][1], out = shapes[i][2];
        size_t n = (size_t)(rows * out), m = (size_t)(rows * in), k = (size_t)(in * out);
        float *x = numbers(m, 1), *w = numbers(k, 1), *b = numbers((size_t)out, 1), *y = numbers(n, 1),
              *want = copy(y, n);
        float *dx = numbers(m, 1), *dw = numbers(k, 1), *db = numbers((size_t)out, 1);
        for (int r = 0; r < rows; r++)
            for (int o = 0; o < out; o++) {
                double sum = b[o];
                for (int c = 0; c < in; c++)
                    sum += (double)x[r * in + c] * w[o * in + c];
                want[r * out + o] = (float)sum;
            }
        SAME_ON_THREADS(y, n, ha_linear_forward(rows, in, out, 1.0f, x, in, w, b, 0.0f, y, out));
        CHECK_ALL_CLOSE(y, want, n, 1e-5);
        SAME_ON_THREADS(dx, m, ha_linear_backward(rows, in, out, 0.5f, x, in, w, y, out, 0.0f, dx, in, NULL, NULL));
        ha_linear_backward(rows, in, out, 0.5f, x, in, w, y, out, 0.0f, NULL, in, dw, db);
        free(x), free(w), free(b), free(y), free(want), free(dx), free(dw), free(db);
    }
}

static void softmax_attention(void)
{
    const ha_attention kinds[] = {{HEADS, KV, DIM, 1, 0, 0, 0.2f},
                                  {HEADS, KV, DIM, 1, 7, 3, 0.2f},
                                  {HEADS, KV, DIM, 1, 500, 5, 0.2f},
                                  {HEADS, KV, DIM, 0, 9, 0, 0.2f},
                                  {HEADS, KV, DIM, 1, 2, 70, 0.2f}};
    const int ld = Q + 2 * K;
    const size_t n = (size_t)ROWS * Q, all = (size_t)ROWS * (size_t)ld, h = (size_t)ROWS * HEADS;
    for (int i = 0; i < 5; i++) {
        const ha_attention *a = &kinds[i];
        float *qkv = numbers(all, 2), *y = numbers(n, 1), *lse = numbers(h, 1), *max = numbers(h, 1),
              *dy = numbers(n, 1);
        float *delta = numbers(h, 1), *dmax = numbers(h, 1), *d = numbers(all, 1);
        ha_keys keys[4];
        for (int s = 0; s < 4; s++) {
            const float *k = qkv + offsets[s] * ld + Q;
            keys[s] = (ha_keys){k, k + K, ld, DIM, offsets[s + 1] - offsets[s], 0};
        }
        SAME_ON_THREADS(y, n, CHECK_INT(ha_attention_forward(a, &batch, qkv, ld, keys, y, Q, lse, max, &arena), HA_OK));
        ha_dot_per_head(ROWS, HEADS, DIM, dy, Q, y, Q, delta);
        SAME_ON_THREADS(d, all,
                        CHECK_INT(ha_attention_backward(a, &batch, qkv, qkv + Q, qkv + Q + K, ld, lse, delta, max, dmax,
                                                        dy, Q, d, d + Q, d + Q + K, ld, &arena),
                                  HA_OK));
        /* the last row of each sequence again, as a decoding step */
        const int32_t ones[] = {0, 1, 2, 3, 4};
        const ha_batch last = {.rows = 4, .n_seq = 4, .offset = ones};
        float *q = numbers(4 * Q, 1), *step = numbers(4 * Q, 1);
        for (int s = 0; s < 4; s++) {
            memcpy(q + s * Q, qkv + (offsets[s + 1] - 1) * ld, Q * sizeof *q);
            keys[s].past = keys[s].length - 1;
        }
        SAME_ON_THREADS(step, 4 * Q,
                        CHECK_INT(ha_attention_decode(a, &last, q, Q, keys, step, Q, NULL, NULL, &arena), HA_OK));
        for (int s = 0; a->causal && s < 4; s++)
            CHECK_ALL_CLOSE(step + s * Q, y + (offsets[s + 1] - 1) * Q, Q, 1e-5);
        free(qkv), free(y), free(lse), free(max), free(dy), free(delta), free(dmax), free(d), free(q), free(step);
    }
}

static void gated_delta(void)
{
    const ha_gated_delta d = {HEADS, DIM, 8};
    const size_t qk = (size_t)ROWS * Q, vs = (size_t)ROWS * HEADS * 8, h = (size_t)ROWS * HEADS, size = HEADS * DIM * 8;
    float *q = numbers(qk, .3f), *k = numbers(qk, .3f), *v = numbers(vs, 1), *g = numbers(h, 1),
          *beta = numbers(h, .5f);
    float *y = numbers(vs, 1), *z = numbers(vs, 1), *saved = numbers(ha_gated_delta_states(&d, &batch), 1),
          *dy = numbers(vs, 1);
    float *dq = numbers(qk, 1), *dk = numbers(qk, 1), *dv = numbers(vs, 1), *dg = numbers(h, 1), *db = numbers(h, 1);
    float *whole = calloc(size, sizeof *whole), *state = calloc(size, sizeof *state);
    for (size_t i = 0; i < h; i++) {
        g[i] = i % 17 == 0 ? -1000.0f : -fabsf(g[i]); /* now and then a token forgets everything */
        beta[i] += .5f;
    }
    SAME_ON_THREADS(y, vs,
                    CHECK_INT(ha_gated_delta_forward(&d, &batch, q, k, Q, v, HEADS * 8, g, beta, NULL, NULL, y,
                                                     HEADS * 8, z, saved, &arena),
                              HA_OK));
    SAME_ON_THREADS(
        dq, qk,
        CHECK_INT(ha_gated_delta_backward(&d, &batch, q, k, Q, v, HEADS * 8, g, beta, y, HEADS * 8, z, saved, dy,
                                          HEADS * 8, NULL, dq, dk, Q, dv, HEADS * 8, dg, db, &arena),
                  HA_OK));
    for (size_t i = 0; i < h; i++)
        if (!isfinite(dg[i]) || !isfinite(db[i]))
            CHECK_FAIL("gradient %zu is %g, %g", i, dg[i], db[i]);
    /* the last sequence in two pieces and a single token, through the state */
    const int pieces[] = {0, 30, 63, 64};
    float *part = numbers(64 * HEADS * 8, 1);
    for (int i = 0; i < 3; i++) {
        const int32_t offset[] = {0, pieces[i + 1] - pieces[i]};
        const ha_batch one = {.rows = offset[1], .n_seq = 1, .offset = offset};
        ptrdiff_t row = 129 + pieces[i];
        CHECK_INT(ha_gated_delta_forward(&d, &one, q + row * Q, k + row * Q, Q, v + row * HEADS * 8, HEADS * 8,
                                         g + row * HEADS, beta + row * HEADS, (float *const[]){state},
                                         (float *const[]){state}, part + pieces[i] * HEADS * 8, HEADS * 8, NULL, NULL,
                                         &arena),
                  HA_OK);
    }
    CHECK_ALL_CLOSE(part, y + 129 * HEADS * 8, 64 * HEADS * 8, 1e-5);
    free(q), free(k), free(v), free(g), free(beta), free(y), free(z), free(saved), free(dy), free(dq), free(dk),
        free(dv), free(dg), free(db);
    free(whole), free(state), free(part);
}

static void linear_attention(void)
{
    const int F = 2 * DIM;
    const size_t n = (size_t)ROWS * Q, fs = (size_t)ROWS * HEADS * (size_t)F, es = (size_t)ROWS * KV * (size_t)F,
                 vs = (size_t)ROWS * K, h = (size_t)ROWS * HEADS;
    for (int lag = 0; lag < 80; lag += 5 + 59 * (lag > 0)) { /* 0, 5, 69: longer than a sequence too */
        const ha_linear_attention a = {HEADS, KV, F, DIM, lag};
        float *f = numbers(fs, 1), *e = numbers(es, 1), *v = numbers(vs, 1), *num = numbers(n, 1), *den = numbers(h, 1);
        float *saved = numbers(ha_linear_attention_states(&a, &batch) + 1, 1), *dnum = numbers(n, 1),
              *dden = numbers(h, 1);
        float *df = numbers(fs, 1), *de = numbers(es, 1), *dv = numbers(vs, 1);
        const float *ep[4], *vp[4];
        for (int s = 0; s < 4; s++) {
            ep[s] = e + offsets[s] * KV * F;
            vp[s] = v + offsets[s] * K;
        }
        SAME_ON_THREADS(num, n,
                        CHECK_INT(ha_linear_attention_forward(&a, &batch, f, HEADS * F, ep, KV * F, vp, K, NULL, num, Q,
                                                              den, saved, &arena),
                                  HA_OK));
        SAME_ON_THREADS(df, fs,
                        CHECK_INT(ha_linear_attention_backward(&a, &batch, f, HEADS * F, e, KV * F, v, K, saved, dnum,
                                                               Q, dden, df, HEADS * F, de, KV * F, dv, K, &arena),
                                  HA_OK));
        free(f), free(e), free(v), free(num), free(den), free(saved), free(dnum), free(dden), free(df), free(de),
            free(dv);
    }
}

static void losses(void)
{
    enum { R = 70, D = 24, V = 101 };
    float *t = numbers(R * D, 1), *s = numbers(R * D, 1), *head = numbers(V * D, 1), *dh = numbers(R * D, 1),
          *dw = calloc(V * D, sizeof *dw);
    double kl[R], nll[R], ce[R], *loss[1] = {kl};
    int32_t target[R];
    for (int r = 0; r < R; r++)
        target[r] = r % 9 ? r : -1;
    SAME_ON_THREADS(dh, R * D,
                    CHECK_INT(ha_head_kl(R, D, V, t, head, 1, (const float *const[]){s}, head, 1.0f, loss, target, nll,
                                         dh, dw, NULL, &arena),
                              HA_OK));
    CHECK_INT(ha_head_cross_entropy(R, D, V, s, head, target, 1.0f, ce, dh, dw, NULL, &arena), HA_OK);
    for (int r = 0; r < R; r++) {
        CHECK(kl[r] >= 0.0 && isfinite(kl[r]));
        CHECK_CLOSE(nll[r], ce[r], 1e-6);
    }
    ha_align_loss(R, D, t, t, 1.0f, kl, dh);
    CHECK(kl[0] == 0.0 && dh[0] == 0.0f);
    free(t), free(s), free(head), free(dh), free(dw);
}

static void optimizer(void)
{
    enum { N = 70000 };
    const ha_segment parts[] = {{0, 65537, 0.1f, 0.0f}, {65540, 100, 0.0f, 0.0f}};
    float *p = numbers(N, 1), *before = copy(p, N), *g = numbers(N, 1), *m = calloc(N, sizeof *m),
          *v = calloc(N, sizeof *v);
    CHECK(ha_sum_squares(2, parts, g, &arena) > 0.0);
    float gap = g[65538];
    CHECK_INT(ha_adamw(2, parts, p, g, m, v, 1.0f, 0.9f, 0.95f, 1e-8f, 1, &arena), HA_OK);
    CHECK_CLOSE(fabsf(p[0] - before[0]), 0.1, 1e-4); /* the first step is lr in the gradient's direction */
    CHECK(g[0] == 0.0f && g[65538] == gap && p[65538] == before[65538] && p[65540] == before[65540]);
    free(p), free(before), free(g), free(m), free(v);
}

static void a_full_arena_is_an_error(void)
{
    ha_arena small;
    CHECK_INT(ha_arena_open(&small), HA_OK);
    size_t mapped = small.size;
    small.size = 1 << 12;
    const ha_attention a = {HEADS, KV, DIM, 1, 0, 0, 1.0f};
    float *x = numbers((size_t)ROWS * (Q + 2 * K), 1), *y = numbers((size_t)ROWS * Q, 1);
    ha_keys keys[4];
    for (int s = 0; s < 4; s++)
        keys[s] = (ha_keys){x, x + K, Q + 2 * K, DIM, offsets[s + 1] - offsets[s], 0};
    CHECK_INT(ha_attention_forward(&a, &batch, x, Q + 2 * K, keys, y, Q, NULL, NULL, &small), HA_NO_MEMORY);
    CHECK(strstr(ha_error_message(), "use fewer or shorter sequences") != NULL);
    small.size = mapped;
    ha_arena_close(&small);
    free(x), free(y);
}

int main(void)
{
    CHECK_INT(ha_arena_open(&arena), HA_OK);
    RUN(linear);
    RUN(softmax_attention);
    RUN(gated_delta);
    RUN(linear_attention);
    RUN(losses);
    RUN(optimizer);
    RUN(a_full_arena_is_an_error);
    ha_arena_close(&arena);
    return REPORT();
}
