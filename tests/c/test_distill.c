/* Scores against their definitions and training in its three stages, on a tiny model: interrupts at every point, full
 * arenas and losses that are no numbers leave the weights as they were. */
#include "tiny.h"

/* --- scores --- */

static const ha_windows longer = {stream, pairs + 4, 2, V}; /* the windows that predict something */
static const float uneven[LAYERS] = {0.5f, 0.25f, 0.75f};

static void weights_choose_the_rows(const ha_model *m)
{
    float weight[N] = {0}, alike[N];
    double kl[2], nll[2], some[2], more[2], both[2], flipped[LAYERS][2], slope[LAYERS][2], side[2][2];
    const int all[LAYERS] = {0, 1, 2};
    int64_t passes = 0;
    ha_scorer scorer = {.model = m, .arena = &arena, .weight = weight, .layer_passes = &passes};
    /* one token of each window, another one, and the two with weights 1 and 3 */
    weight[110] = weight[210] = 1.0f;
    CHECK_INT(ha_score_kl(&scorer, &longer, uneven, kl, some), HA_OK);
    weight[110] = weight[210] = 0.0f;
    weight[120] = weight[232] = 3.0f;
    CHECK_INT(ha_score_kl(&scorer, &longer, uneven, side[0], more), HA_OK);
    weight[110] = weight[210] = 1.0f;
    CHECK_INT(ha_score_kl(&scorer, &longer, uneven, side[1], both), HA_OK);
    for (int i = 0; i < 2; i++) {
        CHECK_CLOSE(both[i], 0.25 * some[i] + 0.75 * more[i], 1e-9);
        CHECK_CLOSE(side[1][i], 0.25 * kl[i] + 0.75 * side[0][i], 1e-9);
    }
    CHECK_INT(passes, 3 * 2 * LAYERS * (65 + 33));
    /* flips by nll */
    CHECK_INT(ha_score_flip(&scorer, &longer, &(ha_flips){HA_MEASURE_NLL, uneven, LAYERS, all}, nll, flipped[0]),
              HA_OK);
    for (int l = 0; l < LAYERS; l++) {
        float gates[LAYERS] = {0.5f, 0.25f, 0.75f};
        gates[l] = 1.0f - gates[l];
        CHECK_INT(ha_score_kl(&scorer, &longer, gates, kl, some), HA_OK);
        for (int i = 0; i < 2; i++) {
            CHECK_CLOSE(nll[i], both[i], 1e-5);
            CHECK_CLOSE(flipped[l][i], some[i], 1e-5);
        }
    }
    /* the gradient of the weighted mean */
    CHECK_INT(ha_score_gates(&scorer, &longer, uneven, kl, slope[0]), HA_OK);
    for (int l = 0; l < LAYERS; l++) {
        for (int s = 0; s < 2; s++) {
            float gates[LAYERS] = {0.5f, 0.25f, 0.75f};
            gates[l] += s ? 0.01f : -0.01f;
            CHECK_INT(ha_score_kl(&scorer, &longer, gates, side[s], NULL), HA_OK);
        }
        for (int i = 0; i < 2; i++)
            CHECK_CLOSE(slope[l][i], (side[1][i] - side[0][i]) / 0.02, 1e-2);
    }
    /* equal weights are no weights, for what every row but the last predicts */
    for (int i = 0; i < N; i++)
        alike[i] = 0.5f;
    scorer.weight = alike;
    CHECK_INT(ha_score_kl(&scorer, &longer, uneven, kl, nll), HA_OK);
    scorer.weight = NULL;
    CHECK_INT(ha_score_kl(&scorer, &longer, uneven, kl, some), HA_OK);
    CHECK_CLOSE(nll[0], some[0], 1e-9);
    /* a base of all softmax is the teacher: no pass of its own */
    const float ones[LAYERS] = {1, 1, 1};
    passes = 0;
    CHECK_INT(ha_score_flip(&scorer, &longer, &(ha_flips){HA_MEASURE_KL, ones, LAYERS, all}, kl, flipped[0]), HA_OK);
    CHECK_INT(passes, (LAYERS + LAYERS * (LAYERS + 1) / 2) * (65 + 33));
    CHECK_CLOSE(kl[0], 0.0, 1e-6);
}

/* X^T X of the windows is the sum of theirs; matrices that are joined have one. */
static void moments_add_up(const ha_model *m)
{
    const size_t count = (size_t)m->params.count;
    float *one = zeros((size_t)D * D), *parts = zeros((size_t)D * D), **sums = keep(calloc(count, sizeof *sums));
    const int up = ha_params_at(&m->params, m->layer[1].up);
    for (int from = 0; from < 3; from++) { /* all, the first, the second */
        const ha_windows some = {longer.token, longer.window + 2 * (from == 2), from ? 1 : 2, V};
        sums[up] = from ? parts : one;
        CHECK_INT(ha_windows_observe(m, &some, sums, &arena, NULL), HA_OK);
    }
    CHECK_ALL_CLOSE(one, parts, (size_t)D * D, 1e-4);
    for (int i = 0; i < D; i++)
        CHECK(one[i * D + i] > 0.0f);
    drop();
}

