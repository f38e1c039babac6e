/* Scoring layers by KL divergence, and the three training steps of RADLADS, on windows of a token
 * stream. */
#ifndef HA_DISTILL_DISTILL_H
#define HA_DISTILL_DISTILL_H

#include "model/model.h"
#include "ops/ops.h"

/* A stream of tokens and the pieces of it that are sequences: window w is [window[2w], window[2w +
 * 1]). Tokens are below `vocabulary`, which is checked whenever a batch is made: the stream may
 * change at any time. */
typedef struct {
    const int32_t *token;
    const int64_t *window;
    int count, vocabulary;
    const int32_t *segment; /* token types, as long as the stream, or NULL: all 0 */
} ha_windows;

/* windows.c: the batch of windows [from, to), repeated `copies` times, on the arena */
ha_status ha_windows_batch(const ha_windows *w, int from, int to, int copies, ha_arena *arena, ha_batch *batch);
/* The end of the group of windows that starts at `from`: as many as hold at most `rows` tokens
 * together, at least one. */
int ha_windows_group(const ha_windows *w, int from, int64_t rows);
/* The other way: rows of windows [from, to) to their places in the stream */
void ha_windows_scatter(const ha_windows *w, int from, int to, size_t d, const float *rows, float *stream);
/* rows [tokens of windows from .. to, d] out of a stream of the same width */
void ha_windows_gather(const ha_windows *w, int from, int to, size_t d, const float *stream, float *rows);
/* target [rows]: the token after each, -1 at the end of a sequence */
void ha_next_tokens(const ha_batch *batch, int32_t *target);

/* distance.c: the loss of stage distill and what scores measure, by what the student is for. */
typedef enum {
    HA_DISTANCE_KL,       /* KL(teacher || student) of the next-token distributions, a term a token */
    HA_DISTANCE_TASK_KL,  /* of a task's classes, or of a span's start and end (their mean): a term a sequence */
    HA_DISTANCE_TASK_MSE, /* squared error of a task's values: a term a sequence */
    HA_DISTANCE_HIDDEN    /* |h_T - h_S|^2 / |h_T|^2 of final hidden states, a term a token: models without a head */
} ha_distance_kind;

/* Which of them the model is compared by. */
ha_distance_kind ha_distance_of(const ha_model *model);
/* "kl", "task_kl", "task_mse" or "hidden" */
const char *ha_distance_name(const ha_model *model);
/* Whether its terms are tokens; else sequences. */
int ha_distance_by_token(const ha_model *model);

/* weight [rows] of a batch of windows from `from` on, by those of the stream: each row has that of
 * the token it predicts, which is the next one (so that a sequence's last row has 0), or in a
 * bidirectional model its own. NULL for stream NULL. */
ha_status ha_distance_weights(const ha_model *model, const ha_windows *w, int from, const ha_batch *batch,
                              const float *stream, ha_arena *arena, float **weight);
/* The sum of the weights of sequence s: its tokens where they count alike, 1 for a task. */
double ha_distance_total(const ha_model *model, const ha_batch *batch, const float *weight, int s);
/* sum [n_seq] of loss [rows], weighted unless weight is NULL */
void ha_sum_by_sequence(const ha_batch *batch, const float *weight, const double *loss, double *sum);

/* Final hidden states [rows, hidden] of a teacher and of `students` settings of one student, on one
 * batch. */
typedef struct {
    const ha_model *teacher, *student; /* of one task, hidden size and vocabulary */
    const ha_batch *batch;
    const float *weight; /* [rows] or NULL: of the terms of tokens */
    const float *teacher_hidden, *const *hidden;
    int students;
    int piece; /* rows whose logits are in memory together, 0: as many as are fast */
    const ha_interrupt *check;
    ha_arena *arena;
    double *same; /* [n_seq], unless NULL: weighted sums of the tokens for which the last student holds the token
                     likeliest that the teacher does; for HA_DISTANCE_KL only */
} ha_comparison;

/* Where gradients of scale * all sums go, for one student: hidden [rows, hidden] =, grads
 * [params.total] += unless NULL. */
typedef struct {
    float scale;
    float *hidden, *grads;
} ha_distance_gradient;

/* sum [students][n_seq]: weighted sums of the terms. nll [n_seq], unless NULL: those of the last
 * student's -log p(next token). gradient: or NULL. */
ha_status ha_distance(const ha_comparison *c, double *const *sum, double *nll, const ha_distance_gradient *gradient);

/* task.c: losses on the logits of a task. Labels by window: a class, or start and end of a span in
 * it, in `target`; values [labels] in `value`. */
typedef struct {
    const int32_t *target;
    const float *value;
} ha_labels;

/* loss [n_seq] of windows `first` on; logits become the gradient of scale * sum */
ha_status ha_task_loss(const ha_model *model, const ha_batch *batch, const ha_labels *labels, int first, float *logits,
                       float scale, double *loss, ha_arena *arena);
