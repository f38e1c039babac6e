/* Every operation on rows, forward and backward: equal to its naive twin in double, gradients equal to difference
 * quotients, the same bits on one and two threads, and an error when the arena is full. */
#include "sequences.h"

static void linear(void)
{
    const int shapes[][3] = {{1, 7, 5}, {3, 64, 130}, {63, 33, 257}, {65, 24, 8}, {130, 96, 48}};
    for (int i = 0; i < 5; i++) {
        const int rows = shapes[i][0], in = shapes[i][1], out = shapes[i][2], ldx = in + 3;
        const size_t n = (size_t)(rows * out), m = (size_t)(rows * ldx), k = (size_t)(in * out);
        float *x = numbers(m, 1), *w = numbers(k, 1), *b = numbers((size_t)out, 1), *y = zeros(n), *dy = numbers(n, 1);
        float *dx = zeros((size_t)(rows * in)), *dw = zeros(k), *db = zeros((size_t)out);
        double *want = keep(malloc(n * sizeof *want));
        const ha_linear layer = ha_linear_of(in, out, ha_f32(w), b);
        const ha_linear_gradient gradient = {.x = ha_rows_to(dx, in), .weight = dw, .bias = db};
        EXERCISE(VOID(ha_linear_forward(&layer, rows, ha_rows_of(x, ldx), 0, ha_rows_to(y, out))), {y, n});
        ref_linear(rows, in, out, columns(x, rows, ldx, 0, in), wide(w, k), wide(b, (size_t)out), want);
        CHECK_TWIN(y, want, n);
        EXERCISE(VOID(ha_linear_backward(&layer, rows, ha_rows_of(x, ldx), ha_rows_of(dy, out), &gradient)),
                 {dx, (size_t)(rows * in)}, {dw, k, 1}, {db, (size_t)out, 1});
        CHECK_SLOPE(w, dw, k, VOID(ha_linear_forward(&layer, rows, ha_rows_of(x, ldx), 0, ha_rows_to(y, out))),
                    {y, n, dy});
        CHECK_SLOPE(b, db, (size_t)out,
                    VOID(ha_linear_forward(&layer, rows, ha_rows_of(x, ldx), 0, ha_rows_to(y, out))), {y, n, dy});
        x = numbers((size_t)(rows * in), 1); /* dx depends on w only */
        CHECK_SLOPE(x, dx, (size_t)(rows * in),
                    VOID(ha_linear_forward(&layer, rows, ha_rows_of(x, in), 0, ha_rows_to(y, out))), {y, n, dy});
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
            const ha_linear layer = ha_linear_of(in, out, m, NULL);
            const ha_linear_gradient gradient = {.x = ha_rows_to(dx, in)};
            EXERCISE(VOID(ha_linear_forward(&layer, rows, ha_rows_of(x, in), 0, ha_rows_to(y, out))), {y, n});
            ref_linear(rows, in, out, wide(x, (size_t)(rows * in)), exact, NULL, want);
            CHECK_TWIN(y, want, n);
            EXERCISE(VOID(ha_linear_backward(&layer, rows, ha_rows_of(x, in), ha_rows_of(dy, out), &gradient)),
                     {dx, (size_t)(rows * in)});
            CHECK_SLOPE(x, dx, (size_t)(rows * in),
                        VOID(ha_linear_forward(&layer, rows, ha_rows_of(x, in), 0, ha_rows_to(y, out))), {y, n, dy});
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
        const ha_row_norm rms = {d, w, NULL, 1e-5f};
        EXERCISE(VOID(ha_rms_norm_forward(&rms, ROWS, ha_rows_of(x, d), ha_rows_to(y, d))), {y, n});
        ref_rms_norm(ROWS, d, wide(x, n), wide(w, (size_t)d), 1e-5, want);
        CHECK_TWIN(y, want, n);
        EXERCISE(ha_rms_norm_backward(&rms, ROWS, ha_rows_of(x, d), ha_rows_of(dy, d), ha_rows_to(dx, d), dw, &arena),
                 {dx, n, 1}, {dw, (size_t)d, 1});
        CHECK_SLOPE(x, dx, n, VOID(ha_rms_norm_forward(&rms, ROWS, ha_rows_of(x, d), ha_rows_to(y, d))), {y, n, dy});
        CHECK_SLOPE(w, dw, (size_t)d, VOID(ha_rms_norm_forward(&rms, ROWS, ha_rows_of(x, d), ha_rows_to(y, d))),
                    {y, n, dy});

        float *b = numbers((size_t)d, 1), *db = zeros((size_t)d);
        const ha_row_norm layer = {d, w, b, 1e-5f};
        memset(dx, 0, n * sizeof *dx);
        memset(dw, 0, (size_t)d * sizeof *dw);
        EXERCISE(VOID(ha_layer_norm_forward(&layer, ROWS, ha_rows_of(x, d), ha_rows_to(y, d))), {y, n});
        ref_layer_norm(ROWS, d, wide(x, n), wide(w, (size_t)d), wide(b, (size_t)d), 1e-5, want);
        CHECK_TWIN(y, want, n);
        EXERCISE(ha_layer_norm_backward(&layer, ROWS, ha_rows_of(x, d), ha_rows_of(dy, d), ha_rows_to(dx, d), dw, db,
                                        &arena),
                 {dx, n, 1}, {dw, (size_t)d, 1}, {db, (size_t)d, 1});
        CHECK_SLOPE(w, dw, (size_t)d, VOID(ha_layer_norm_forward(&layer, ROWS, ha_rows_of(x, d), ha_rows_to(y, d))),
                    {y, n, dy});
        CHECK_SLOPE(b, db, (size_t)d, VOID(ha_layer_norm_forward(&layer, ROWS, ha_rows_of(x, d), ha_rows_to(y, d))),
                    {y, n, dy});
        if (d > 1)
            CHECK_SLOPE(x, dx, n, VOID(ha_layer_norm_forward(&layer, ROWS, ha_rows_of(x, d), ha_rows_to(y, d))),
                        {y, n, dy});
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
        const ha_rotation rotation = {half, cosine, sine};
        EXERCISE(VOID(ha_rope_table(ROWS, half, position, freq, 1.0f, cosine, sine)), {cosine, angles}, {sine, angles});
        EXERCISE(VOID((memcpy(turned, heads, all * sizeof *heads),
                       ha_rope(&rotation, ROWS, HEADS, d, 1.0f, ha_rows_to(turned, width)))),
                 {turned, all});
        const ref_rotation twin = {position, wide(freq, (size_t)half), half, 1.0};
        ref_rope(&twin, ROWS, HEADS, d, wide(heads, all), want);
        CHECK_TWIN(turned, want, all);
        ha_rope(&rotation, ROWS, HEADS, d, -1.0f,
                ha_rows_to(turned, width)); /* a rotation: the inverse is the transpose */
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
    const ha_feature_map own = {map, HEADS, d, w};
    const ha_rows in = ha_rows_of(x, width), down = ha_rows_of(dy, wider);
#define FORWARD ha_feature_forward(&own, ROWS, in, ha_rows_to(y, wider), &arena)
#define BACKWARD ha_feature_backward(&own, ROWS, in, ha_rows_of(y, wider), down, ha_rows_to(dx, width), dw, &arena)
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

int main(void)
{
    ha_arena_open(&arena);
    RUN(linear);
    RUN(stored_linear);
    RUN(rounding);
    RUN(norm_rope_swiglu_embed);
    RUN(features);
    ha_arena_close(&arena);
    return REPORT();
}
