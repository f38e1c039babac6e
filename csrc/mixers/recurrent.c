#include "mixers/recurrent.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/slices.h"
#include "core/thread.h"
#include "kernels/kernels.h"
#include "mixers/own_heads.h"
#include "mixers/projections.h"
#include "mixers/recurrent_output.h"
#include "mixers/slots.h"

static const float UNGATED = 0.3f; /* start of a norm's weight where the output gate is left out */

typedef struct {
    float *projected; /* [rows, width] with biases, before any activation */
    float *output;    /* [rows, inner] of the recurrence */
    float *reads;     /* [directions rows, kept] what it read before each write, unless it only adds */
    float *states;    /* and what else slots.h saves */
    size_t floats;
} saved_arrays;

static ha_recurrence shape_of(const ha_recurrent_layout *l)
{
    return (ha_recurrence){l->kv_heads, l->dim, l->dim, l->frame->gate, ha_recurrent_group(l)};
}

/* Where they lie in `saved`; with NULL only `floats` is meant. What is not kept lies first, the
 * rest only when `keep`. */
static saved_arrays arrays_in(const ha_recurrent_layout *l, const ha_batch *batch, int keep, float *saved)
{
    const size_t wide = (size_t)batch->rows * (size_t)l->inner, both = (size_t)l->directions;
    const ha_recurrence shape = shape_of(l);
    ha_slices slices = {saved, 0};
    saved_arrays p = {0};
    p.projected = ha_slice(&slices, (size_t)batch->rows * (size_t)l->width);
    p.output = ha_slice(&slices, wide);
    if (keep && l->frame->form != HA_FORM_ADD)
        p.reads = ha_slice(&slices, both * (size_t)batch->rows * (size_t)l->kept);
    if (keep)
        p.states =
            ha_slice(&slices, both * (l->slots ? ha_slots_saved(l, batch) : ha_recurrence_states(&shape, batch)));
    p.floats = slices.used;
    return p;
}

size_t ha_recurrent_saved(const ha_mixer *mixer, const ha_batch *batch)
{
    const ha_recurrent_layout l = ha_recurrent_layout_of(mixer);
    return arrays_in(&l, batch, 1, NULL).floats;
}

ha_state_shape ha_recurrent_state(const ha_mixer *mixer)
{
    const ha_recurrent_layout l = ha_recurrent_layout_of(mixer);
    const size_t past = l.conv ? (size_t)(l.conv - 1) * (size_t)l.mixed : 0;
    return (ha_state_shape){.floats = l.state + past};
}

double ha_recurrent_flops(const ha_mixer *mixer, double context)
{
    const ha_recurrent_layout l = ha_recurrent_layout_of(mixer);
    (void)context;
    double flops = 2.0 * mixer->config->hidden_size * (l.width + l.inner) + 2.0 * l.conv * l.mixed;
    for (int i = 0; i < l.n_parts; i++)
        flops += 2.0 * l.rank[i] * l.size[i];
    const double each = l.frame->form == HA_FORM_ADD ? 5.0 : l.frame->form == HA_FORM_DELTA ? 7.0 : 9.0;
    return flops + (each + 2.0 * (ha_recurrent_group(&l) - 1)) * l.directions * (double)l.state;
}

/* Whether the upper half of the output gate may be of another type than float32: where a full gate is
 * the kind's own, it takes that one's place, and its rows are whole blocks. */
static int may_be_stored(const ha_mixer *mixer, int rank)
{
    const ha_recurrent *f = mixer->kind->frame;
    return f->has_output_gate && mixer->kind->option[HA_OPTION_OUTPUT_GATE].value == HA_OUTPUT_GATE_FULL && rank &&
           rank % 32 == 0;
}