static void alignment_is_the_loss_of_step_one(ha_model *m)
{
    const uint8_t every[LAYERS] = {1, 1, 1};
    const ha_align_part whole = {0, LAYERS, NULL, NULL};
    double error[LAYERS][2], zero[LAYERS][2], loss[LAYERS] = {0};
    const ha_scorer scorer = {.model = m, .arena = &arena};
    ha_batch batch;
    CHECK_INT(ha_score_align(&scorer, &longer, error[0], zero[0]), HA_OK);
    CHECK_INT(ha_model_need_grads(m), HA_OK);
    CHECK_INT(ha_windows_batch(&longer, 0, 2, 1, &arena, &batch), HA_OK);
    CHECK_INT(ha_align_batch(m, every, &whole, &batch, 1.0f, &arena, NULL, loss), HA_OK);
    for (int l = 0; l < LAYERS; l++) {
        CHECK_CLOSE(65.0 * error[l][0] + 33.0 * error[l][1], loss[l], 1e-4);
        CHECK(zero[l][0] > 0.0 && error[l][0] != zero[l][0]);
    }
    ha_arena_release(&arena, 0);
}

static void scores_follow_their_definitions(void)
{
    for (int k = 0; k < 2; k++) {
        ha_model *m = make(kinds[k], k, 4);
        const ha_interrupt *check = NULL;
        const float *given = NULL, *weight = NULL; /* the teacher's hidden states; what each token counts */
        double *same = NULL, share[4];
        int64_t passes = 0;
#define SCORER (&(const ha_scorer){m, NULL, &arena, check, given, weight, &passes, same})
        const float ones[LAYERS] = {1, 1, 1}, half[LAYERS] = {0.5f, 0.25f, 0.75f};
        float *teacher = zeros(N * D);
        const int layers[] = {0, 2};
        const ha_flips some = {HA_MEASURE_KL, half, 2, layers};
        double kl[4], again[4], nll[4], base[4], flipped[2][4], slope[LAYERS][4], side[2][4];
        CHECK_INT(ha_score_kl(SCORER, &windows, ones, kl, NULL), HA_OK);
        for (int i = 0; i < 4; i++)
            CHECK_CLOSE(kl[i], 0.0, 1e-6);
        same = share;
        CHECK_INT(ha_score_kl(SCORER, &windows, ones, kl, NULL), HA_OK);
        for (int i = 0; i < 4; i++)
            CHECK_CLOSE(share[i], 1.0, 0.0);
        CHECK_INT(ha_score_kl(SCORER, &windows, half, kl, NULL), HA_OK);
        for (int i = 0; i < 4; i++)
            CHECK(share[i] >= 0.0 && share[i] <= 1.0);
        CHECK(share[0] + share[1] + share[2] + share[3] < 4.0);
        same = NULL;
        /* the teacher computed, and its hidden states given */
        INTERRUPT_EVERYWHERE(ha_score_kl(SCORER, &windows, half, kl, nll), (void)0);
        CHECK_INT(ha_windows_hidden(m, &windows, teacher, &arena, NULL), HA_OK);
        given = teacher;
        CHECK_INT(ha_score_kl(SCORER, &windows, half, again, NULL), HA_OK);
        given = NULL;
        for (int i = 0; i < 4; i++)
            CHECK_CLOSE(again[i], kl[i], 1e-6);
        CHECK(kl[0] > 1e-3 && nll[0] > 0.0);
        INTERRUPT_EVERYWHERE(ha_score_flip(SCORER, &windows, &some, base, flipped[0]), (void)0);
        for (int f = 0; f < 2; f++) {
            float gates[LAYERS] = {0.5f, 0.25f, 0.75f};
            gates[layers[f]] = 1.0f - gates[layers[f]];
            CHECK_INT(ha_score_kl(SCORER, &windows, gates, again, NULL), HA_OK);
            for (int i = 0; i < 4; i++) {
                CHECK_CLOSE(base[i], kl[i], 1e-5);
                CHECK_CLOSE(flipped[f][i], again[i], 1e-5);
            }
        }
        INTERRUPT_EVERYWHERE(ha_score_gates(SCORER, &windows, half, again, slope[0]), (void)0);
        for (int l = 0; l < LAYERS; l++) {
            for (int s = 0; s < 2; s++) {
                float gates[LAYERS] = {0.5f, 0.25f, 0.75f};
                gates[l] += s ? 0.01f : -0.01f;
                CHECK_INT(ha_score_kl(SCORER, &windows, gates, side[s], NULL), HA_OK);
            }
            for (int i = 0; i < 4; i++) {
                CHECK_CLOSE(again[i], kl[i], 1e-5);
                CHECK_CLOSE(slope[l][i], (side[1][i] - side[0][i]) / 0.02, 1e-2);
            }
        }
        weights_choose_the_rows(m);
        moments_add_up(m);
        alignment_is_the_loss_of_step_one(m);
#undef SCORER
        ha_model_free(m);
        drop();
    }
}

