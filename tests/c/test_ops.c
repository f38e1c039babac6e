/* Every operation, forward and backward, on sequences of 1, 63, 64, 65 and 130 rows: equal to its naive twin in double,
 * gradients equal to difference quotients, the same bits on one and two threads, and an error when the arena is full. */
#include <pthread.h>
#include <stdatomic.h>

#include "arrays.h"
#include "kernels/kernels.h"
#include "ref/ref.h"

static const int32_t offsets[] = {0, 65, 66, 129, 259, 323};
static const ha_batch batch = {.rows = 323, .n_seq = 5, .offset = offsets};
enum { ROWS = 323, SEQS = 5, HEADS = 4 };
static const int dims[] = {8, 24, 64};

/* --- rows --- */

static void linear(void)
{
    const int shapes[][3] = {{1, 7, 5}, {3, 64, 130}, {63, 33, 257}, {65, 24, 8}, {130, 96, 48}};
    for (int i = 0; i < 5; i++) {
        const int rows = shapes[i][0], in = shapes[i][1], out = shapes[i][2], ldx = in + 3;
        const size_t n = (size_t)(rows * out), m = (size_t)(rows * ldx), k = (size_t)(in * out);
        float *x = numbers(m, 1), *w = numbers(k, 1), *b = numbers((size_t)out, 1), *y = zeros(n), *dy = numbers(n, 1);
        float *dx = zeros((size_t)(rows * in)), *dw = zeros(k), *db = zeros((size_t)out);
        double *want = keep(malloc(n * sizeof *want));
        EXERCISE(VOID(ha_linear_forward(rows, in, out, 1.0f, x, ldx, ha_f32(w), b, 0.0f, y, out)), {y, n});
        ref_linear(rows, in, out, columns(x, rows, ldx, 0, in), wide(w, k), wide(b, (size_t)out), want);
        CHECK_TWIN(y, want, n);
        EXERCISE(VOID(ha_linear_backward(rows, in, out, 1.0f, x, ldx, ha_f32(w), dy, out, 0.0f, dx, in, dw, db)),
                 {dx, (size_t)(rows * in)}, {dw, k, 1}, {db, (size_t)out, 1});
        CHECK_SLOPE(w, dw, k, VOID(ha_linear_forward(rows, in, out, 1.0f, x, ldx, ha_f32(w), b, 0.0f, y, out)),
                    {y, n, dy});
        CHECK_SLOPE(b, db, (size_t)out,
                    VOID(ha_linear_forward(rows, in, out, 1.0f, x, ldx, ha_f32(w), b, 0.0f, y, out)), {y, n, dy});
        x = numbers((size_t)(rows * in), 1); /* dx depends on w only */
        CHECK_SLOPE(x, dx, (size_t)(rows * in),
                    VOID(ha_linear_forward(rows, in, out, 1.0f, x, in, ha_f32(w), b, 0.0f, y, out)), {y, n, dy});
        drop();
    }
}

/* Every storage type, alone and with float32 rows behind it: arrays of malloc show a read past a row's end. */
static void stored_linear(void)
{
    const int shapes[][3] = {{1, 32, 5}, {3, 64, 131}, {16, 96, 70}, {65, 288, 150}};
    for (int type = HA_BF16; type < HA_DTYPE_COUNT; type++)
        for (int i = 0; i < 4; i++) {
            const int rows = shapes[i][0], in = shapes[i][1], out = shapes[i][2], first = out / 2;
            const size_t n = (size_t)(rows * out), k = (size_t)(in * out), part = (size_t)(first * in);
            float *x = numbers((size_t)(rows * in), 1), *w = numbers(k, 1), *y = zeros(n), *dy = numbers(n, 1);
            float *dx = zeros((size_t)(rows * in)), *table = zeros(part);
            double *want = keep(malloc(n * sizeof *want)), *exact = wide(w, k);
            void *bytes = keep(malloc(ha_dtype_bytes((ha_dtype)type, part)));
            ha_from_f32((ha_dtype)type, w, bytes, part);
            ref_stored((ha_dtype)type, part, exact, exact);
            const ha_matrix rest = ha_f32(w + part), m = {(ha_dtype)type, bytes, first, &rest};
            EXERCISE(VOID(ha_linear_forward(rows, in, out, 1.0f, x, in, m, NULL, 0.0f, y, out)), {y, n});
            ref_linear(rows, in, out, wide(x, (size_t)(rows * in)), exact, NULL, want);
            CHECK_TWIN(y, want, n);
            EXERCISE(VOID(ha_linear_backward(rows, in, out, 1.0f, x, in, m, dy, out, 0.0f, dx, in, NULL, NULL)),
                     {dx, (size_t)(rows * in)});
            CHECK_SLOPE(x, dx, (size_t)(rows * in),
                        VOID(ha_linear_forward(rows, in, out, 1.0f, x, in, m, NULL, 0.0f, y, out)), {y, n, dy});
            for (int r = 0; r < first; r++)
                ha_embed_forward(1, in, &r, m, table + (size_t)r * (size_t)in);
            CHECK_TWIN(table, exact, part);
            drop();
        }
}

