/* Losses on more rows than one piece holds, and the optimizer: as test_ops.c. */
#include "arrays.h"
#include "kernels/kernels.h"
#include "ref/ref.h"

enum { ROWS = 323, D = 24, V = 101 };

/* Losses as float, so that CHECK_SLOPE can read them. */
static ha_status narrow(ha_status status, const double *loss, float *y)
{
    for (int r = 0; r < ROWS; r++)
        y[r] = (float)loss[r];
    return status;
}

/* Asked for the second time it says stop. */
static int second_time(void *count)
{
    return ++*(int *)count == 2;
}

static float *constant(float value)
{
    float *x = zeros(ROWS);
    for (int r = 0; r < ROWS; r++)
        x[r] = value;
    return x;
}

static void cross_entropy(void)
{
    const size_t n = ROWS * D, m = V * D;
    float *x = numbers(n, 1), *w = numbers(m, 1), *dx = zeros(n), *dw = zeros(m), *y = zeros(ROWS), *dy = constant(.5f);
    float *b = numbers(V, 1), *db = zeros(V);
    const ha_linear head = ha_linear_of(D, V, ha_f32(w), b);
    double loss[ROWS], want[ROWS];
    int32_t target[ROWS], most[ROWS];
    for (int r = 0; r < ROWS; r++) {
        target[r] = r % 5 ? r % V : -1;
        most[r] = V - 1;
    }
    const ha_head_gradient gradient = {.5f, dx, dw, db};
#define LOSS(gradient) narrow(ha_head_cross_entropy(&head, ROWS, x, target, loss, gradient, NULL, &arena), loss, y)
    EXERCISE(LOSS(&gradient), {y, ROWS}, {dx, n}, {dw, m, 1}, {db, V, 1});
    CHECK_SLOPE(x, dx, n, LOSS(NULL), {y, ROWS, dy});
    CHECK_SLOPE(w, dw, m, LOSS(NULL), {y, ROWS, dy});
    CHECK_SLOPE(b, db, V, LOSS(NULL), {y, ROWS, dy});
#undef LOSS
    CHECK_INT(ha_head_cross_entropy(&head, ROWS, x, most, loss, NULL, NULL, &arena), HA_OK);
    const ref_head twin = {D, V, wide(w, m), wide(b, V)};
    ref_cross_entropy(&twin, ROWS, wide(x, n), most, want);
    narrow(HA_OK, loss, y);
    CHECK_TWIN(y, want, ROWS);
    int asked = 0;
    const ha_interrupt check = {second_time, &asked};
    CHECK_INT(
        ha_head_cross_entropy(&head, ROWS, x, target, loss, &(ha_head_gradient){1.0f, dx, NULL, NULL}, &check, &arena),
        HA_INTERRUPTED);
    ha_arena_release(&arena, 0);
    drop();
}