/* --- training --- */

typedef struct {
    ha_model *model, *teacher;
    ha_trainer *trainer;
    double loss[LAYERS], norm;
} job;

static job start(ha_stage stage, int k)
{
    job j = {.model = make(kinds[k], k, 5), .teacher = make(kinds[k], k, 6)};
    const ha_train_options options = {stage, 0.9f, 0.95f, 1e-8f, 0.01f, 1.0f, 2};
    if (stage != HA_STAGE_ALIGN) {
        j.model->gates[1] = 0.0f;
        j.model->gates[2] = 0.5f;
    }
    CHECK_INT(ha_trainer_new(j.model, stage == HA_STAGE_DISTILL ? j.teacher : NULL, &options, NULL, &j.trainer), HA_OK);
    return j;
}

static void finish(job *j)
{
    ha_trainer_free(j->trainer);
    ha_model_free(j->model);
    ha_model_free(j->teacher);
}

static ha_status step(job *j, const ha_interrupt *check)
{
    static const float lr[2] = {1e-3f, 1e-3f};
    ha_status status = ha_trainer_step(j->trainer, &windows, lr, NULL, &arena, check, j->loss, &j->norm);
    CHECK_INT(arena.used, 0);
    return status;
}

static void check_untouched(const job *j, const float *before, int64_t steps)
{
    CHECK_SAME(j->model->weights, before, j->model->params.total);
    CHECK_INT(ha_trainer_steps(j->trainer), steps);
}

/* Whatever stops a step, the weights are what they were, and the steps that follow are those of a twin never stopped. */
static void training(ha_stage stage, int k)
{
    job j = start(stage, k), twin = start(stage, k);
    const size_t total = j.model->params.total, size = arena.size;
    float *before = copy(j.model->weights, total);
    arena.peak = 0;
    CHECK_INT(step(&twin, NULL), HA_OK);
    const double first = twin.loss[0];
    const size_t need = arena.peak;
    for (size_t part = 0; part <= 16; part++) {
        arena.size = part < 16 ? need * part / 16 : need - 1;
        CHECK_INT(step(&j, NULL), HA_NO_MEMORY);
        check_untouched(&j, before, 0);
    }
    arena.size = size;
    INTERRUPT_EVERYWHERE(step(&j, check), check_untouched(&j, before, 0)); /* ends with a step that succeeds */
    CHECK_SAME(j.model->weights, twin.model->weights, total);
    CHECK(memcmp(j.model->weights, before, total * sizeof *before) != 0);
    /* a weight that is not a number, on the path of every stage */
    float *norm = j.model->weights + j.model->layer[0].mixer_norm.weight, was = *norm;
    memcpy(before, j.model->weights, total * sizeof *before);
    *norm = NAN;
    CHECK_INT(step(&j, NULL), HA_BAD_VALUE);
    CHECK(strstr(ha_error_message(), "not finite"));
    *norm = was;
    check_untouched(&j, before, 1);
    for (int i = 0; i < 8; i++) {
        CHECK_INT(step(&j, NULL), HA_OK);
        CHECK_INT(step(&twin, NULL), HA_OK);
    }
    CHECK_SAME(j.model->weights, twin.model->weights, total);
    CHECK_INT(ha_trainer_steps(j.trainer), 9);
    CHECK(j.loss[0] < first && isfinite(j.norm));
    finish(&j);
    finish(&twin);
    drop();
}

static void alignment(void)
{
    training(HA_STAGE_ALIGN, 0);
    training(HA_STAGE_ALIGN, 1);
}

static void distillation(void)
{
    training(HA_STAGE_DISTILL, 0);
    training(HA_STAGE_DISTILL, 1);
    job j = {.model = make(kinds[0], 0, 5)};
    const ha_train_options options = {.stage = HA_STAGE_DISTILL, .micro_batch = 2};
    CHECK_INT(ha_trainer_new(j.model, NULL, &options, NULL, &j.trainer), HA_BAD_VALUE);
    CHECK(!j.trainer);
    CHECK(strstr(ha_error_message(), "needs a teacher"));
    finish(&j);
}

static void fine_tuning(void)
{
    training(HA_STAGE_FINETUNE, 0);
    training(HA_STAGE_FINETUNE, 1);
}

int main(void)
{
    set_up();
    RUN(scores_follow_their_definitions);
    RUN(alignment);
    RUN(distillation);
    RUN(fine_tuning);
    ha_arena_close(&arena);
    return REPORT();
}
