/* A tiny model through the public header: its tape and its cache give what the plain forward pass gives, gradients are the
 * slopes of the loss, and an interrupt at any point leaves nothing half done. */
#include "tiny.h"

/* The summed cross-entropy of the windows through a tape; gradients and d / d gate when `backward`. */
/* One sequence alone against the same one in a batch: clang contracts other sums into FMA than gcc. */
#ifdef __clang__
#define ALONE_TOLERANCE 2e-5
#else
#define ALONE_TOLERANCE 1e-5
#endif

static ha_status tape_loss(ha_model *m, const float *gates, int backward, int recompute, double *loss, double *dgates)
{
    ha_batch batch;
    ha_tape tape;
    int32_t *target;
    double *row;
    float *dhidden, *g = backward ? m->grads : NULL;
    const ha_windows w = windows_of(m);
    HA_TRY(ha_windows_batch(&w, 0, 4, 1, &arena, &batch));
    HA_PUSH(target, &arena, (size_t)batch.rows);
    HA_PUSH(row, &arena, (size_t)batch.rows);
    HA_PUSH(dhidden, &arena, (size_t)batch.rows * D);
    ha_next_tokens(&batch, target);
    const ha_tape_options options = {gates, 1, recompute};
    HA_TRY(ha_tape_forward(m, &options, &batch, g, &arena, NULL, &tape));
    const ha_linear head = ha_model_head(m);
    const ha_head_gradient gradient = ha_model_head_gradient(m, 1.0f, backward ? dhidden : NULL, g);
    HA_TRY(ha_head_cross_entropy(&head, batch.rows, tape.hidden, target, row, &gradient, NULL, &arena));
    *loss = 0.0;
    for (int r = 0; r < batch.rows; r++)
        *loss += row[r];
    if (backward)
        HA_TRY(ha_tape_backward(m, &tape, dhidden, dgates));
    ha_arena_release(&arena, 0);
    return HA_OK;
}

/* Of the loss when x moves by h along a direction, both ways. */
static double slope(ha_model *m, const float *gates, float *x, const float *along, size_t n, double h)
{
    const float *was = copy(x, n);
    double loss[2];
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++)
            x[i] = was[i] + (float)(side ? h : -h) * along[i];
        CHECK_INT(tape_loss(m, gates, 0, 0, &loss[side], NULL), HA_OK);
    }
    memcpy(x, was, n * sizeof *x);
    return (loss[1] - loss[0]) / (2.0 * h);
}

/* The gradient dx of x against the slope of the loss along a random direction with dx's signs. The step is small where the
 * slope is large, and smaller again where the loss bends within it; it is lost in rounding elsewhere. */
static void check_slope(ha_model *m, const float *gates, float *x, const float *dx, size_t n, const char *name)
{
    float *along = numbers(n, 1);
    double want = 0.0, got = 0.0;
    for (size_t i = 0; i < n; i++) {
        along[i] = copysignf(along[i], dx[i]);
        want += (double)along[i] * (double)dx[i];
    }
    int close = 0;
    for (double h = fmin(1e-2, 0.3 / want), least = h / 20.0; want > 0.0 && !close && h > least; h /= 4.0) {
        got = slope(m, gates, x, along, n, h);
        close = fabs(got - want) <= 1e-2 * want + 2e-3;
    }
    if (!close)
        CHECK_FAIL("the gradient of %s says %.6g, the loss %.6g", name, want, got);
}

/* Gradients of every parameter and gate, with both mixers of every layer running. */
static void tape_gives_the_slopes(void)
{
    for (int k = 0; k < 2 * FORMS; k++) {
        if (k == FORM_POST || k == FORM_PARALLEL) /* once is enough: the mixers do not know of them */
            continue;
        ha_model *m = make(kinds[k / FORMS], k % FORMS, 7);
        float gates[LAYERS] = {0.5f, 0.25f, 0.75f}, dgate[LAYERS];
        double loss, dgates[LAYERS][4];
        CHECK_INT(ha_model_need_grads(m), HA_OK);
        CHECK_INT(tape_loss(m, gates, 1, 0, &loss, dgates[0]), HA_OK);
        for (int l = 0; l < LAYERS; l++)
            dgate[l] = (float)(dgates[l][0] + dgates[l][1] + dgates[l][2] + dgates[l][3]);
        check_slope(m, gates, gates, dgate, LAYERS, "the gates");
        for (int i = 0; i < m->params.count; i++) {
            const ha_param *p = &m->params.list[i];
            check_slope(m, gates, m->weights + p->offset, m->grads + p->offset, p->count, p->name);
        }
        ha_model_free(m);
        drop();
    }
}