ha_status ha_recurrent_declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params)
{
    HA_TRY(ha_own_heads(mixer, layer));
    const ha_recurrent_layout l = ha_recurrent_layout_of(mixer);
    const ha_recurrent *f = l.frame;
    if (l.conv && l.directions == 2)
        return ha_fail(HA_BAD_VALUE,
                       "layers[%d]: %s's conv is %d, allowed in a bidirectional model is 0: it looks back only", layer,
                       mixer->kind->name, l.conv);
    ha_joined joined[HA_MAX_PARTS];
    char name[HA_MAX_PARTS][HA_MAX_NAME];
    int n_joined = 0;
    for (int i = 0; i < l.n_parts; i++) {
        snprintf(name[i], sizeof name[i], "%s_%s.weight", f->part[i].name, l.rank[i] ? "down" : "proj");
        if (l.size[i])
            joined[n_joined++] = (ha_joined){name[i], l.rank[i] ? l.rank[i] : l.size[i]};
    }
    mixer->no_bias = !mixer->option[HA_OPTION_BIAS];
    mixer->no_qk_norm = !mixer->option[HA_OPTION_QK_NORM];
    HA_TRY(ha_declare_projections(mixer, prefix, layer, l.kv_heads, 1, joined, n_joined, params));
    ha_param vector = {.group = HA_GROUP_MIXER, .layer = layer, .aligns = 1, .ndim = 1, .shape = {l.kv_heads}};
    ha_param matrix = {.group = HA_GROUP_MIXER, .layer = layer, .aligns = 1, .ndim = 2};
    if (f->decays)
        HA_TRY(ha_params_add(params, prefix, "A_log", &vector, &mixer->at[HA_SLOT_KIND]));
    for (int i = 0; i < l.n_parts; i++) {
        snprintf(name[i], sizeof name[i], "%s_up.weight", f->part[i].name);
        matrix.shape[0] = vector.shape[0] = l.size[i];
        matrix.shape[1] = l.rank[i];
        matrix.matrix = i == 0 && may_be_stored(mixer, l.rank[i]);
        if (l.rank[i])
            HA_TRY(ha_params_add(params, prefix, name[i], &matrix, &mixer->at[HA_SLOT_UP + i]));
        if (f->part[i].bias)
            HA_TRY(ha_params_add(params, prefix, f->part[i].bias, &vector, &mixer->at[HA_SLOT_BIAS + i]));
    }
    matrix.shape[1] = l.conv;
    matrix.matrix = 0;
    for (int i = 0; l.conv && i < 3; i++) {
        const char *const conv[] = {"q_conv.weight", "k_conv.weight", "v_conv.weight"};
        size_t behind; /* the place of what is joined to the one before it */
        matrix.joined = i > 0;
        matrix.shape[0] = l.across[i];
        HA_TRY(ha_params_add(params, prefix, conv[i], &matrix, i == 0 ? &mixer->at[HA_SLOT_CONV] : &behind));
    }
    vector.shape[0] = l.normed;
    if (f->norm)
        HA_TRY(ha_params_add(params, prefix, "norm.weight", &vector, &mixer->at[HA_SLOT_NORM]));
    return HA_OK;
}

void ha_recurrent_init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    const ha_recurrent_layout l = ha_recurrent_layout_of(mixer);
    const ptrdiff_t d = mixer->config->hidden_size;
    if (mixer->own.heads)
        ha_own_heads_transfer(mixer, softmax, weights, rng);
    else
        ha_transfer_projections(mixer, softmax, l.kv_heads, weights);
    float *w = weights + mixer->at[HA_SLOT_QKV], deviation = 1.0f / sqrtf((float)d);
    for (ptrdiff_t i = l.mixed * d; i < l.width * d; i++)
        w[i] = deviation * ha_rng_normal(rng);
    for (int i = 0; i < l.n_parts; i++) {
        const int rank = l.rank[i];
        /* small, so that a gate starts near what its bias says; but silu near 0 would shut the output */
        const float size = i == 0 && l.has_gate && l.frame->output == HA_ACT_SILU ? 1.0f : 0.1f;
        for (size_t j = 0; rank && j < (size_t)l.size[i] * (size_t)rank; j++)
            weights[mixer->at[HA_SLOT_UP + i] + j] = size / sqrtf((float)rank) * ha_rng_normal(rng);
        if (l.frame->part[i].bias)
            memset(weights + mixer->at[HA_SLOT_BIAS + i], 0, (size_t)l.size[i] * sizeof *weights);
    }
    /* a norm gives every head the same size, which a gate starts by making smaller */
    const float size = l.frame->has_output_gate && !l.has_gate ? UNGATED : 1.0f;
    for (int i = 0; l.frame->norm && i < l.normed; i++)
        weights[mixer->at[HA_SLOT_NORM] + (size_t)i] = size;
    for (int i = 0; l.conv && i < l.mixed * l.conv; i++) /* the last tap alone: q, k and v as they come */
        weights[mixer->at[HA_SLOT_CONV] + (size_t)i] = (i + 1) % l.conv == 0;
    if (l.frame->init)
        l.frame->init(mixer, weights, rng);
}

