/* Decoding with a Python mixer: its step function takes one token of several sequences at a
 * time. */
#include "python/external_step.h"

#include "python/external_call.h"

/* The sequences that have a token at one place: their numbers [count] and the rows [count] of those
 * tokens. */
typedef struct {
    int count;
    int *sequence, *row;
} step_turn;

/* What step takes and gives, by shape. */
typedef struct {
    npy_intp rows[2];                /* x and y [count, hidden] */
    npy_intp state[HA_MAX_DIMS + 1]; /* [count, ...] */
    int state_dims;
    size_t state_floats; /* of one sequence */
} step_shapes;

/* The shapes for that many sequences; the call has failed when the mixer cannot decode. */
static step_shapes shapes_of(ha_callback *call, const ha_mixer *mixer, int count)
{
    step_shapes found = {.rows = {count, mixer->config->hidden_size}, .state = {count}};
    PyObject *facts = ha_external_declared(call->kind, mixer->config);
    PyObject *shape = facts ? PyTuple_GET_ITEM(facts, 1) : NULL;
    if (facts && (shape == Py_None || call->kind->step == Py_None)) {
        PyErr_Format(PyExc_NotImplementedError, "mixer %s was registered without step and state: it cannot decode",
                     call->kind->name);
        facts = NULL;
    }
    call->failed |= !facts;
    if (!call->failed) {
        found.state_dims = 1 + ha_shape_array(shape, found.state + 1);
        found.state_floats = ha_shape_floats(shape);
    }
    return found;
}

/* step(params, states, x) -> pair, on copies of the states and rows of a turn. x [rows,hidden],
 * state [n_seq] */
static void call_step(ha_callback *call, const ha_mixer *mixer, const float *weights, const step_turn *turn,
                      const step_shapes *shapes, const float *x, const ha_state *state, PyObject *pair[2])
{
    const npy_intp hidden = shapes->rows[1];
    PyObject *states = PyArray_SimpleNew(shapes->state_dims, shapes->state, NPY_FLOAT32);
    PyObject *rows = PyArray_SimpleNew(2, shapes->rows, NPY_FLOAT32);
    PyObject *params = ha_callback_params(call, mixer, weights);
    call->failed |= !states || !rows;
    for (int i = 0; !call->failed && i < turn->count; i++) {
        memcpy((float *)PyArray_DATA((PyArrayObject *)states) + (size_t)i * shapes->state_floats,
               state[turn->sequence[i]].data, shapes->state_floats * sizeof(float));
        memcpy((float *)PyArray_DATA((PyArrayObject *)rows) + i * hidden, x + turn->row[i] * hidden,
               (size_t)hidden * sizeof(float));
    }
    if (!call->failed)
        ha_callback_pair(call, "step", call->kind->step, PyTuple_Pack(3, params, states, rows), pair);
    Py_XDECREF(states);
    Py_XDECREF(rows);
    Py_XDECREF(params);
}

/* One token of the sequences of a turn: out [rows,hidden] += scale * y, and the states move on, or
 * nothing changes. */
static ha_status step(const ha_mixer *mixer, const ha_pass *pass, const step_turn *turn, const float *x, float scale,
                      float *out, ha_state *state)
{
    ha_callback call = ha_callback_begin(mixer);
    const step_shapes shapes = shapes_of(&call, mixer, turn->count);
    const npy_intp hidden = shapes.rows[1];
    const size_t y_floats = (size_t)turn->count * (size_t)hidden,
                 next_floats = (size_t)turn->count * shapes.state_floats;
    const size_t mark = ha_arena_mark(pass->arena);
    float *y = ha_arena_push(pass->arena, y_floats, sizeof *y);
    float *next = ha_arena_push(pass->arena, next_floats, sizeof *next);
    PyObject *pair[2] = {NULL, NULL};
    if (!call.failed)
        call_step(&call, mixer, pass->weights, turn, &shapes, x, state, pair);
    if (y && next && !call.failed) {
        memset(y, 0, y_floats * sizeof *y);
        memset(next, 0, next_floats * sizeof *next);
        ha_callback_add(&call, "y of step", pair[0], 2, shapes.rows, scale, y);
        ha_callback_add(&call, "state of step", pair[1], shapes.state_dims, shapes.state, 1.0f, next);
    }
    for (int i = 0; y && next && !call.failed && i < turn->count; i++) {
        for (npy_intp c = 0; c < hidden; c++)
            out[turn->row[i] * hidden + c] += y[i * hidden + c];
        memcpy(state[turn->sequence[i]].data, next + (size_t)i * shapes.state_floats,
               shapes.state_floats * sizeof *next);
    }
    Py_XDECREF(pair[0]);
    Py_XDECREF(pair[1]);
    const ha_status status = ha_callback_end(&call);
    ha_arena_release(pass->arena, mark);
    return y && next ? status : HA_NO_MEMORY;
}

/* Token by token, the sequences side by side. */
ha_status ha_external_continue(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                               ha_state *state)
{
    const ha_batch *batch = pass->batch;
    const size_t mark = ha_arena_mark(pass->arena);
    step_turn turn = {.count = 1};
    HA_PUSH(turn.sequence, pass->arena, (size_t)batch->n_seq);
    HA_PUSH(turn.row, pass->arena, (size_t)batch->n_seq);
    for (int t = 0; turn.count > 0; t++) {
        turn.count = 0;
        for (int s = 0; s < batch->n_seq; s++)
            if (batch->offset[s] + t < batch->offset[s + 1]) {
                turn.row[turn.count] = batch->offset[s] + t;
                turn.sequence[turn.count++] = s;
            }
        if (turn.count > 0)
            HA_TRY(step(mixer, pass, &turn, x, scale, out, state));
        if (ha_interrupted(pass->check))
            return HA_INTERRUPTED;
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}