/* Blocks rounded by what they are multiplied with: eight bits without correlations as they come, fewer with a smaller error
 * of the products; any number of threads, numbers that no code reaches, a factor of nothing. */
static void rounding(void)
{
    const ha_dtype types[] = {HA_Q8_0, HA_Q4_0, HA_Q4_1};
    enum { ROUNDED = 7, IN = 96 };
    for (int i = 0; i < 3; i++) {
        const size_t n = (size_t)ROUNDED * IN, bytes = ha_dtype_bytes(types[i], n);
        float *w = numbers(n, 1), *u = zeros((size_t)IN * IN), *work = copy(w, n);
        uint8_t *plain = keep(malloc(bytes)), *out = keep(malloc(bytes)), *again = keep(malloc(bytes));
        for (int j = 0; j < IN; j++)
            u[j * IN + j] = 1.0f;
        ha_from_f32(types[i], w, plain, n);
        ha_round_matrix(ROUNDED, IN, types[i], u, work, out);
        CHECK(types[i] != HA_Q8_0 || memcmp(out, plain, bytes) == 0);
        for (int j = 0; j + 1 < IN; j++)
            u[j * IN + j + 1] = -1.0f; /* what one column lacks the next one adds: sums come out right */
        memcpy(work, w, n * sizeof *w);
        ha_round_matrix(ROUNDED, IN, types[i], u, work, out);
        float *found = zeros(n), *nearest = zeros(n);
        ha_kernels_get()->decode[types[i]](n, out, found);
        ha_kernels_get()->decode[types[i]](n, plain, nearest);
        double off = 0.0, off_nearest = 0.0;
        for (int r = 0; r < ROUNDED; r++) {
            double sum = 0.0, sum_nearest = 0.0;
            for (int j = r * IN; j < (r + 1) * IN; j++) {
                sum += (double)(found[j] - w[j]);
                sum_nearest += (double)(nearest[j] - w[j]);
            }
            off += sum * sum;
            off_nearest += sum_nearest * sum_nearest;
        }
        CHECK(off < 0.5 * off_nearest);
        for (int threads = 1; threads <= 3; threads++) {
            ha_set_threads(threads);
            memcpy(work, w, n * sizeof *w);
            ha_round_matrix(ROUNDED, IN, types[i], u, work, again);
            CHECK(memcmp(out, again, bytes) == 0);
        }
        memset(u, 0, (size_t)IN * IN * sizeof *u);
        w[5] = INFINITY;
        ha_round_matrix(ROUNDED, IN, types[i], u, w, again);
        drop();
    }
}

