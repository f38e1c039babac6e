/* The linear recurrence and the short convolution, forward and backward: equal to its naive twin in double, gradients equal to difference
 * quotients, the same bits on one and two threads, and an error when the arena is full. */
#include <pthread.h>
#include <stdatomic.h>

#include "sequences.h"

/* The slots of operands: those that a form has not are NULL. */
enum { Q_, K_, V_, G_, BETA_, A_, B_, OPERANDS };

static void recurrence_of(ha_gate gate, int beta, int erase, int dk, int dv, int group)
{
    const ha_recurrence r = {HEADS, dk, dv, gate, group};
    const int K = HEADS * dk, V = HEADS * dv, Q = group * K, O = group * V;
    const size_t n = (size_t)(ROWS * K), read = (size_t)(ROWS * Q), got = (size_t)(ROWS * O), m = (size_t)(ROWS * V),
                 h = ROWS * HEADS, size = (size_t)(HEADS * dk * dv);
    const size_t gates = gate == HA_GATE_NONE ? 0 : gate == HA_GATE_HEAD ? h : gate == HA_GATE_VALUE ? m : n;
    const size_t count[OPERANDS] = {read, n, m, gates, beta ? h : 0, erase ? n : 0, erase ? n : 0};
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
    float *start = numbers(all, .3), *dy = numbers(got, 1), *dend = numbers(all, 1), *y = zeros(got), *u = zeros(m);
    float *saved = zeros(saves), *end = zeros(all), *dstart = zeros(all), *in[SEQS], *out[SEQS], *dstate[SEQS];
    double *want = keep(malloc(got * sizeof *want)), *want_end = wide(start, all);
    for (int s = 0; s < SEQS; s++) {
        in[s] = start + (size_t)s * size;
        out[s] = end + (size_t)s * size;
        dstate[s] = dstart + (size_t)s * size;
    }
    const ha_recurrence_in operand = {x[Q_], x[K_], x[V_], x[G_], x[BETA_], x[A_], x[B_], Q, K, V};
    const ha_recurrence_out gradient = {dx[Q_], dx[K_], dx[V_], dx[G_], dx[BETA_], dx[A_], dx[B_], Q, K, V};
    const ha_recurrence_saved kept = {u, saved};
#define FORWARD ha_recurrence_forward(&r, &batch, &operand, in, out, ha_rows_to(y, O), &kept, &arena)
    EXERCISE(FORWARD, {y, got}, {u, m}, {saved, saves}, {end, all});
    const ref_recurrence_shape shape = {HEADS, dk, dv, gate == HA_GATE_CHANNEL, 0, group};
    double *const gv = gate == HA_GATE_VALUE ? twin[G_] : NULL;
    const ref_recurrence_in wide_operand = {twin[Q_],    twin[K_], twin[V_], gv ? NULL : twin[G_],
                                            twin[BETA_], twin[A_], twin[B_], gv};
    ref_recurrence(&shape, &batch, &wide_operand, want_end, want);
    CHECK_TWIN(y, want, got);
    CHECK_TWIN(end, want_end, all);
    EXERCISE((memcpy(dstart, dend, all * sizeof *dend),
              ha_recurrence_backward(&r, &batch, &operand, &kept, ha_rows_of(dy, O), dstate, &gradient, &arena)),
             {dx[Q_], count[Q_]}, {dx[K_], count[K_]}, {dx[V_], count[V_]}, {dx[G_], count[G_]},
             {dx[BETA_], count[BETA_]}, {dx[A_], count[A_]}, {dx[B_], count[B_]}, {dstart, all});
    for (int i = 0; i < OPERANDS; i++)
        if (x[i])
            CHECK_SLOPE(x[i], dx[i], count[i], FORWARD, {y, got, dy}, {end, all, dend});
    CHECK_SLOPE(start, dstart, all, FORWARD, {y, got, dy}, {end, all, dend});
#undef FORWARD
    /* the last sequence in pieces, through the state; the last piece is a token */
    const int pieces[] = {259, 289, 322, 323};
    float *part = zeros(got), *state = copy(in[SEQS - 1], size), *const states[] = {state};
    for (int i = 0; i < 3; i++) {
        const int32_t offset[] = {0, pieces[i + 1] - pieces[i]};
        const ha_batch one = {.rows = offset[1], .n_seq = 1, .offset = offset};
        const ptrdiff_t row = pieces[i];
        const ha_recurrence_in piece = {x[Q_] + row * Q,
                                        x[K_] + row * K,
                                        x[V_] + row * V,
                                        gates ? x[G_] + (size_t)row * gates / ROWS : NULL,
                                        beta ? x[BETA_] + row * HEADS : NULL,
                                        erase ? x[A_] + row * K : NULL,
                                        erase ? x[B_] + row * K : NULL,
                                        Q,
                                        K,
                                        V};
        CHECK_INT(ha_recurrence_forward(&r, &one, &piece, states, states, ha_rows_to(part + row * O, O), NULL, &arena),
                  HA_OK);
    }
    CHECK_TWIN(part + 259 * O, want + 259 * O, 64 * (size_t)O);
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
                                   : 64,
                          1);
    recurrence_of(HA_GATE_VALUE, 0, 0, 24, 9, 1);
    recurrence_of(HA_GATE_VALUE, 0, 0, 8, 70, 1);
    recurrence_of(HA_GATE_HEAD, 1, 0, 24, 9, 3); /* several heads read a state */
    recurrence_of(HA_GATE_CHANNEL, 0, 1, 8, 24, 2);
    recurrence_of(HA_GATE_VALUE, 0, 0, 8, 9, 4);
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
        const ha_short_conv conv = {d, width, w};
