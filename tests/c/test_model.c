/* A tiny model through the public header: cache = full, scores = definitions, training, interrupts, refusals. */
#include <stdlib.h>

#include "check.h"
#include "hybridattn.h"

enum { LAYERS = 3, D = 32, V = 61, N = 300 };

static ha_arena arena;
static int32_t stream[N];
static const char *const kinds[] = {"gated_delta", "window_linear"};

static ha_model *make(const char *kind, uint64_t seed)
{
    static const float inv_freq[] = {1.0f, 0.1f, 0.01f, 0.001f};
    const ha_config config = {.vocab_size = V,
                              .hidden_size = D,
                              .num_layers = LAYERS,
                              .num_heads = 4,
                              .num_kv_heads = 2,
                              .head_dim = 8,
                              .intermediate_size = 40,
                              .norm_eps = 1e-5f,
                              .rope_inv_freq = inv_freq,
                              .rope_factor = 1.0f,
                              .attention_bias = 1,
                              .output_bias = 1,
                              .mlp_bias = 1,
                              .tie_embeddings = 1};
    ha_layer_spec spec[LAYERS] = {0};
    ha_model *m = NULL;
    ha_rng rng = ha_rng_seed(seed);
    for (int l = 0; l < LAYERS; l++) {
        spec[l].has_softmax = 1;
        spec[l].linear = ha_mixer_find(kind);
        for (int i = 0; i < HA_MAX_OPTIONS; i++)
            spec[l].option[i] = spec[l].linear->option[i].value;
        if (strcmp(kind, "window_linear") == 0)
            spec[l].option[0] = 9;
    }
    CHECK_INT(ha_model_new(&config, spec, &m), HA_OK);
    for (int i = 0; i < m->params.count; i++)
        for (size_t j = 0; j < m->params.list[i].count; j++)
            m->weights[m->params.list[i].offset + j] = (m->params.list[i].ndim == 1) + 0.25f * ha_rng_normal(&rng);
    ha_model_init_mixers(m, seed);
    return m;
}

static ha_windows windows_of(const int64_t *pairs, int count)
{
    return (ha_windows){stream, pairs, count};
}

/* Tokens from .. to of the stream as one sequence at positions from `first` on, through a cache */
static ha_status feed(ha_model *m, ha_cache *cache, int from, int to, float *hidden)
{
    const int64_t pair[] = {from, to};
    const ha_windows w = windows_of(pair, 1);
    size_t mark = ha_arena_mark(&arena);
    ha_batch batch;
    HA_TRY(ha_windows_batch(&w, 0, 1, 1, &arena, &batch));
    int extra = to - from;
    for (int i = 0; i < extra; i++)
        ((int32_t *)batch.position)[i] += ha_cache_length(cache, 0);
    HA_TRY(ha_cache_reserve(cache, &extra));
    ha_status status = ha_model_hidden(m, NULL, &batch, cache, hidden, &arena, NULL);
    ha_arena_release(&arena, mark);
    return status;
}

static void cache_equals_full(void)
{
    for (int k = 0; k < 2; k++)
        for (int gate = 0; gate < 2; gate++) {
            ha_model *m = make(kinds[k], 3);
            const int64_t whole[] = {0, 150};
            const ha_windows w = windows_of(whole, 1);
            float *full = calloc(N * D, sizeof *full), *parts = calloc(N * D, sizeof *parts);
            for (int l = 0; l < LAYERS; l++)
                m->gates[l] = (float)gate;
            CHECK_INT(ha_windows_hidden(m, &w, full, &arena, NULL), HA_OK);
            ha_cache *cache = NULL, *fork = NULL;
            CHECK_INT(ha_cache_new(m, 1, &cache), HA_OK);
            const int stops[] = {0, 1, 2, 9, 75, 76, 150};
            for (int i = 0; i + 1 < 7; i++)
                CHECK_INT(feed(m, cache, stops[i], stops[i + 1], parts + stops[i] * D), HA_OK);
            CHECK_ALL_CLOSE(parts, full, 150 * D, 1e-4);
            CHECK(gate || ha_cache_bytes_per_token(cache) == 0);
            CHECK_INT(ha_cache_copy(cache, &fork), HA_OK);
            CHECK_INT(feed(m, cache, 150, 155, full), HA_OK);
            CHECK_INT(feed(m, fork, 150, 155, parts), HA_OK);
            CHECK_SAME(full, parts, 5 * D);
            ha_cache_free(cache);
            ha_cache_free(fork);
            ha_model_free(m);
            free(full), free(parts);
        }
}

static const int64_t pairs[] = {0, 70, 70, 71, 100, 165, 200, 233};

