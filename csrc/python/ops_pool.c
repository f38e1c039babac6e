/* ops.pool: the projection along the sequence. */
#include "python/ops.h"

#include "ops/ops.h"

#define SIZE(letter) ha_size(&call, letter)

/* The batch, and 'P', the slots that its sequences fill. */
static ha_pool pool_of(ha_call *call, PyObject *lengths, ha_batch *batch)
{
    const ha_pool pool = {ha_size(call, 'n'), ha_size(call, 'N')};
    int64_t slots = 0;
    ha_call_batch(call, lengths, "lengths", ha_size(call, 'T'), batch);
    ha_call_require(call, call->failed || pool.slots <= pool.length,
                    "weight has %d slots, allowed are 1 to its length, %d", pool.slots, pool.length);
    for (int s = 0; !call->failed && s < batch->n_seq; s++) {
        const int rows = batch->offset[s + 1] - batch->offset[s];
        ha_call_require(call, rows <= pool.length, "lengths[%d] is %d, allowed are 1 to weight's %d", s, rows,
                        pool.length);
        slots += ha_pool_slots(&pool, rows);
    }
    ha_call_state_size(call, slots);
    return pool;
}

static PyObject *pool(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "lengths", NULL};
    PyObject *x_arg, *w_arg, *lengths = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$O:pool", names, &x_arg, &w_arg, &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T d", 0), *w = ha_call_in(&call, w_arg, "weight", "n N", 0);
    ha_batch batch = {0};
    const ha_pool p = pool_of(&call, lengths, &batch);
    float *y = ha_call_out(&call, "P d");
    ha_status status = HA_OK;
    if (ha_call_run(&call))
        status = ha_pool_forward(&p, &batch, SIZE('d'), x, SIZE('d'), w, y, call.arena);
    return ha_call_end(&call, status);
}

static PyObject *pool_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "dy", "lengths", NULL};
    PyObject *x_arg, *w_arg, *dy_arg, *lengths = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$O:pool_vjp", names, &x_arg, &w_arg, &dy_arg, &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T d", 0), *w = ha_call_in(&call, w_arg, "weight", "n N", 0);
    ha_batch batch = {0};
    const ha_pool p = pool_of(&call, lengths, &batch);
    const float *dy = ha_call_in(&call, dy_arg, "dy", "P d", 0);
    float *dx = ha_call_out(&call, "T d"), *dw = ha_call_out(&call, "n N");
    const int d = SIZE('d');
    ha_status status = HA_OK;
    if (ha_call_run(&call))
        status = ha_pool_backward(&p, &batch, d, x, d, w, dy, dx, d, dw, call.arena);
    return ha_call_end(&call, status);
}

PyMethodDef ha_ops_pool[] = {
    HA_FUNCTION(pool,
                "pool(x, weight, *, lengths=None)\n--\n\n"
                "Linformer's projection along the sequence (Wang et al. 2020): weighted sums of the rows of each "
                "sequence, x [T,d],\nweight [n,N] for n slots and sequences of up to N rows. A sequence of t rows "
                "fills the slots s with s N // n < t,\nthe last of them scaled up by the part of its stretch "
                "s N // n .. (s + 1) N // n that is missing -> [slots of all sequences,d]."),
    HA_FUNCTION(pool_vjp, "pool_vjp(x, weight, dy, *, lengths=None)\n--\n\ndy [slots,d] -> dx, dweight."),
    {0},
};