static void norm_rope_swiglu_embed(void)
{
    for (int i = 0; i < 3; i++) {
        const int d = dims[i], half = d / 2, width = HEADS * d;
        const size_t n = (size_t)ROWS * (size_t)d, all = (size_t)ROWS * (size_t)width, angles = (size_t)(ROWS * half);
        float *x = numbers(2 * n, 2), *w = numbers((size_t)d, 1), *y = zeros(n), *dy = numbers(n, 1), *dx = zeros(n);
        float *dw = zeros((size_t)d), *want_y = zeros(n);
        double *want = keep(malloc(all * sizeof *want));
        EXERCISE(VOID(ha_rms_norm_forward(ROWS, d, x, d, w, 1e-5f, y, d)), {y, n});
        ref_rms_norm(ROWS, d, wide(x, n), wide(w, (size_t)d), 1e-5, want);
        CHECK_TWIN(y, want, n);
        EXERCISE(ha_rms_norm_backward(ROWS, d, x, d, w, 1e-5f, dy, d, dx, d, dw, &arena), {dx, n, 1},
                 {dw, (size_t)d, 1});
        CHECK_SLOPE(x, dx, n, VOID(ha_rms_norm_forward(ROWS, d, x, d, w, 1e-5f, y, d)), {y, n, dy});
        CHECK_SLOPE(w, dw, (size_t)d, VOID(ha_rms_norm_forward(ROWS, d, x, d, w, 1e-5f, y, d)), {y, n, dy});

        float *b = numbers((size_t)d, 1), *db = zeros((size_t)d);
        memset(dx, 0, n * sizeof *dx);
        memset(dw, 0, (size_t)d * sizeof *dw);
        EXERCISE(VOID(ha_layer_norm_forward(ROWS, d, x, d, w, b, 1e-5f, y, d)), {y, n});
        ref_layer_norm(ROWS, d, wide(x, n), wide(w, (size_t)d), wide(b, (size_t)d), 1e-5, want);
        CHECK_TWIN(y, want, n);
        EXERCISE(ha_layer_norm_backward(ROWS, d, x, d, w, 1e-5f, dy, d, dx, d, dw, db, &arena), {dx, n, 1},
                 {dw, (size_t)d, 1}, {db, (size_t)d, 1});
        CHECK_SLOPE(w, dw, (size_t)d, VOID(ha_layer_norm_forward(ROWS, d, x, d, w, b, 1e-5f, y, d)), {y, n, dy});
        CHECK_SLOPE(b, db, (size_t)d, VOID(ha_layer_norm_forward(ROWS, d, x, d, w, b, 1e-5f, y, d)), {y, n, dy});
        if (d > 1)
            CHECK_SLOPE(x, dx, n, VOID(ha_layer_norm_forward(ROWS, d, x, d, w, b, 1e-5f, y, d)), {y, n, dy});
        for (int f = 0; f < HA_ACTS; f++) {
            float *slope = zeros(n);
            EXERCISE(VOID(ha_act_forward((ha_act)f, n, x, y)), {y, n});
            ref_activation((ha_act)f, n, wide(x, n), want);
            CHECK_TWIN(y, want, n);
            memcpy(want_y, y, n * sizeof *y);
            EXERCISE(VOID((memcpy(slope, x, n * sizeof *x), ha_act_backward((ha_act)f, n, slope, dy, y))), {slope, n},
                     {y, n});
            CHECK_ALL_CLOSE(y, want_y, n, 1e-6);
            CHECK_SLOPE(x, slope, n, VOID(ha_act_forward((ha_act)f, n, x, y)), {y, n, dy});
        }

        float *gate_up = zeros(2 * n);
        EXERCISE(VOID(ha_swiglu_forward(ROWS, d, x, y)), {y, n});
        ref_swiglu(ROWS, d, wide(x, 2 * n), want);
        CHECK_TWIN(y, want, n);
        memcpy(want_y, y, n * sizeof *y);
        EXERCISE(VOID((memcpy(gate_up, x, 2 * n * sizeof *x), ha_swiglu_backward(ROWS, d, gate_up, dy, y))),
                 {gate_up, 2 * n}, {y, n});
        CHECK_ALL_CLOSE(y, want_y, n, 1e-6);
        CHECK_SLOPE(x, gate_up, 2 * n, VOID(ha_swiglu_forward(ROWS, d, x, y)), {y, n, dy});

        int32_t position[ROWS], token[ROWS];
        float *freq = numbers((size_t)half, 1), *cosine = zeros(angles), *sine = zeros(angles);
        float *turned = zeros(all), *heads = numbers(all, 1);
        for (int r = 0; r < ROWS; r++) {
            position[r] = r % 130;
            token[r] = r * r % 11; /* with repetitions, in no order */
        }
        EXERCISE(VOID(ha_rope_table(ROWS, half, position, freq, 1.0f, cosine, sine)), {cosine, angles}, {sine, angles});
        EXERCISE(VOID((memcpy(turned, heads, all * sizeof *heads),
                       ha_rope(ROWS, HEADS, d, half, cosine, sine, 1.0f, turned, width))),
                 {turned, all});
        ref_rope(ROWS, HEADS, d, half, position, wide(freq, (size_t)half), 1.0, wide(heads, all), want);
        CHECK_TWIN(turned, want, all);
        ha_rope(ROWS, HEADS, d, half, cosine, sine, -1.0f, turned,
                width); /* a rotation: the inverse is the transpose */
        CHECK_ALL_CLOSE(turned, heads, all, 1e-6);

        float *table = numbers((size_t)(11 * d), 1), *dtable = zeros((size_t)(11 * d));
        EXERCISE(VOID(ha_embed_forward(ROWS, d, token, ha_f32(table), y)), {y, n});
        EXERCISE(VOID(ha_embed_backward(ROWS, d, token, dy, dtable)), {dtable, (size_t)(11 * d), 1});
        CHECK_SLOPE(table, dtable, (size_t)(11 * d), VOID(ha_embed_forward(ROWS, d, token, ha_f32(table), y)),
                    {y, n, dy});
        memcpy(want_y, x, n * sizeof *x);
        ha_embed_add(ROWS, d, token, table, want_y); /* onto x, what the table alone gives */
        for (size_t j = 0; j < n; j++)
            CHECK_CLOSE(want_y[j],
                        (double)x[j] + (double)table[(size_t)token[j / (size_t)d] * (size_t)d + j % (size_t)d], 1e-6);
        drop();
    }
}