/* The same against a teacher's logits. */
ha_status ha_task_distance(const ha_model *model, const ha_batch *batch, const float *teacher, float *logits,
                           float scale, double *loss, ha_arena *arena);
/* logits [count, labels] of the windows; for spans [stream, 2], at the tokens' places in the
 * stream */
ha_status ha_windows_task(const ha_model *model, const ha_windows *w, float *logits, ha_arena *arena,
                          const ha_interrupt *check);

/* scorer.c; `teacher` NULL: the model itself with every gate 1. Results are means over the terms of
 * a window's distance (see ha_distance_kind): of KLs, in nats. */
typedef struct {
    const ha_model *model, *teacher;
    ha_arena *arena;
    const ha_interrupt *check;
    const float
        *teacher_hidden; /* [stream length, hidden_size]: T's final hidden states when they are at hand, or NULL */
    const float
        *weight; /* [stream length], or NULL: how much a token counts in its window's mean, ha_distance_weights */
    int64_t *layer_passes; /* unless NULL: += tokens times layers that they went through; backward counts twice */
    double *same; /* [windows], unless NULL: ha_score_kl's share of the tokens for which both hold the same token
                     likeliest; for HA_DISTANCE_KL only */
} ha_scorer;

typedef enum { HA_MEASURE_KL, HA_MEASURE_NLL } ha_measure;

/* kl [count] = distance of H with gates [num_layers] from T; nll [count], unless NULL, = H's mean
 * -log p(next token). */
ha_status ha_score_kl(const ha_scorer *s, const ha_windows *w, const float *gates, double *kl, double *nll);
/* Hybrids that differ from gates [num_layers] in one of `count` layers, ascending, whose gate is 1
 * - gate. */
typedef struct {
    ha_measure measure;
    const float *gates;
    int count;
    const int *layer;
} ha_flips;

/* The distance or the NLL: base [count] of the gates themselves, unless NULL, and flipped
 * [flips->count][count]. Candidates share the prefix up to their layer. */
ha_status ha_score_flip(const ha_scorer *s, const ha_windows *w, const ha_flips *flips, double *base, double *flipped);
/* kl [count] and gradient [num_layers][count] = d kl / d gate */
ha_status ha_score_gates(const ha_scorer *s, const ha_windows *w, const float *gates, double *kl, double *gradient);
/* Step 1's loss of every layer on the teacher's stream, error [num_layers][count], and that of a
 * mixer that gives zero, zero [num_layers][count]. Every layer needs both mixers. */
ha_status ha_score_align(const ha_scorer *s, const ha_windows *w, double *error, double *zero);
/* ha_model_observe over all windows */
ha_status ha_windows_observe(const ha_model *model, const ha_windows *w, float **moments, ha_arena *arena,
                             const ha_interrupt *check);
/* hidden [stream length, hidden_size]: final hidden states of the windows' tokens at their places
 * in the stream */
ha_status ha_windows_hidden(const ha_model *model, const ha_windows *w, float *hidden, ha_arena *arena,
                            const ha_interrupt *check);

typedef enum { HA_STAGE_ALIGN, HA_STAGE_DISTILL, HA_STAGE_FINETUNE } ha_stage;

typedef struct {
    ha_stage stage;
    float beta1, beta2, eps, weight_decay,
        clip;         /* clip <= 0: none. Aligning clips layer by layer: layers are separate problems. */
    int micro_batch;  /* windows that go through the model together; 0: as many as make up 512 tokens */
    int recompute;    /* so many first layers run again in the backward pass instead of keeping what they save */
    int piece;        /* of stage distill: see ha_comparison */
    ha_dtype moments; /* HA_F32, or HA_BF16: see ha_adamw_arenas */
} ha_train_options;

typedef struct ha_trainer ha_trainer;

/* trainer.c: `teacher` is for HA_STAGE_DISTILL, which is refused without one; else NULL will do.
 * train_layer [num_layers], for HA_STAGE_ALIGN, chooses the layers to train; NULL: all. */
ha_status ha_trainer_new(ha_model *student, const ha_model *teacher, const ha_train_options *options,
                         const uint8_t *train_layer, ha_trainer **out);
/* Frees the trainer and its moments; the models stay. NULL is nothing. */
void ha_trainer_free(ha_trainer *trainer);
/* What a step is given beside its windows; all NULL: nothing. */
typedef struct {
    const float *teacher_hidden; /* [stream, hidden] for stage distill: the teacher's, which is then not run */
    const float *weight;         /* [stream] for stage distill: see ha_distance_weights */
    ha_labels labels;            /* for stage finetune of a model with a task */
} ha_train_data;

/* One optimizer step on all windows. lr by group (HA_GROUP_REST, HA_GROUP_MIXER). given: or NULL.
 * loss: mean per token, or per sequence for a task; for HA_STAGE_ALIGN one for each layer
 * [num_layers] (0 where it is not trained). On any failure the weights and the step count are as
 * before. */
ha_status ha_trainer_step(ha_trainer *trainer, const ha_windows *w, const float lr[2], const ha_train_data *given,
                          ha_arena *arena, const ha_interrupt *check, double *loss, double *grad_norm);