/* The gates of a backward pass are those of its forward pass; gates and tokens out of range are refused by name. */
static void a_tape_keeps_its_gates(void)
{
    ha_model *m = make(kinds[0], 0, 9);
    float *dhidden = numbers(N * D, 1), *again = copy(dhidden, N * D), *want = zeros(m->params.total);
    CHECK_INT(ha_model_need_grads(m), HA_OK);
    for (int change = 0; change < 2; change++) {
        ha_batch batch;
        ha_tape tape;
        for (int l = 0; l < LAYERS; l++)
            m->gates[l] = 0.5f * (float)l;
        CHECK_INT(ha_windows_batch(&windows, 0, 4, 1, &arena, &batch), HA_OK);
        CHECK_INT(ha_tape_forward(m, &(ha_tape_options){0}, &batch, m->grads, &arena, NULL, &tape), HA_OK);
        for (int l = 0; change && l < LAYERS; l++)
            m->gates[l] = 1.0f - m->gates[l];
        CHECK_INT(ha_tape_backward(m, &tape, change ? again : dhidden, NULL), HA_OK);
        if (change)
            CHECK_SAME(m->grads, want, m->params.total);
        memcpy(want, m->grads, m->params.total * sizeof *want);
        memset(m->grads, 0, m->params.total * sizeof *want);
        ha_arena_release(&arena, 0);
    }
    m->gates[2] = NAN;
    CHECK_INT(ha_windows_hidden(m, &windows, dhidden, &arena, NULL), HA_BAD_VALUE);
    CHECK(strstr(ha_error_message(), "gates[2] is nan"));
    m->gates[2] = 0.0f;
    ha_arena_release(&arena, 0);
    const ha_windows fewer = {stream, pairs, 4, V / 2};
    CHECK_INT(ha_windows_hidden(m, &fewer, dhidden, &arena, NULL), HA_BAD_VALUE);
    CHECK(strstr(ha_error_message(), "allowed are 0 to 29"));
    ha_arena_release(&arena, 0);
    ha_model_free(m);
    drop();
}

/* Without a tape, by a tape, by windows: one result; it is that of each sequence alone. */
static void forward_is_one(void)
{
    for (int k = 0; k < 2 * FORMS; k++) {
        ha_model *m = make(kinds[k / FORMS], k % FORMS, 8);
        const ha_windows all = windows_of(m);
        float *hidden = zeros(N * D), *alone = zeros(N * D), *logits = zeros(V);
        ha_batch batch;
        ha_tape tape;
        m->gates[0] = 0.0f;
        m->gates[1] = 0.5f;
        INTERRUPT_EVERYWHERE(ha_windows_hidden(m, &all, hidden, &arena, check), (void)0);
        CHECK_INT(ha_windows_batch(&all, 0, 4, 1, &arena, &batch), HA_OK);
        CHECK_INT(ha_tape_forward(m, &(ha_tape_options){0}, &batch, NULL, &arena, NULL, &tape), HA_OK);
        for (int s = 0; s < 4; s++) {
            const ha_windows own = {stream, pairs + 2 * s, 1, V, all.segment};
            const size_t at = (size_t)pairs[2 * s] * D, n = (size_t)(pairs[2 * s + 1] - pairs[2 * s]) * D;
            CHECK_ALL_CLOSE(tape.hidden + batch.offset[s] * D, hidden + at, n, 1e-5);
            CHECK_INT(ha_windows_hidden(m, &own, alone, &arena, NULL), HA_OK);
            CHECK_ALL_CLOSE(alone + at, hidden + at, n, ALONE_TOLERANCE);
        }
        ha_model_logits(m, 1, hidden, logits);
        for (int v = 0; v < V; v++) {
            double sum = m->head_bias == HA_NONE ? 0.0 : (double)m->weights[m->head_bias + (size_t)v];
            for (int i = 0; i < D; i++)
                sum += (double)hidden[i] * (double)m->weights[m->head + (size_t)(v * D + i)];
            CHECK_CLOSE(logits[v], sum, 1e-5);
        }
        ha_arena_release(&arena, 0);
        ha_model_free(m);
        drop();
    }
}

/* Recomputing changes no bit of any gradient, and holds less. */
static void recomputing_gives_the_same(void)
{
    for (int k = 0; k < 2; k++) {
        ha_model *m = make(kinds[k], 0, 7);
        float gates[LAYERS] = {0.5f, 0.0f, 1.0f}, *want = zeros(m->params.total);
        double loss[2], dgates[2][LAYERS * 4];
        size_t peak[2];
        CHECK_INT(ha_model_need_grads(m), HA_OK);
        for (int recompute = 0; recompute < 2; recompute++) {
            arena.peak = arena.used;
            memset(m->grads, 0, m->params.total * sizeof *m->grads);
            CHECK_INT(tape_loss(m, gates, 1, recompute * LAYERS, &loss[recompute], dgates[recompute]), HA_OK);
            peak[recompute] = arena.peak;
            if (!recompute)
                memcpy(want, m->grads, m->params.total * sizeof *want);
        }
        CHECK_SAME(m->grads, want, m->params.total);
        CHECK(loss[0] == loss[1]);
        CHECK(memcmp(dgates[0], dgates[1], sizeof dgates[0]) == 0);
        CHECK(peak[1] < peak[0]);
        ha_model_free(m);
        drop();
    }
}