static void feature_of(ha_feature map, int d)
{
    const int width = HEADS * d, wider = HEADS * ha_feature_width(map, d);
    const size_t n = (size_t)ROWS * (size_t)width, m = (size_t)ROWS * (size_t)wider, k = (size_t)(HEADS * d * d);
    float *x = numbers(n, 1), *w = ha_feature_has_weight(map) ? numbers(k, 1.0 / sqrt(d)) : NULL, *y = zeros(m);
    float *dy = numbers(m, 1), *dx = zeros(n), *dw = w ? zeros(k) : NULL;
    double *want = keep(malloc(m * sizeof *want));
#define FORWARD ha_feature_forward(map, ROWS, HEADS, d, x, width, w, y, wider, &arena)
#define BACKWARD ha_feature_backward(map, ROWS, HEADS, d, x, width, w, y, wider, dy, wider, dx, width, dw, &arena)
    EXERCISE(FORWARD, {y, m});
    ref_feature((int)map, ROWS, HEADS, d, wide(x, n), w ? wide(w, k) : NULL, want);
    CHECK_TWIN(y, want, m);
    if (w)
        EXERCISE(BACKWARD, {dx, n, 1}, {dw, k, 1});
    else
        EXERCISE(BACKWARD, {dx, n, 1});
    if (map != HA_FEATURE_RELU) /* has a corner at 0 */
        CHECK_SLOPE(x, dx, n, FORWARD, {y, m, dy});
    if (w)
        CHECK_SLOPE(w, dw, k, FORWARD, {y, m, dy});
#undef FORWARD
#undef BACKWARD
}

static void features(void)
{
    for (int i = 0; i < 12; i++) {
        feature_of((ha_feature)(i % 4), dims[i / 4]);
        drop();
    }
}

/* --- sequences --- */

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
    ref_softmax_attention(&twin, &batch, offsets, columns(qkv, ROWS, ld, 0, q), columns(qkv, ROWS, ld, q, k),
                          columns(qkv, ROWS, ld, q + k, k), want, want + n, want + n + h);
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

/* The slots of operands: those that a form has not are NULL. */
enum { Q_, K_, V_, G_, BETA_, A_, B_, OPERANDS };