/* The first of the largest logits of one hidden state. */
static int likeliest_of(const ha_linear *head, const float *hidden)
{
    float logits[V];
    int best = 0;
    ha_linear_forward(head, 1, ha_rows_of(hidden, D), 0, ha_rows_to(logits, V));
    for (int i = 1; i < V; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static void kl_divergence(void)
{
    const size_t n = ROWS * D, m = V * D;
    float *t = numbers(n, 1), *tw = numbers(m, 1), *x = numbers(n, 1), *other = numbers(n, 1), *w = numbers(m, 1);
    float *dx = zeros(n), *dw = zeros(m), *y = zeros(ROWS), *dy = constant(.5f), *tb = numbers(V, 1);
    float *b = numbers(V, 1), *db = zeros(V);
    const ha_linear teacher = ha_linear_of(D, V, ha_f32(tw), tb), head = ha_linear_of(D, V, ha_f32(w), b);
    const float *const students[] = {other, x}, *const last[] = {x};
    double kl[ROWS], both[2][ROWS], nll[ROWS], ce[ROWS], want[ROWS], *losses[] = {kl}, *pair[] = {both[0], both[1]};
    double same[ROWS];
    int32_t target[ROWS];
    for (int r = 0; r < ROWS; r++)
        target[r] = r % 9 ? r % V : -1;
    const ha_head_gradient gradient = {.5f, dx, dw, db};
    ha_head_students one = {
        .rows = ROWS, .students = 1, .teacher_head = &teacher, .head = &head, .teacher_hidden = t, .hidden = last};
    ha_head_students two = {.rows = ROWS,
                            .students = 2,
                            .teacher_head = &teacher,
                            .head = &head,
                            .teacher_hidden = t,
                            .hidden = students,
                            .target = target,
                            .same = same};
#define LOSS(gradient) narrow(ha_head_kl(&one, losses, NULL, gradient, NULL, &arena), kl, y)
    EXERCISE(LOSS(&gradient), {y, ROWS}, {dx, n}, {dw, m, 1}, {db, V, 1});
    CHECK_SLOPE(x, dx, n, LOSS(NULL), {y, ROWS, dy});
    CHECK_SLOPE(w, dw, m, LOSS(NULL), {y, ROWS, dy});
    CHECK_SLOPE(b, db, V, LOSS(NULL), {y, ROWS, dy});
    CHECK_INT(LOSS(NULL), HA_OK);
    const ref_head teacher_twin = {D, V, wide(tw, m), wide(tb, V)}, twin = {D, V, wide(w, m), wide(b, V)};
    ref_kl(&teacher_twin, wide(t, n), &twin, wide(x, n), ROWS, want);
    CHECK_TWIN(y, want, ROWS);
    /* two students at once are two times one, and the likelihoods are those of the cross-entropy */
    EXERCISE(narrow(ha_head_kl(&two, pair, nll, NULL, NULL, &arena), both[0], y), {y, ROWS});
    CHECK_SAME(both[1], kl, ROWS);
    ref_kl(&teacher_twin, wide(t, n), &twin, wide(other, n), ROWS, want);
    CHECK_TWIN(y, want, ROWS);
    CHECK_INT(ha_head_cross_entropy(&head, ROWS, x, target, ce, NULL, NULL, &arena), HA_OK);
    for (int r = 0; r < ROWS; r++)
        CHECK_CLOSE(nll[r], ce[r], 1e-6);
    /* the last student's likeliest token is the teacher's, or is not; that of the teacher always is */
    int alike = 0;
    for (int r = 0; r < ROWS; r++) {
        const int equal = likeliest_of(&teacher, t + r * D) == likeliest_of(&head, x + r * D);
        CHECK_CLOSE(same[r], equal, 0.0);
        alike += equal;
    }
    CHECK(alike > 0 && alike < ROWS);
    double own[ROWS], none[ROWS];
    ha_head_students itself = {.rows = ROWS,
                               .students = 1,
                               .teacher_head = &teacher,
                               .head = &teacher,
                               .teacher_hidden = t,
                               .hidden = (const float *const[]){t},
                               .same = own};
    CHECK_INT(ha_head_kl(&itself, (double *const[]){none}, NULL, NULL, NULL, &arena), HA_OK);
    for (int r = 0; r < ROWS; r++)
        CHECK_CLOSE(own[r], 1.0, 0.0);
    /* rows with weights; those of weight 0 have no loss and no gradient, and the others are as before */
    float *weight = numbers(ROWS, 1), *share = zeros(ROWS);
    for (int r = 0; r < ROWS; r++)
        share[r] = .5f * (weight[r] = r % 7 == 2 ? 0.0f : fabsf(weight[r]));
    two.weight = weight;
    CHECK_INT(ha_head_kl(&two, pair, nll, NULL, NULL, &arena), HA_OK);
    for (int r = 0; r < ROWS; r++) {
        CHECK_CLOSE(both[1][r], weight[r] ? kl[r] : 0.0, 1e-6);
        CHECK_CLOSE(nll[r], weight[r] ? ce[r] : 0.0, 1e-6);
        CHECK(weight[r] || same[r] == 0.0);
    }
    one.weight = weight;
    EXERCISE(LOSS(&gradient), {y, ROWS}, {dx, n}, {dw, m, 1}, {db, V, 1});
    CHECK_SLOPE(x, dx, n, LOSS(NULL), {y, ROWS, share});
    CHECK_SLOPE(w, dw, m, LOSS(NULL), {y, ROWS, share});
    CHECK_SLOPE(b, db, V, LOSS(NULL), {y, ROWS, share});
    for (int r = 2; r < ROWS; r += 7)
        for (int i = 0; i < D; i++)
            CHECK_CLOSE(dx[r * D + i], 0.0, 0.0);
#undef LOSS
    int asked = 0;
    const ha_interrupt check = {second_time, &asked};
    two.weight = NULL;
    CHECK_INT(ha_head_kl(&two, pair, NULL, NULL, &check, &arena), HA_INTERRUPTED);
    ha_arena_release(&arena, 0);
    drop();
}

static void align_loss(void)
{
    const size_t n = ROWS * D;
    float *t = numbers(n, 1), *x = numbers(n, 1), *dx = zeros(n), *y = zeros(ROWS), *dy = constant(.5f);
    double loss[ROWS], want[ROWS];
    EXERCISE((ha_align_loss(ROWS, D, t, x, .5f, loss, dx), narrow(HA_OK, loss, y)), {y, ROWS}, {dx, n});
    ref_align_loss(ROWS, D, wide(t, n), wide(x, n), want);
    CHECK_TWIN(y, want, ROWS);
    CHECK_SLOPE(x, dx, n, (ha_align_loss(ROWS, D, t, x, .5f, loss, NULL), narrow(HA_OK, loss, y)), {y, ROWS, dy});
    ha_align_loss(ROWS, D, t, t, 1.0f, loss, dx);
    for (int r = 0; r < ROWS; r++)
        CHECK(loss[r] == 0.0 && dx[r * D] == 0.0f); /* no distance: no gradient, and no division by it */
    drop();
}

static void sums(void)
{
    const int32_t offsets[] = {0, 65, 66, 129, 259, 323};
    const ha_batch batch = {.rows = ROWS, .n_seq = 5, .offset = offsets};
    float *x = numbers(ROWS * D, 1), *y = numbers(ROWS * D, 1), *per_head = zeros(ROWS * 3);
    double per_sequence[5], *xd = wide(x, ROWS * D), *yd = wide(y, ROWS * D);
    EXERCISE(VOID(ha_dot_per_head(ROWS, 3, 8, x, D, y, D, per_head)), {per_head, ROWS * 3});
    for (int i = 0; i < ROWS * 3; i++)
        CHECK_CLOSE(per_head[i], ref_dot(8, xd + i * 8, yd + i * 8), 1e-5);
    ha_dot_per_sequence(&batch, D, x, D, y, D, per_sequence);
    for (int s = 0; s < 5; s++)
        CHECK_CLOSE(per_sequence[s],
                    ref_dot((offsets[s + 1] - offsets[s]) * D, xd + offsets[s] * D, yd + offsets[s] * D), 1e-5);
    drop();
}

/* Two pieces of the parameters with a gap between them and behind, the first longer than a block. */
static void optimizer(void)
{
    enum { N = 70000, FIRST = 65539, SECOND = 65600, COUNT = 100 };
    const ha_segment parts[] = {{0, FIRST, 1e-2f, .1f}, {SECOND, COUNT, 1e-3f, 0.0f}};
    float *p0 = numbers(N, 1), *g0 = numbers(N, 1), *m0 = numbers(N, 1), *v0 = numbers(N, 1);
    float *p = copy(p0, N), *g = copy(g0, N), *m = copy(m0, N), *v = zeros(N);
    for (int i = 0; i < N; i++)
        v0[i] = fabsf(v0[i]);
    ha_set_threads(1);
    double squares, again, *gd = wide(g, N);
    CHECK_INT(ha_sum_squares(2, parts, g, &squares, &arena), HA_OK);
    ha_set_threads(2);
    CHECK_INT(ha_sum_squares(2, parts, g, &again, &arena), HA_OK);
    CHECK(squares == again);
    CHECK_CLOSE(squares, ref_dot(FIRST, gd, gd) + ref_dot(COUNT, gd + SECOND, gd + SECOND), 1e-6);
    const size_t size = arena.size;
    arena.size = 0;
    CHECK_INT(ha_sum_squares(2, parts, g, &again, &arena), HA_NO_MEMORY);
    arena.size = size;
    const ha_adamw_options step = {.7f, .9f, .95f, 1e-8f, 3};
    const ha_adamw_arenas at = {p, g, m, v};
    EXERCISE((memcpy(p, p0, N * sizeof *p), memcpy(g, g0, N * sizeof *p), memcpy(m, m0, N * sizeof *p),
              memcpy(v, v0, N * sizeof *p), ha_adamw(&step, 2, parts, &at, &arena)),
             {p, N}, {g, N}, {m, N}, {v, N});
    double *pd = wide(p0, N), *md = wide(m0, N), *vd = wide(v0, N);
    for (int i = 0; i < 2; i++) {
        const ref_adamw_options o = {(double)parts[i].lr, .9, .95, 1e-8, (double)parts[i].decay, .7, 3};
        const size_t from = parts[i].offset;
        ref_adamw(parts[i].count, &o, pd + from, gd + from, md + from, vd + from);
    }
    CHECK_TWIN(p, pd, N); /* the gaps too: there pd still is what p was */
    CHECK_TWIN(m, md, N);
    CHECK_TWIN(v, vd, N);
    CHECK(g[0] == 0.0f && g[FIRST - 1] == 0.0f && g[SECOND + COUNT - 1] == 0.0f);
    CHECK_SAME(g + FIRST, g0 + FIRST, SECOND - FIRST);
    CHECK_SAME(p + SECOND + COUNT, p0 + SECOND + COUNT, N - SECOND - COUNT);
    drop();
}

/* x as bfloat16, back in x, and its halves */
static uint16_t *halved(float *x, size_t n)
{
    uint16_t *half = (uint16_t *)zeros((n + 1) / 2);
    ha_from_f32(HA_BF16, x, half, n);
    return half;
}

/* Halves that differ, and by how much they do at most; bits of floats of one sign follow each other. */
static int apart(const uint16_t *a, const uint16_t *b, size_t n, int *most)
{
    int count = 0;
    *most = 0;
    for (size_t i = 0; i < n; i++) {
        const int by = abs((int)a[i] - (int)b[i]);
        count += by > 0;
        *most = by > *most ? by : *most;
    }
    return count;
}

/* Moments in bfloat16: the twin's bits but for a few whose double lies on the other side of the noise, the
 * same for any cut and any number of threads, and right on average. */
static void rounded_optimizer(void)
{
    enum { N = 70000, FIRST = 65539, MANY = 100 };
    const ha_segment all[] = {{0, N, 1e-2f, .1f}}, parts[] = {{0, FIRST, 1e-2f, .1f}, {FIRST, N - FIRST, 1e-2f, .1f}};
    float *p0 = numbers(N, 1), *g0 = numbers(N, 1), *v0 = numbers(N, 1);
    for (int i = 0; i < N; i++)
        v0[i] = fabsf(v0[i]);
    uint16_t *m0 = halved(numbers(N, 1), N), *s0 = halved(v0, N), *m = halved(v0, N), *s = halved(v0, N);
    float *p = copy(p0, N), *g = copy(g0, N);
    const ha_adamw_options step = {.7f, .9f, .95f, 1e-8f, 3};
    const ha_adamw_arenas at = {p, g, m, s, HA_BF16};
#define FROM_START                                                                             \
    (memcpy(p, p0, N * sizeof *p), memcpy(g, g0, N * sizeof *p), memcpy(m, m0, N * sizeof *m), \
     memcpy(s, s0, N * sizeof *s))
    EXERCISE((FROM_START, ha_adamw(&step, 1, all, &at, &arena)), {p, N}, {g, N});
    ha_set_threads(1);
    FROM_START;
    CHECK_INT(ha_adamw(&step, 1, all, &at, &arena), HA_OK);
    uint16_t *m1 = halved(v0, N), *s1 = halved(v0, N);
    memcpy(m1, m, N * sizeof *m);
    memcpy(s1, s, N * sizeof *s);
    ha_set_threads(2);
    FROM_START;
    CHECK_INT(ha_adamw(&step, 2, parts, &at, &arena), HA_OK);
    CHECK(memcmp(m, m1, N * sizeof *m) == 0 && memcmp(s, s1, N * sizeof *s) == 0);
    double *pd = wide(p0, N), *gd = wide(g0, N);
    const ref_adamw_options o = {(double)all[0].lr, .9, .95, 1e-8, (double)all[0].decay, .7, 3};
    ha_rng rng = ha_rng_seed(3);
    int most;
    ref_adamw_rounded(N, &o, (uint32_t)(ha_rng_next(&rng) >> 32), 0, pd, gd, m0, s0);
    CHECK_TWIN(p, pd, N);
    CHECK(apart(m, m0, N, &most) < N / 1000 && most <= 1);
    CHECK(apart(s, s0, N, &most) < N / 1000 && most <= 1);
    /* moments that go down by a hundredth of what separates two bfloat16 a step, all noise and no update */
    double sum = 0.0;
    for (int i = 0; i < N; i++)
        m[i] = s[i] = 0x3fc0; /* 1.5 */
    for (int i = 0; i < MANY; i++) {
        const ha_adamw_options still = {1.0f, 1.0f - 1.0f / 16384, 1.0f - 1.0f / 16384, 1.0f, i + 1};
        memset(g, 0, N * sizeof *g);
        CHECK_INT(ha_adamw(&still, 1, all, &at, &arena), HA_OK);
    }
    for (int i = 0; i < N; i++) {
        float x[2];
        ha_kernels_get()->decode[HA_BF16](1, &m[i], &x[0]);
        ha_kernels_get()->decode[HA_BF16](1, &s[i], &x[1]);
        sum += (double)x[0] + (double)x[1];
    }
    CHECK_CLOSE(sum / (2.0 * N), 1.5 * pow(1.0 - 1.0 / 16384, MANY), 1e-4);
    const uint32_t ends[] = {0x7f7fffff, 0x7f800000}; /* the largest number and infinity */
    for (int i = 0; i < 2; i++) {
        memcpy(&g[i], &ends[i], sizeof *g);
        m[i] = s[i] = 0x7f80;
    }
    CHECK_INT(ha_adamw(&step, 1, all, &at, &arena), HA_OK);
    CHECK(m[0] == 0x7f80 && m[1] == 0x7f80 && s[0] == 0x7f80 && s[1] == 0x7f80);
    drop();
}

int main(void)
{
    ha_arena_open(&arena);
    RUN(cross_entropy);
    RUN(kl_divergence);
    RUN(align_loss);
    RUN(sums);
    RUN(optimizer);
    RUN(rounded_optimizer);
    ha_arena_close(&arena);
    return REPORT();
}
