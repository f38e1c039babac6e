/* A tiny llama-like model with both mixers in every layer, a stream of tokens for it, and INTERRUPT_EVERYWHERE. */
#ifndef HA_TEST_TINY_H
#define HA_TEST_TINY_H

#include "arrays.h"

enum { LAYERS = 3, D = 32, V = 61, N = 300 };

static int32_t stream[N], types[N];
static ha_task task; /* of the models that are made next */
static const char *const kinds[] = {"gated_delta", "window_linear"};

/* Llama's block with biases and a tied head, without and untied, and what other families have instead. */
typedef enum { FORM_BIASES, FORM_PLAIN, FORM_POST, FORM_PARALLEL, FORM_QK_NORM, FORM_SANDWICH, FORMS } form;

/* Both mixers in every layer; a short convolution with biases. */
static inline ha_model *make(const char *kind, form form, uint64_t seed)
{
    const int plain = form == FORM_PLAIN, post = form == FORM_POST, parallel = form == FORM_PARALLEL;
    const int sandwich = form == FORM_SANDWICH;
    static const float inv_freq[] = {1.0f, 0.1f, 0.01f, 0.001f}, local_inv_freq[] = {0.8f, 0.4f, 0.2f, 0.1f};
    static const uint8_t local[LAYERS] = {1, 0, 1};
    const ha_config config = {.vocab_size = V,
                              .hidden_size = D,
                              .num_layers = LAYERS,
                              .num_heads = 4,
                              .num_kv_heads = 2,
                              .head_dim = 8,
                              .rope_dim = post       ? 0
                                          : parallel ? 4
                                                     : 8,
                              .intermediate_size = 40,
                              .norm_eps = 1e-5f,
                              .rope_inv_freq = inv_freq,
                              .rope_factor = 1.0f,
                              .attention_bias = !plain,
                              .output_bias = !plain,
                              .mlp_bias = !plain,
                              .tie_embeddings = !plain,
                              .qk_norm = form == FORM_QK_NORM || sandwich,
                              .local = sandwich ? local : NULL,
                              .local_inv_freq = local_inv_freq,
                              .local_window = 11,
                              .embed_scale = sandwich ? 1.5f : 0.0f,
                              .norm = post || parallel ? HA_NORM_LAYER : HA_NORM_RMS,
                              .block = post       ? HA_BLOCK_POST
                                       : parallel ? HA_BLOCK_PARALLEL
                                       : sandwich ? HA_BLOCK_SANDWICH
                                                  : HA_BLOCK_PRE,
                              .mlp_plain = post || parallel,
                              .act = post                   ? HA_ACT_GELU
                                     : parallel || sandwich ? HA_ACT_GELU_TANH
                                                            : HA_ACT_NONE,
                              .positions = post ? 80 : 0,
                              .position_offset = post ? 2 : 0,
                              .segments = post ? 2 : 0,
                              .embed_norm = post,
                              .final_norm = !post,
                              .lm_head = 1,
                              .head_bias = post,
                              .head_transform = post,
                              .task = task};
    ha_layer_spec spec[LAYERS] = {0};
    ha_model *m = NULL;
    ha_rng rng = ha_rng_seed(seed);
    for (int l = 0; l < LAYERS; l++) {
        spec[l].has_softmax = 1;
        spec[l].linear = ha_mixer_find(kind);
        for (int i = 0; i < HA_MAX_OPTIONS && spec[l].linear->option[i].name; i++) {
            const ha_option *o = &spec[l].linear->option[i];
            spec[l].option[i] = strcmp(o->name, "window") == 0  ? 9 /* shorter than the sequences */
                                : strcmp(o->name, "slots") == 0 ? 5
                                : strcmp(o->name, "conv") == 0  ? 3 * (form == FORM_BIASES)
                                                                : o->value;
        }
    }
    CHECK_INT(ha_model_new(&config, spec, &m), HA_OK);
    for (int i = 0; i < m->params.count; i++)
        for (size_t j = 0; j < m->params.list[i].count; j++)
            m->weights[m->params.list[i].offset + j] = (m->params.list[i].ndim == 1) + 0.25f * ha_rng_normal(&rng);
    CHECK_INT(ha_model_init_mixers(m, seed), HA_OK);
    return m;
}

static const int64_t pairs[] = {0, 70, 70, 71, 100, 165, 200, 233};
static const ha_windows windows = {stream, pairs, 4, V};

/* The same with segments, for a model that has them. */
static inline ha_windows windows_of(const ha_model *m)
{
    return (ha_windows){stream, pairs, 4, V, m->config.segments ? types : NULL};
}

/* --- interrupts --- */

static int polls;

static inline int poll_at(void *when)
{
    return polls++ == *(int *)when;
}

/* Runs `call`, which takes `check`, stopped at its first question, its second, ... until one run is not stopped; `after`
 * follows each stop. The arena is empty again, or emptied. */
#define INTERRUPT_EVERYWHERE(call, after)                                        \
    do {                                                                         \
        int when_ = 0, status_ = HA_INTERRUPTED;                                 \
        const ha_interrupt check_here = {poll_at, &when_}, *check = &check_here; \
        for (; status_ == HA_INTERRUPTED; when_++) {                             \
            polls = 0;                                                           \
            status_ = (call);                                                    \
            ha_arena_release(&arena, 0);                                         \
            if (status_ == HA_INTERRUPTED) {                                     \
                after;                                                           \
            }                                                                    \
        }                                                                        \
        CHECK_INT(status_, HA_OK);                                               \
        CHECK(when_ > LAYERS);                                                   \
    } while (0)

static inline void set_up(void)
{
    ha_rng rng = ha_rng_seed(1);
    for (int i = 0; i < N; i++)
        stream[i] = (int32_t)(ha_rng_next(&rng) % V);
    for (int i = 0; i < N; i++)
        types[i] = i / 9 % 2;
    ha_set_threads(2);
    ha_arena_open(&arena);
}

#endif