static void recurrence_of(ha_gate gate, int beta, int erase, int dk, int dv)
{
    const ha_recurrence r = {HEADS, dk, dv, gate};
    const int K = HEADS * dk, V = HEADS * dv;
    const size_t n = (size_t)(ROWS * K), m = (size_t)(ROWS * V), h = ROWS * HEADS, size = (size_t)(HEADS * dk * dv);
    const size_t gates = gate == HA_GATE_NONE ? 0 : gate == HA_GATE_HEAD ? h : gate == HA_GATE_VALUE ? m : n;
    const size_t count[OPERANDS] = {n, n, m, gates, beta ? h : 0, erase ? n : 0, erase ? n : 0};
    const double scale[OPERANDS] = {1.7 / sqrt(dk), 1.7 / sqrt(dk), 1, 1, .5, 1.2 / sqrt(dk), 1.2 / sqrt(dk)};
    const size_t saves = ha_recurrence_states(&r, &batch), all = SEQS * size;
    float *x[OPERANDS] = {NULL}, *dx[OPERANDS] = {NULL};
    double *twin[OPERANDS] = {NULL};
    for (int i = 0; i < OPERANDS; i++) {
        x[i] = count[i] ? numbers(count[i], scale[i]) : NULL;
        dx[i] = zeros(count[i]);
    }
    for (size_t i = 0; i < gates; i++)
        x[G_][i] = i % 17 == 0 ? -1000.0f : -fabsf(x[G_][i]); /* now and then all is forgotten */
    for (size_t i = 0; i < count[BETA_]; i++)
        x[BETA_][i] += .5f;
    for (int i = 0; i < OPERANDS; i++)
        twin[i] = x[i] ? wide(x[i], count[i]) : NULL;
    float *start = numbers(all, .3), *dy = numbers(m, 1), *dend = numbers(all, 1), *y = zeros(m), *u = zeros(m);
    float *saved = zeros(saves), *end = zeros(all), *dstart = zeros(all), *in[SEQS], *out[SEQS], *dstate[SEQS];
    double *want = keep(malloc(m * sizeof *want)), *want_end = wide(start, all);
    for (int s = 0; s < SEQS; s++) {
        in[s] = start + (size_t)s * size;
        out[s] = end + (size_t)s * size;
        dstate[s] = dstart + (size_t)s * size;
    }
    const ha_recurrence_in operand = {x[Q_], x[K_], x[V_], x[G_], x[BETA_], x[A_], x[B_], K, V};
    const ha_recurrence_out gradient = {dx[Q_], dx[K_], dx[V_], dx[G_], dx[BETA_], dx[A_], dx[B_], K, V};
    const ha_recurrence_saved kept = {u, saved};
#define FORWARD ha_recurrence_forward(&r, &batch, &operand, in, out, ha_rows_to(y, V), &kept, &arena)
    EXERCISE(FORWARD, {y, m}, {u, m}, {saved, saves}, {end, all});
    const ref_shape shape = {HEADS, dk, dv, gate == HA_GATE_CHANNEL, 0};
    double *const gv = gate == HA_GATE_VALUE ? twin[G_] : NULL;
    const ref_operands wide_operand = {twin[Q_],    twin[K_], twin[V_], gv ? NULL : twin[G_],
                                       twin[BETA_], twin[A_], twin[B_], gv};
    ref_recurrence(&shape, &batch, &wide_operand, want_end, want);
    CHECK_TWIN(y, want, m);
    CHECK_TWIN(end, want_end, all);
    EXERCISE((memcpy(dstart, dend, all * sizeof *dend),
              ha_recurrence_backward(&r, &batch, &operand, &kept, ha_rows_of(dy, V), dstate, &gradient, &arena)),
             {dx[Q_], count[Q_]}, {dx[K_], count[K_]}, {dx[V_], count[V_]}, {dx[G_], count[G_]},
             {dx[BETA_], count[BETA_]}, {dx[A_], count[A_]}, {dx[B_], count[B_]}, {dstart, all});
    for (int i = 0; i < OPERANDS; i++)
        if (x[i])
            CHECK_SLOPE(x[i], dx[i], count[i], FORWARD, {y, m, dy}, {end, all, dend});
    CHECK_SLOPE(start, dstart, all, FORWARD, {y, m, dy}, {end, all, dend});
#undef FORWARD
    /* the last sequence in pieces, through the state; the last piece is a token */
    const int pieces[] = {259, 289, 322, 323};
    float *part = zeros(m), *state = copy(in[SEQS - 1], size), *const states[] = {state};
    for (int i = 0; i < 3; i++) {
        const int32_t offset[] = {0, pieces[i + 1] - pieces[i]};
        const ha_batch one = {.rows = offset[1], .n_seq = 1, .offset = offset};
        const ptrdiff_t row = pieces[i];
        const ha_recurrence_in piece = {x[Q_] + row * K,
                                        x[K_] + row * K,
                                        x[V_] + row * V,
                                        gates ? x[G_] + (size_t)row * gates / ROWS : NULL,
                                        beta ? x[BETA_] + row * HEADS : NULL,
                                        erase ? x[A_] + row * K : NULL,
                                        erase ? x[B_] + row * K : NULL,
                                        K,
                                        V};
        CHECK_INT(ha_recurrence_forward(&r, &one, &piece, states, states, ha_rows_to(part + row * V, V), NULL, &arena),
                  HA_OK);
    }
    CHECK_TWIN(part + 259 * V, want + 259 * V, 64 * (size_t)V);
    CHECK_TWIN(state, want_end + 4 * size, size);
    drop();
}

