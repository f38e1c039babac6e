/* Scores against their definitions and training in its three stages, on a tiny model: interrupts at every point, full
 * arenas and losses that are no numbers leave the weights as they were. */
#include "tiny.h"

/* --- scores --- */

static void scores_follow_their_definitions(void)
{
    for (int k = 0; k < 2; k++) {
        ha_model *m = make(kinds[k], k, 4);
        const ha_interrupt *check = NULL;
#define SCORER (&(const ha_scorer){m, NULL, &arena, check})
        const float ones[LAYERS] = {1, 1, 1}, half[LAYERS] = {0.5f, 0.25f, 0.75f};
        float *teacher = zeros(N * D);
        const int layers[] = {0, 2};
        double kl[4], again[4], nll[4], base[4], flipped[2][4], slope[LAYERS][4], side[2][4];
        CHECK_INT(ha_score_kl(SCORER, &windows, ones, NULL, kl, NULL), HA_OK);
        for (int i = 0; i < 4; i++)
            CHECK_CLOSE(kl[i], 0.0, 1e-6);
        /* the teacher computed, and its hidden states given */
        INTERRUPT_EVERYWHERE(ha_score_kl(SCORER, &windows, half, NULL, kl, nll), (void)0);
        CHECK_INT(ha_windows_hidden(m, &windows, teacher, &arena, NULL), HA_OK);
        CHECK_INT(ha_score_kl(SCORER, &windows, half, teacher, again, NULL), HA_OK);
        for (int i = 0; i < 4; i++)
            CHECK_CLOSE(again[i], kl[i], 1e-6);
        CHECK(kl[0] > 1e-3 && nll[0] > 0.0);
        INTERRUPT_EVERYWHERE(ha_score_flip(SCORER, &windows, half, 2, layers, base, flipped[0]), (void)0);
        for (int f = 0; f < 2; f++) {
            float gates[LAYERS] = {0.5f, 0.25f, 0.75f};
            gates[layers[f]] = 1.0f - gates[layers[f]];
            CHECK_INT(ha_score_kl(SCORER, &windows, gates, NULL, again, NULL), HA_OK);
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
                CHECK_INT(ha_score_kl(SCORER, &windows, gates, NULL, side[s], NULL), HA_OK);
            }
            for (int i = 0; i < 4; i++) {
                CHECK_CLOSE(again[i], kl[i], 1e-5);
                CHECK_CLOSE(slope[l][i], (side[1][i] - side[0][i]) / 0.02, 1e-2);
            }
        }
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
    float *norm = j.model->weights + j.model->layer[0].mixer_norm, was = *norm;
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
    /* neither a teacher nor its hidden states */
    job j = {.model = make(kinds[0], 0, 5)};
    const ha_train_options options = {.stage = HA_STAGE_DISTILL, .micro_batch = 2};
    CHECK_INT(ha_trainer_new(j.model, NULL, &options, NULL, &j.trainer), HA_OK);
    CHECK_INT(step(&j, NULL), HA_BAD_VALUE);
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