static void scores_follow_their_definitions(void)
{
    for (int k = 0; k < 2; k++) {
        ha_model *m = make(kinds[k], 4);
        const ha_windows w = windows_of(pairs, 4);
        const ha_scorer s = {m, NULL, &arena, NULL};
        const float half[LAYERS] = {0.5f, 0.25f, 0.75f};
        const int layers[] = {0, 2};
        double kl[4], base[4], flipped[2][4], slope[LAYERS][4], up[4], down[4];
        CHECK_INT(ha_score_kl(&s, &w, (float[]){1, 1, 1}, NULL, kl, NULL), HA_OK);
        CHECK_CLOSE(kl[0], 0.0, 1e-6);
        CHECK_INT(ha_score_flip(&s, &w, (float[]){1, 1, 1}, 2, layers, base, flipped[0]), HA_OK);
        CHECK_INT(ha_score_kl(&s, &w, (float[]){1, 1, 0}, NULL, kl, NULL), HA_OK);
        for (int i = 0; i < 4; i++)
            CHECK_CLOSE(flipped[1][i], kl[i], 1e-5);
        CHECK_INT(ha_score_gates(&s, &w, half, kl, slope[0]), HA_OK);
        CHECK_INT(ha_score_kl(&s, &w, (float[]){0.5f, 0.25f, 0.77f}, NULL, up, NULL), HA_OK);
        CHECK_INT(ha_score_kl(&s, &w, (float[]){0.5f, 0.25f, 0.73f}, NULL, down, NULL), HA_OK);
        CHECK_CLOSE(slope[2][0], (up[0] - down[0]) / 0.04, 2e-2);
        ha_model_free(m);
    }
}

static int countdown;

static int poll(void *arg)
{
    (void)arg;
    return countdown-- == 0;
}

static void training_steps(void)
{
    const ha_windows w = windows_of(pairs + 4, 2);
    const float lr[2] = {1e-3f, 1e-3f};
    for (int stage = HA_STAGE_ALIGN; stage <= HA_STAGE_FINETUNE; stage++)
        for (int k = 0; k < 2; k++) {
            ha_model *m = make(kinds[k], 5), *teacher = make(kinds[k], 6);
            const ha_train_options options = {stage, 0.9f, 0.95f, 1e-8f, 0.0f, 1.0f, 1};
            const size_t bytes = m->params.total * sizeof(float);
            ha_trainer *t = NULL;
            double loss[LAYERS], norm, first = 0.0;
            CHECK_INT(ha_trainer_new(m, stage == HA_STAGE_DISTILL ? teacher : NULL, &options, NULL, &t), HA_OK);
            if (stage != HA_STAGE_ALIGN)
                m->gates[1] = 0.0f;
            float *before = malloc(bytes);
            memcpy(before, m->weights, bytes);
            /* stopped half way: as if it had not begun */
            const ha_interrupt check = {poll, NULL};
            countdown = 4;
            CHECK_INT(ha_trainer_step(t, &w, lr, NULL, &arena, &check, loss, &norm), HA_INTERRUPTED);
            CHECK_INT(arena.used, 0);
            CHECK(memcmp(before, m->weights, bytes) == 0 && ha_trainer_steps(t) == 0);
            for (int i = 0; i < 12; i++) {
                CHECK_INT(ha_trainer_step(t, &w, lr, NULL, &arena, NULL, loss, &norm), HA_OK);
                first = i == 0 ? loss[0] : first;
            }
            CHECK(loss[0] < first);
            /* a loss that is not a number changes nothing either */
            memcpy(before, m->weights, bytes);
            float kept = m->weights[m->final_norm];
            int l = 0;
            m->weights[stage == HA_STAGE_ALIGN ? m->layer[l].mixer_norm : m->final_norm] = NAN;
            CHECK_INT(ha_trainer_step(t, &w, lr, NULL, &arena, NULL, loss, &norm), HA_BAD_VALUE);
            CHECK(strstr(ha_error_message(), "not finite") != NULL && ha_trainer_steps(t) == 12);
            m->weights[stage == HA_STAGE_ALIGN ? m->layer[l].mixer_norm : m->final_norm] =
                stage == HA_STAGE_ALIGN ? before[m->layer[l].mixer_norm] : kept;
            CHECK(memcmp(before, m->weights, bytes) == 0);
            ha_trainer_free(t);
            ha_model_free(m);
            ha_model_free(teacher);
            free(before);
        }
}

int main(void)
{
    ha_rng rng = ha_rng_seed(1);
    for (int i = 0; i < N; i++)
        stream[i] = (int32_t)(ha_rng_next(&rng) % V);
    CHECK_INT(ha_arena_open(&arena), HA_OK);
    RUN(cache_equals_full);
    RUN(scores_follow_their_definitions);
    RUN(training_steps);
    ha_arena_close(&arena);
    return REPORT();
}