static void recurrence(void)
{
    const ha_gate gates[] = {HA_GATE_NONE, HA_GATE_HEAD, HA_GATE_CHANNEL};
    for (int form = 0; form < 3; form++) /* additive, delta rule, a and b */
        for (int i = 0; i < 3; i++)
            recurrence_of(gates[(form + i) % 3], form == 1, form == 2,
                          i == 0   ? 8
                          : i == 1 ? 24
                                   : 64,
                          i == 0   ? 24
                          : i == 1 ? 9
                                   : 64);
    recurrence_of(HA_GATE_VALUE, 0, 0, 24, 9);
    recurrence_of(HA_GATE_VALUE, 0, 0, 8, 70);
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
    ref_linear_attention(&twin, &batch, wide(f, fs), wide(e, es), wide(v, vs), NULL, want, want + ns);
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
    ref_linear_attention(&twin, &batch, wide(f, fs), wide(e, es), wide(v, vs), want_end, want, want + ns);
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
    const ha_pool shapes[] = {{1, 130}, {7, 131}, {64, 200}};
    for (int i = 0; i < 3; i++) {
        const ha_pool *p = &shapes[i];
        const int d = dims[i] + 61;
        int32_t at[SEQS + 1];
        ha_pool_offsets(p, &batch, at);
        const size_t n = (size_t)(ROWS * d), k = (size_t)(p->slots * p->length), m = (size_t)(at[SEQS] * d);
        float *x = numbers(n, 1), *w = numbers(k, 0.1), *y = zeros(m), *dy = numbers(m, 1), *dx = zeros(n);
        float *dw = zeros(k);
        double *want = keep(malloc(m * sizeof *want));
#define FORWARD ha_pool_forward(p, &batch, d, x, d, w, y, &arena)
        EXERCISE(FORWARD, {y, m});
        ref_pool(&batch, d, p->slots, p->length, wide(x, n), wide(w, k), want);
        CHECK_TWIN(y, want, m);
        EXERCISE(ha_pool_backward(p, &batch, d, x, d, w, dy, dx, d, dw, &arena), {dx, n}, {dw, k, 1});
        CHECK_SLOPE(x, dx, n, FORWARD, {y, m, dy});
        CHECK_SLOPE(w, dw, k, FORWARD, {y, m, dy});
#undef FORWARD
        drop();
    }
}