static void project(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l, const float *x,
                    float *projected)
{
    const int rows = pass->batch->rows, d = mixer->config->hidden_size;
    ha_observe(pass, mixer->at[HA_SLOT_QKV], d, x);
    const ha_linear joined = ha_linear_of(d, l->width, ha_projection(mixer, pass, HA_SLOT_QKV), NULL);
    ha_linear_forward(&joined, rows, ha_rows_of(x, d), 0, ha_rows_to(projected, l->width));
    const float *bias = ha_weight(mixer, pass, HA_SLOT_QKV_BIAS);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++) {
        float *row = projected + (ptrdiff_t)r * l->width;
        if (bias)
            ha_kernels_get()->axpy((size_t)l->mixed, 1.0f, bias, row);
        for (int i = 0; i < l->n_parts; i++)
            if (l->frame->part[i].bias && !l->rank[i])
                ha_kernels_get()->axpy((size_t)l->size[i], 1.0f, ha_weight(mixer, pass, HA_SLOT_BIAS + i),
                                       row + l->column[i]);
    }
}

/* dx [rows, hidden] += the gradient of the projections' input unless NULL, and the gradients of
 * their weights; the bias [mixed] is that of q, k and v */
static void project_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l, const float *x,
                             const float *dprojected, float *dx)
{
    const int rows = pass->batch->rows, d = mixer->config->hidden_size;
    const ha_linear joined = ha_linear_of(d, l->width, ha_projection(mixer, pass, HA_SLOT_QKV), NULL);
    const ha_linear bias = ha_linear_of(0, l->mixed, ha_f32(NULL), NULL);
    const ha_linear_gradient gradient = {
        .x = ha_rows_to(dx, d), .accumulate = 1, .weight = ha_grad(mixer, pass, HA_SLOT_QKV)};
    const ha_linear_gradient of_bias = {.bias = ha_grad(mixer, pass, HA_SLOT_QKV_BIAS)};
    ha_linear_backward(&joined, rows, ha_rows_of(x, d), ha_rows_of(dprojected, l->width), &gradient);
    ha_linear_backward(&bias, rows, ha_rows_of(NULL, 0), ha_rows_of(dprojected, l->width), &of_bias);
}

static ha_recurrence_in recurrence_operands(const ha_recurrent_layout *l, const ha_recurrent_operands *x)
{
    return (ha_recurrence_in){x->queries,     x->written,    x->values, x->log_decay, x->beta,
                              x->erase_write, x->erase_read, l->inner,  l->kept,      l->kept};
}

typedef void (*row_pass)(int rows, int width, float *x);

static void mirror(int rows, int width, float *x)
{
    ha_mirror(rows, width, x, width, x);
}

static void fold(int rows, int width, float *x)
{
    ha_fold(rows, width, x, x, width);
}

/* Mirrors the operands of the recurrence, or folds their gradients, where it runs in both
 * directions. */
static void each_operand(const ha_recurrent_layout *l, int rows, const ha_recurrent_operands *x, row_pass pass)
{
    const struct {
        float *x;
        int width;
    } operand[] = {{x->queries, l->inner},    {l->slots ? x->keys : NULL, l->kept},
                   {x->values, l->kept},      {x->written, l->gated},
                   {x->erase_write, l->kept}, {x->erase_read, l->kept},
                   {x->beta, l->kv_heads},    {x->log_decay, l->frame->gate == HA_GATE_HEAD ? l->kv_heads : l->gated}};
    for (int i = 0; l->directions == 2 && i < 8; i++)
        if (operand[i].x)
            pass(rows, operand[i].width, operand[i].x);
}

/* The batch that the recurrence runs over. */
static ha_status directed(const ha_recurrent_layout *l, const ha_batch *batch, ha_arena *arena, ha_batch *run)
{
    *run = *batch;
    return l->directions == 2 ? ha_mirror_batch(batch, arena, run) : HA_OK;
}

ha_status ha_recurrent_run(const ha_recurrent_layout *l, const ha_batch *batch, const ha_recurrent_operands *in,
                           float *const *state, float *o, const ha_recurrence_saved *kept, ha_arena *arena)
{
    const ha_recurrence shape = shape_of(l);
    const ha_recurrence_in operands = recurrence_operands(l, in);
    if (l->slots)
        return ha_slots_forward(l, batch, in, state, o, kept->states, arena);
    return ha_recurrence_forward(&shape, batch, &operands, state, state, ha_rows_to(o, l->inner), kept, arena);
}

