/* Heads of tasks: gradients of every kind of head and loss, and training and scoring through them. */
#include "distill/distill.h"
#include "tiny.h"

enum { ROWS = 169, SEQ = 4 };

static const int32_t offset[] = {0, 70, 71, 136, 169};
static const ha_batch batch = {.rows = ROWS, .n_seq = SEQ, .offset = offset};
static const int32_t classes[] = {2, 0, 1, 1}, spans[] = {3, 69, 0, 0, 10, 12, 5, 5};
static const float values[] = {.5f, -1, 2, 0, 1, .25f, -2, 3, 1, 1, 0, -1};
static const ha_labels labels_of[] = {
    [HA_TASK_CLASSIFY] = {classes, NULL}, [HA_TASK_REGRESS] = {NULL, values}, [HA_TASK_SPAN] = {spans, NULL}};

/* Loss by sequence against labels (teacher NULL) or a teacher's logits, with gradients unless dhidden is NULL. */
static ha_status head_loss(const ha_model *m, const float *hidden, const float *teacher, float *loss, float *dhidden,
                           float *grads)
{
    ha_task_run run;
    double sum[SEQ];
    const float scale = dhidden ? 1.0f : 0.0f;
    size_t mark = ha_arena_mark(&arena);
    HA_TRY(ha_task_forward(m, &batch, hidden, &arena, &run));
    if (teacher)
        HA_TRY(ha_task_distance(m, &batch, teacher, run.logits, scale, sum, &arena));
    else
        HA_TRY(ha_task_loss(m, &batch, &labels_of[m->config.task.kind], 0, run.logits, scale, sum, &arena));
    if (dhidden)
        HA_TRY(ha_task_backward(m, &batch, &run, run.logits, dhidden, grads, &arena));
    for (int i = 0; i < SEQ; i++)
        loss[i] = (float)sum[i];
    ha_arena_release(&arena, mark);
    return HA_OK;
}

static void one_head(ha_task wanted)
{
    task = wanted;
    ha_model *m = make(kinds[0], FORM_PLAIN, 5);
    task = (ha_task){0};
    const size_t n = (size_t)ROWS * D, weights = m->params.total;
    float *hidden = numbers(n, 1), *dhidden = zeros(n), *loss = zeros(SEQ), *ones = zeros(SEQ),
          *teacher = numbers((size_t)ROWS * 3, 1), *grads = zeros(weights);
    for (int i = 0; i < SEQ; i++)
        ones[i] = 1.0f;
    const float *const against[] = {NULL, teacher};
    CHECK_INT(m->head == HA_NONE, 1);
    CHECK_INT(ha_model_need_head(m), HA_BAD_VALUE);
    for (int i = 0; i < 2; i++) {
        const float *t = against[i];
        EXERCISE(head_loss(m, hidden, t, loss, dhidden, grads), {loss, SEQ}, {dhidden, n}, {grads, weights, 1});
        CHECK_SLOPE(hidden, dhidden, n, head_loss(m, hidden, t, loss, NULL, NULL), {loss, SEQ, ones});
        for (int p = 0; p < m->params.count; p++) {
            const ha_param *param = &m->params.list[p];
            if (param->layer >= 0 || (strncmp(param->name, "pooler", 6) && strncmp(param->name, "classifier", 10)))
                continue;
            CHECK_SLOPE(m->weights + param->offset, grads + param->offset, param->count,
                        head_loss(m, hidden, t, loss, NULL, NULL), {loss, SEQ, ones});
        }
    }
    ha_model_free(m);
    drop();
}

static void heads(void)
{
    one_head((ha_task){HA_TASK_CLASSIFY, 3, HA_POOL_LAST, HA_ACT_NONE, 0});
    one_head((ha_task){HA_TASK_CLASSIFY, 3, HA_POOL_FIRST, HA_ACT_TANH, 1});
    one_head((ha_task){HA_TASK_REGRESS, 3, HA_POOL_MEAN, HA_ACT_RELU, 1});
    one_head((ha_task){HA_TASK_REGRESS, 1, HA_POOL_LAST, HA_ACT_NONE, 0});
    /* no bias: over positions it cancels, its gradient is 0 */
    one_head((ha_task){HA_TASK_SPAN, 2, HA_POOL_FIRST, HA_ACT_NONE, 0});
}

/* The slope of the distance by the gates, and what a step of each stage does to the loss. */
static void trained(ha_task wanted)
{
    const float gates[LAYERS] = {.5f, .25f, .75f}, lr[2] = {1e-3f, 1e-3f};
    double kl[SEQ], side[2][SEQ], slope[LAYERS][SEQ], loss, first = 0.0, norm;
    task = wanted;
    ha_model *m = make(kinds[1], FORM_PLAIN, 5), *teacher = make(kinds[1], FORM_PLAIN, 6);
    task = (ha_task){0};
    const ha_scorer scorer = {.model = m, .arena = &arena};
    CHECK_INT(ha_score_gates(&scorer, &windows, gates, kl, slope[0]), HA_OK);
    for (int l = 0; l < LAYERS; l++) {
        float moved[LAYERS];
        for (int s = 0; s < 2; s++) {
            memcpy(moved, gates, sizeof gates);
            moved[l] += s ? 1e-2f : -1e-2f;
            CHECK_INT(ha_score_kl(&scorer, &windows, moved, side[s], NULL), HA_OK);
        }
        for (int i = 0; i < SEQ; i++)
            CHECK_CLOSE((side[1][i] - side[0][i]) / 2e-2, slope[l][i], 2e-2 * fabs(slope[l][i]) + 1e-3);
    }
    const ha_stage stages[] = {HA_STAGE_FINETUNE, HA_STAGE_DISTILL};
    for (int i = 0; i < 2; i++) {
        const ha_train_options options = {
            .stage = stages[i], .beta1 = .9f, .beta2 = .95f, .eps = 1e-8f, .micro_batch = 3};
        const ha_train_data given = {.labels = labels_of[wanted.kind]};
        ha_trainer *trainer;
        CHECK_INT(ha_trainer_new(m, teacher, &options, NULL, &trainer), HA_OK);
        for (int step = 0; step < 12; step++) {
            CHECK_INT(ha_trainer_step(trainer, &windows, lr, &given, &arena, NULL, &loss, &norm), HA_OK);
            first = step ? first : loss;
        }
        CHECK(loss < 0.9 * first);
        ha_trainer_free(trainer);
    }
    ha_model_free(m);
    ha_model_free(teacher);
    drop();
}

static void stages(void)
{
    trained((ha_task){HA_TASK_CLASSIFY, 3, HA_POOL_LAST, HA_ACT_NONE, 0});
    trained((ha_task){HA_TASK_REGRESS, 3, HA_POOL_MEAN, HA_ACT_TANH, 1});
    trained((ha_task){HA_TASK_SPAN, 2, HA_POOL_FIRST, HA_ACT_NONE, 1});
}

int main(void)
{
    set_up();
    RUN(heads);
    RUN(stages);
    ha_arena_close(&arena);
    return REPORT();
}