static void short_conv(void)
{
    for (int i = 0; i < 3; i++) {
        const int d = dims[i] + 60, width = 2 + 7 * i;
        const size_t n = (size_t)ROWS * (size_t)d, k = (size_t)(d * width), size = (size_t)((width - 1) * d);
        float *x = numbers(n, 1), *w = numbers(k, 1.0 / width), *y = zeros(n), *dy = numbers(n, 1), *dx = zeros(n);
        float *dw = zeros(k), *start = numbers(SEQS * size, 1), *end = zeros(SEQS * size), *state[SEQS];
        double *want = keep(malloc(n * sizeof *want)), *want_end = wide(start, SEQS * size);
        for (int s = 0; s < SEQS; s++)
            state[s] = end + (size_t)s * size;
#define FORWARD VOID(ha_short_conv_forward(&batch, d, width, x, d, w, NULL, y, d))
        EXERCISE(FORWARD, {y, n});
        ref_short_conv(&batch, d, width, wide(x, n), wide(w, k), NULL, want);
        CHECK_TWIN(y, want, n);
        EXERCISE(VOID(ha_short_conv_backward(&batch, d, width, x, d, w, dy, d, dx, d, dw)), {dx, n, 1}, {dw, k, 1});
        CHECK_SLOPE(x, dx, n, FORWARD, {y, n, dy});
        CHECK_SLOPE(w, dw, k, FORWARD, {y, n, dy});
#undef FORWARD
        EXERCISE((memcpy(end, start, SEQS * size * sizeof *end),
                  VOID(ha_short_conv_forward(&batch, d, width, x, d, w, state, y, d))),
                 {y, n}, {end, SEQS * size});
        ref_short_conv(&batch, d, width, wide(x, n), wide(w, k), want_end, want);
        CHECK_TWIN(y, want, n);
        CHECK_TWIN(end, want_end, SEQS * size);
        drop();
    }
}

/* --- threads --- */

static void *change_threads(void *stop)
{
    for (int n = 0; !atomic_load((atomic_int *)stop); n++)
        ha_set_threads(1 + n % 2 * 7);
    return NULL;
}

/* Scratch for as many threads as run, whatever ha_set_threads does on another thread: the sanitizer sees to it. */
static void threads_change_during_a_call(void)
{
    const int d = 8, width = HEADS * d;
    const size_t n = (size_t)(ROWS * width);
    const ha_recurrence delta = {HEADS, d, d, HA_GATE_HEAD};
    const ha_linear_attention linear = {.heads = HEADS, .kv_heads = HEADS, .features = d, .dim = d};
    float *x = numbers(n, 1), *w = numbers((size_t)(HEADS * d * d), 1), *y = zeros(2 * n), *den = zeros(n);
    float *g = zeros((size_t)(ROWS * HEADS));
    const ha_recurrence_in operands = {x, x, x, g, g, NULL, NULL, width, width};
    ha_rows rows[SEQS];
    const ha_linear_attention_in in = {ha_rows_of(x, width), rows, rows};
    const ha_linear_attention_out out = {ha_rows_to(y, width), den};
    pthread_t other;
    atomic_int stop = 0;
    for (int s = 0; s < SEQS; s++)
        rows[s] = ha_rows_of(x + offsets[s] * width, width);
    CHECK_INT(pthread_create(&other, NULL, change_threads, &stop), 0);
    for (int i = 0; i < 50; i++) {
        CHECK_INT(ha_feature_forward(HA_FEATURE_HEDGEHOG, ROWS, HEADS, d, x, width, w, y, 2 * width, &arena), HA_OK);
        CHECK_INT(ha_recurrence_forward(&delta, &batch, &operands, NULL, NULL, ha_rows_to(y, width), NULL, &arena),
                  HA_OK);
        CHECK_INT(ha_linear_attention_forward(&linear, &batch, &in, NULL, &out, NULL, &arena), HA_OK);
    }
    atomic_store(&stop, 1);
    pthread_join(other, NULL);
    drop();
}

int main(void)
{
    ha_arena_open(&arena);
    RUN(linear);
    RUN(stored_linear);
    RUN(rounding);
    RUN(norm_rope_swiglu_embed);
    RUN(features);
    RUN(softmax_attention);
    RUN(recurrence);
    RUN(linear_attention);
    RUN(pool);
    RUN(short_conv);
    RUN(threads_change_during_a_call);
    ha_arena_close(&arena);
    return REPORT();
}