/* Steps taken so far; the next one is this plus 1 for the bias correction. */
int64_t ha_trainer_steps(const ha_trainer *trainer);
/* For a trainer that goes on where another ended. */
void ha_trainer_set_steps(ha_trainer *trainer, int64_t steps);
/* AdamW's first or second moments, laid out like the model's parameters, from number `at` on. */
void *ha_trainer_moment(const ha_trainer *trainer, int second, size_t at);
/* Their type. */
ha_dtype ha_trainer_moments(const ha_trainer *trainer);
/* Whether parameter `param` is trained. */
int ha_trainer_trains(const ha_trainer *trainer, int param);

/* Some layers of step 1 and the teacher's stream in front of them and behind them, float32 [tokens
 * of the windows, hidden_size]. */
typedef struct {
    int first, stop; /* layers [first, stop) */
    const float *in; /* NULL: `first` is 0, and the tokens are embedded */
    float *out;      /* NULL: not wanted */
} ha_align_part;

/* align.c: forward and backward of step 1 for one batch; loss [num_layers] += sum over tokens of
 * the distance. Gradients of scale * loss. */
ha_status ha_align_batch(ha_model *model, const uint8_t *train_layer, const ha_align_part *part, const ha_batch *batch,
                         float scale, ha_arena *arena, const ha_interrupt *check, double *loss);

/* rehearsal.c: forward and backward of all windows together, as one micro-batch, with every layer
 * recomputed and nothing changed. peak: bytes of the arena, which must be empty. kept [num_layers]:
 * by how many more that grows for each layer that is not recomputed. */
ha_status ha_trainer_rehearse(ha_trainer *trainer, const ha_windows *w, const ha_train_data *given, ha_arena *arena,
                              const ha_interrupt *check, size_t *peak, size_t *kept);

/* trainer_parts.c: the parts of a step, for callers that share one out among processes. Windows
 * [first, stop) of a step: */
typedef struct {
    const ha_windows *windows;
    int first, stop;
} ha_share;

/* grads [params.total] += the share's part of the gradients of the step's mean loss; loss [1]: its
 * part of the loss. Not for HA_STAGE_ALIGN. On a failure grads is of no use. */
ha_status ha_trainer_gradients(ha_trainer *trainer, const ha_share *share, const ha_train_data *given, float *grads,
                               ha_arena *arena, const ha_interrupt *check, double *loss);
/* Trained parameters in blocks that depend on nothing but the model: how many. */
int ha_trainer_blocks(const ha_trainer *trainer);
/* Where block i starts in the arena and, for i = their number, where the last one ends. */
size_t ha_trainer_block(const ha_trainer *trainer, int i);
/* stage [blocks]: in which stage of a backward pass the block's gradient becomes final, see
 * ha_param_stage. */
void ha_trainer_stages(const ha_trainer *trainer, int64_t *stage);
/* Stages that have made gradients final so far, in all calls together: in each call the windows
 * that go through the model last count theirs. Any thread may ask while another one trains. */
int64_t ha_trainer_finished(const ha_trainer *trainer);
/* sum += more, and more = 0, on the trained parameters */
ha_status ha_trainer_fold(const ha_trainer *trainer, float *sum, float *more, ha_arena *arena);
/* squares [stop - first] of the blocks' gradients */
ha_status ha_trainer_squares(const ha_trainer *trainer, const float *grads, int first, int stop, double *squares,
                             ha_arena *arena);
/* AdamW on blocks [first, stop) by gradients whose norm, of all blocks, is known; they become zero.
 * The count of steps is the caller's. */
ha_status ha_trainer_update(ha_trainer *trainer, float *grads, int first, int stop, double norm, const float lr[2],
                            ha_arena *arena);
/* One step of HA_STAGE_ALIGN on some layers, as ha_trainer_step. */
ha_status ha_trainer_align(ha_trainer *trainer, const ha_windows *w, const ha_align_part *part, const float lr[2],
                           ha_arena *arena, const ha_interrupt *check, double *loss, double *grad_norm);

/* What is wanted of a layer, float32 [tokens of the windows, ..] each unless NULL. softmax_read brings
 * softmax_output and reach with it. */
typedef struct {
    float *input;          /* [hidden] what the mixers read */
    float *softmax_read;   /* [inner] what the softmax mixer's output projection reads */
    float *softmax_output; /* [hidden] of that mixer */
    double *reach;         /* [heads][3] +=, see ha_attention_reach */
    float *linear_read;    /* [inner] what the linear mixer's output projection reads */
    float *stream;         /* [hidden] the teacher's stream behind the layer */
} ha_trace;

/* trace.c: layer l on the teacher's stream, in [tokens of the windows, hidden]; NULL: l is 0, and
 * the tokens are embedded */
ha_status ha_windows_trace(const ha_model *m, int l, const ha_windows *w, const float *in, const ha_trace *to,
                           ha_arena *arena, const ha_interrupt *check);

#endif