ha_status ha_recurrent_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                               float *saved, ha_state *state)
{
    const ha_batch *batch = pass->batch;
    const ha_recurrent_layout l = ha_recurrent_layout_of(mixer);
    const size_t mark = ha_arena_mark(pass->arena);
    const int keep = saved != NULL, trail = pass->trailing && state && state->slots;
    if (!saved)
        HA_PUSH(saved, pass->arena, arrays_in(&l, batch, 0, NULL).floats);
    const saved_arrays p = arrays_in(&l, batch, keep, saved);
    ha_recurrent_operands in;
    ha_batch both;
    float **states, **past, *y, *o = p.output;
    project(mixer, pass, &l, x, p.projected);
    HA_TRY(directed(&l, batch, pass->arena, &both));
    HA_PUSH(states, pass->arena, (size_t)both.n_seq);
    HA_PUSH(past, pass->arena, (size_t)batch->n_seq);
    for (int s = 0; s < both.n_seq; s++)
        states[s] = state ? state[s].data : NULL;
    HA_TRY(ha_recurrent_pasts(&l, pass, state, past));
    HA_TRY(ha_recurrent_operands_make(mixer, pass, &l, p.projected, past, &in));
    const ha_recurrence_saved kept = {p.reads, p.states};
    each_operand(&l, batch->rows, &in, mirror);
    if (l.directions == 2)
        HA_PUSH(o, pass->arena, (size_t)both.rows * (size_t)l.inner);
    if (trail)
        HA_TRY(ha_recurrent_run_trail(&l, batch, &in, p.projected, state, o, pass->arena));
    else
        HA_TRY(ha_recurrent_run(&l, &both, &in, states, o, &kept, pass->arena));
    if (l.directions == 2)
        ha_fold(batch->rows, l.inner, o, p.output, l.inner);
    HA_PUSH(y, pass->arena, (size_t)batch->rows * (size_t)l.inner);
    HA_TRY(ha_recurrent_output(mixer, pass, &l, p.output, &in, y));
    ha_project_out(mixer, pass, y, scale, out);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_recurrent_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                                const float *dout, float *dx, double *gate)
{
    const ha_batch *batch = pass->batch;
    const ha_recurrent_layout l = ha_recurrent_layout_of(mixer);
    const ha_recurrence shape = shape_of(&l);
    const int rows = batch->rows;
    const size_t mark = ha_arena_mark(pass->arena), wide = (size_t)rows * (size_t)l.inner;
    const saved_arrays p = arrays_in(&l, batch, 1, saved);
    ha_recurrent_operands in, d;
    ha_batch run;
    float *y, *dy, *d_o, *dprojected;
    HA_PUSH(y, pass->arena, wide);
    HA_PUSH(dy, pass->arena, wide);
    HA_TRY(ha_recurrent_operands_make(mixer, pass, &l, p.projected, NULL, &in));
    HA_TRY(ha_recurrent_output(mixer, pass, &l, p.output, &in, y));
    ha_project_out_backward(mixer, pass, y, scale, dout, dy, gate);
    if (scale != 0.0f) {
        HA_PUSH(d_o, pass->arena, wide * (size_t)l.directions);
        HA_PUSH(dprojected, pass->arena, (size_t)rows * (size_t)l.width);
        HA_TRY(ha_recurrent_operands_push(&l, rows, dprojected, pass->arena, &d));
        HA_TRY(ha_recurrent_output_backward(mixer, pass, &l, p.output, &in, dy, d_o, &d));
        HA_TRY(directed(&l, batch, pass->arena, &run));
        each_operand(&l, rows, &in, mirror);
        if (l.directions == 2)
            mirror(rows, l.inner, d_o);
        const ha_recurrence_in operands = recurrence_operands(&l, &in);
        const ha_recurrence_saved kept = {p.reads, p.states};
        const ha_recurrence_out gradients = {d.queries,     d.written,    d.values, d.log_decay, d.beta,
                                             d.erase_write, d.erase_read, l.inner,  l.kept,      l.kept};
        if (l.slots)
            HA_TRY(ha_slots_backward(&l, &run, &in, p.states, d_o, &d, pass->arena));
        else
            HA_TRY(ha_recurrence_backward(&shape, &run, &operands, &kept, ha_rows_of(d_o, l.inner), NULL, &gradients,
                                          pass->arena));
        each_operand(&l, rows, &d, fold);
        HA_TRY(ha_recurrent_operands_backward(mixer, pass, &l, p.projected, &in, &d, dprojected));
        project_backward(mixer, pass, &l, x, dprojected, dx);
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}
