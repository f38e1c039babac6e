/* ops.linear_attention, in chunks, with states in and out. */
#include "python/ops.h"

#include <string.h>

#include "ops/ops.h"

#define SIZE(letter) ha_size(&call, letter)

typedef struct {
    const float *f, *e, *v;
} linear_inputs;

static linear_inputs linear_arguments(ha_call *call, PyObject *const *object, int lag)
{
    linear_inputs in;
    in.f = ha_call_in(call, object[0], "f", "T H F", 0);
    in.e = ha_call_in(call, object[1], "e", "T K F", 0);
    in.v = ha_call_in(call, object[2], "v", "T K d", 0);
    ha_call_require(call, call->failed || ha_size(call, 'H') % ha_size(call, 'K') == 0,
                    "e has %d heads, allowed are divisors of f's %d", ha_size(call, 'K'), ha_size(call, 'H'));
    ha_call_require(call, lag >= 0 && lag <= 1 << 30, "lag is %d, allowed are 0 to 2^30", lag);
    return in;
}

static ha_linear_attention linear_shape(const ha_call *call, int lag, int causal)
{
    return (ha_linear_attention){.heads = ha_size(call, 'H'),
                                 .kv_heads = ha_size(call, 'K'),
                                 .features = ha_size(call, 'F'),
                                 .dim = ha_size(call, 'd'),
                                 .lag = lag,
                                 .bidirectional = !causal};
}

static size_t linear_state(const ha_linear_attention *a)
{
    return (size_t)a->kv_heads * (size_t)a->features * (size_t)(a->dim + 1);
}

static ha_status linear_forward(const ha_linear_attention *a, const ha_batch *batch, const linear_inputs *in,
                                float *state, float *num, float *den, float *states, ha_arena *arena)
{
    const float **e, **v;
    float **pointers;
    const ptrdiff_t lde = (ptrdiff_t)a->kv_heads * a->features, ldv = (ptrdiff_t)a->kv_heads * a->dim;
    HA_PUSH(e, arena, (size_t)batch->n_seq);
    HA_PUSH(v, arena, (size_t)batch->n_seq);
    for (int s = 0; s < batch->n_seq; s++) {
        e[s] = in->e + batch->offset[s] * lde;
        v[s] = in->v + batch->offset[s] * ldv;
    }
    HA_TRY(ha_by_sequence(batch->n_seq, linear_state(a), state, &pointers, arena));
    return ha_linear_attention_forward(a, batch, in->f, (ptrdiff_t)a->heads * a->features, e, lde, v, ldv, pointers,
                                       num, (ptrdiff_t)a->heads * a->dim, den, states, arena);
}

static PyObject *linear_attention(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"f", "e", "v", "lag", "causal", "lengths", "initial_state", "return_state", NULL};
    PyObject *object[3], *lengths = Py_None, *initial_arg = Py_None;
    int lag = 0, causal = 1, return_state = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$ipOOp:linear_attention", names, &object[0], &object[1],
                                     &object[2], &lag, &causal, &lengths, &initial_arg, &return_state))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const linear_inputs in = linear_arguments(&call, object, lag);
    ha_call_require(&call, lag == 0 || (initial_arg == Py_None && !return_state),
                    "lag is %d, allowed with a state is 0", lag);
    ha_call_require(&call, causal || (initial_arg == Py_None && !return_state),
                    "causal is False, allowed with a state is True");
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    ha_call_state_size(&call, (int64_t)SIZE('F') * (SIZE('d') + 1));
    const float *initial = ha_call_in(&call, initial_arg, "initial_state", "S K P", 1);
    float *num = ha_call_out(&call, "T H d"), *den = ha_call_out(&call, "T H"),
          *state = return_state ? ha_call_out(&call, "S K P") : NULL;
    const ha_linear_attention a = linear_shape(&call, lag, causal);
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        size_t floats = (size_t)batch.n_seq * linear_state(&a);
        if (initial && !state && !(state = ha_arena_push(call.arena, floats, sizeof *state)))
            status = HA_NO_MEMORY;
        if (status == HA_OK && initial)
            memcpy(state, initial, floats * sizeof *state);
        if (status == HA_OK)
            status = linear_forward(&a, &batch, &in, state, num, den, NULL, call.arena);
    }
    return ha_call_end(&call, status);
}

static PyObject *linear_attention_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"f", "e", "v", "dnum", "dden", "lag", "causal", "lengths", NULL};
    PyObject *object[3], *dnum_arg, *dden_arg, *lengths = Py_None;
    int lag = 0, causal = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOO|$ipO:linear_attention_vjp", names, &object[0], &object[1],
                                     &object[2], &dnum_arg, &dden_arg, &lag, &causal, &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const linear_inputs in = linear_arguments(&call, object, lag);
    const float *dnum = ha_call_in(&call, dnum_arg, "dnum", "T H d", 0),
                *dden = ha_call_in(&call, dden_arg, "dden", "T H", 0);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    float *df = ha_call_out(&call, "T H F"), *de = ha_call_out(&call, "T K F"), *dv = ha_call_out(&call, "T K d");
    const ha_linear_attention a = linear_shape(&call, lag, causal);
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        const ptrdiff_t ldf = (ptrdiff_t)a.heads * a.features, lde = (ptrdiff_t)a.kv_heads * a.features;
        const ptrdiff_t ldn = (ptrdiff_t)a.heads * a.dim, ldv = (ptrdiff_t)a.kv_heads * a.dim;
        const size_t rows = (size_t)batch.rows;
        float *num = ha_arena_push(call.arena, rows * (size_t)ldn, sizeof *num);
        float *den = ha_arena_push(call.arena, rows * (size_t)a.heads, sizeof *den);
        float *states = ha_arena_push(call.arena, ha_linear_attention_states(&a, &batch), sizeof *states);
        status =
            num && den && states ? linear_forward(&a, &batch, &in, NULL, num, den, states, call.arena) : HA_NO_MEMORY;
        if (status == HA_OK)
            status = ha_linear_attention_backward(&a, &batch, in.f, ldf, in.e, lde, in.v, ldv, states, dnum, ldn, dden,
                                                  df, ldf, de, lde, dv, ldv, call.arena);
    }
    return ha_call_end(&call, status);
}

PyMethodDef ha_ops_linear_attention[] = {
    HA_FUNCTION(
        linear_attention,
        "linear_attention(f, e, v, *, lag=0, causal=True, lengths=None, initial_state=None, return_state=False)\n--\n\n"
        "num_i = sum_j (f_i . e_j) v_j and den_i = sum_j f_i . e_j over the keys j <= i - lag, or, not causal, |i - j| "
        ">= lag: f [T,H,F], e [T,KV,F],\n"
        "v [T,KV,d] -> num [T,H,d], den [T,H]. A state [sequences,KV,F*(d+1)] is the sum of e_j v_j^T [F,d], then of "
        "e_j [F]."),
    HA_FUNCTION(linear_attention_vjp,
                "linear_attention_vjp(f, e, v, dnum, dden, *, lag=0, causal=True, lengths=None)\n--\n\ndnum "
                "[T,H,d], dden [T,H] -> df, de, dv."),
    {0},
};