/* --- cache --- */

/* Two sequences: the stream and its later part. Rows from .. to of both go through the cache, to hidden[s] + from. */
static ha_status feed(const ha_model *m, ha_cache *cache, const int from[2], const int to[2], float *const hidden[2],
                      const ha_interrupt *check)
{
    int32_t offset[3] = {0}, token[N], position[N];
    int extra[2] = {to[0] - from[0], to[1] - from[1]};
    float rows[N * D];
    for (int s = 0; s < 2; s++) {
        for (int i = from[s]; i < to[s]; i++) {
            token[offset[s] + i - from[s]] = stream[s * 150 + i];
            position[offset[s] + i - from[s]] = i;
        }
        offset[s + 1] = offset[s] + extra[s];
    }
    const ha_batch batch = {offset[2], 2, offset, token, position};
    HA_TRY(ha_cache_reserve(cache, extra));
    HA_TRY(ha_model_hidden(m, NULL, &batch, cache, rows, &arena, check));
    for (int s = 0; s < 2; s++)
        memcpy(hidden[s] + from[s] * D, rows + offset[s] * D, (size_t)(extra[s] * D) * sizeof *rows);
    return HA_OK;
}

static void cache_equals_full(void)
{
    /* prompts of unequal lengths, steps, a longer piece, steps: 140 and 64 tokens */
    static const int stops[][2] = {{0, 0}, {70, 1}, {71, 2}, {72, 3}, {138, 62}, {139, 63}, {140, 64}};
    for (int c = 0; c < 12; c++) {
        const ha_dtype type = c < 6 ? HA_F32 : HA_F16;
        const double close = type == HA_F32 ? 1e-4 : 5e-3;
        const int k = c % 6;
        ha_model *m = make(kinds[k / 3], 0, 3);
        const int64_t whole[] = {0, 140, 150, 214};
        const ha_windows w = {stream, whole, 2, V};
        float *full = zeros(N * D), *parts[] = {zeros(140 * D), zeros(140 * D)},
              *forked[] = {zeros(140 * D), zeros(140 * D)};
        for (int l = 0; l < LAYERS; l++)
            m->gates[l] = k % 3 < 2 ? (float)(k % 3) : 0.5f * (float)l; /* linear, softmax, one of each and both */
        CHECK_INT(ha_windows_hidden(m, &w, full, &arena, NULL), HA_OK);
        ha_cache *cache = NULL, *fork = NULL;
        CHECK_INT(ha_cache_new(m, 2, type, &cache), HA_OK);
        INTERRUPT_EVERYWHERE(feed(m, cache, stops[0], stops[1], parts, check), {
            CHECK_INT(ha_cache_length(cache, 0), 0);
            CHECK_INT(ha_cache_length(cache, 1), 0);
        });
        for (int i = 1; i + 1 < 7; i++) {
            if (i == 3)
                CHECK_INT(ha_cache_copy(cache, 2, &fork), HA_OK);
            CHECK_INT(feed(m, cache, stops[i], stops[i + 1], parts, NULL), HA_OK);
        }
        CHECK_ALL_CLOSE(parts[0], full, 140 * D, close);
        CHECK_ALL_CLOSE(parts[1], full + 150 * D, 64 * D, close);
        CHECK_INT(ha_cache_length(cache, 0), 140);
        CHECK((k % 3 == 0) == (ha_cache_bytes_per_token(cache) == 0));
        /* the copy stayed behind and goes the same way */
        CHECK_INT(ha_cache_length(fork, 0), 72);
        for (int i = 3; i + 1 < 7; i++)
            CHECK_INT(feed(m, fork, stops[i], stops[i + 1], forked, NULL), HA_OK);
        CHECK_SAME(forked[0] + 72 * D, parts[0] + 72 * D, 68 * D);
        CHECK_SAME(forked[1] + 3 * D, parts[1] + 3 * D, 61 * D);
        ha_cache_free(cache);
        ha_cache_free(fork);
        ha_model_free(m);
        drop();
    }
}

int main(void)
{
    set_up();
    RUN(forward_is_one);
    RUN(tape_gives_the_slopes);
    RUN(a_tape_keeps_its_gates);
    RUN(recomputing_gives_the_same);
    RUN(cache_equals_full);
    ha_arena_close(&arena);
    return REPORT();
}