#define FORWARD VOID(ha_short_conv_forward(&conv, &batch, ha_rows_of(x, d), NULL, ha_rows_to(y, d)))
        EXERCISE(FORWARD, {y, n});
        ref_short_conv(&batch, d, width, wide(x, n), wide(w, k), NULL, want);
        CHECK_TWIN(y, want, n);
        EXERCISE(
            VOID(ha_short_conv_backward(&conv, &batch, ha_rows_of(x, d), ha_rows_of(dy, d), ha_rows_to(dx, d), dw)),
            {dx, n, 1}, {dw, k, 1});
        CHECK_SLOPE(x, dx, n, FORWARD, {y, n, dy});
        CHECK_SLOPE(w, dw, k, FORWARD, {y, n, dy});
#undef FORWARD
        EXERCISE((memcpy(end, start, SEQS * size * sizeof *end),
                  VOID(ha_short_conv_forward(&conv, &batch, ha_rows_of(x, d), state, ha_rows_to(y, d)))),
                 {y, n}, {end, SEQS * size});
        ref_short_conv(&batch, d, width, wide(x, n), wide(w, k), want_end, want);
        CHECK_TWIN(y, want, n);
        CHECK_TWIN(end, want_end, SEQS * size);
        drop();
    }
}

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
    const ha_recurrence delta = {HEADS, d, d, HA_GATE_HEAD, 1};
    const ha_linear_attention linear = {.heads = HEADS, .kv_heads = HEADS, .features = d, .dim = d};
    float *x = numbers(n, 1), *w = numbers((size_t)(HEADS * d * d), 1), *y = zeros(2 * n), *den = zeros(n);
    float *g = zeros((size_t)(ROWS * HEADS));
    const ha_recurrence_in operands = {x, x, x, g, g, NULL, NULL, width, width, width};
    ha_rows rows[SEQS];
    const ha_linear_attention_in in = {ha_rows_of(x, width), rows, rows};
    const ha_linear_attention_out out = {ha_rows_to(y, width), den};
    const ha_feature_map hedgehog = {HA_FEATURE_HEDGEHOG, HEADS, d, w};
    pthread_t other;
    atomic_int stop = 0;
    for (int s = 0; s < SEQS; s++)
        rows[s] = ha_rows_of(x + offsets[s] * width, width);
    CHECK_INT(pthread_create(&other, NULL, change_threads, &stop), 0);
    for (int i = 0; i < 50; i++) {
        CHECK_INT(ha_feature_forward(&hedgehog, ROWS, ha_rows_of(x, width), ha_rows_to(y, 2 * width), &arena), HA_OK);
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
    RUN(recurrence);
    RUN(short_conv);
    RUN(threads_change_during_a_call);
    ha_arena_close(&arena);
    return REPORT();
}
