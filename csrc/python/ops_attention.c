/* ops.softmax_attention: tiled softmax attention over grouped heads, with windows and sinks. */
#include "python/ops.h"

#include <math.h>
#include <string.h>

#include "ops/ops.h"

#define SIZE(letter) ha_size(&call, letter)

/* scale None: dim^-1/2 */
static ha_attention attention_of(ha_call *call, PyObject *scale, int causal, int window, int sinks)
{
    ha_attention a = {.heads = ha_size(call, 'H'),
                      .kv_heads = ha_size(call, 'K'),
                      .dim = ha_size(call, 'd'),
                      .causal = causal,
                      .window = window,
                      .sinks = sinks};
    ha_call_require(call, call->failed || a.heads % a.kv_heads == 0, "k has %d heads, allowed are divisors of q's %d",
                    a.kv_heads, a.heads);
    ha_call_require(call, window >= 0 && window <= 1 << 30, "window is %d, allowed are 0 (none) to 2^30", window);
    ha_call_require(call, sinks >= 0 && sinks <= 1 << 30, "sinks is %d, allowed are 0 to 2^30", sinks);
    double factor = scale == Py_None ? 1.0 / sqrt(a.dim ? a.dim : 1) : PyFloat_AsDouble(scale);
    if (factor == -1.0 && PyErr_Occurred())
        call->failed = 1;
    a.scale = (float)factor;
    return a;
}

static ha_status forward(const ha_attention *a, const ha_batch *batch, const int32_t *key_offset, const float *q,
                         const float *k, const float *v, float *out, float *lse, float *max, ha_arena *arena)
{
    ha_keys *keys;
    HA_PUSH(keys, arena, (size_t)batch->n_seq);
    const ptrdiff_t row = (ptrdiff_t)a->kv_heads * a->dim, wide = (ptrdiff_t)a->heads * a->dim;
    for (int s = 0; s < batch->n_seq; s++) {
        int length = key_offset[s + 1] - key_offset[s];
        keys[s] = (ha_keys){.k = k + key_offset[s] * row,
                            .v = v + key_offset[s] * row,
                            .row = row,
                            .head_stride = a->dim,
                            .length = length,
                            .past = length - (batch->offset[s + 1] - batch->offset[s])};
    }
    return ha_attention_forward(a, batch, q, wide, keys, out, wide, lse, max, arena);
}

static PyObject *softmax_attention(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q",      "k",      "v",     "lengths",      "key_lengths", "scale",
                            "causal", "window", "sinks", "return_stats", NULL};
    PyObject *q_arg, *k_arg, *v_arg, *lengths = Py_None, *key_lengths = Py_None, *scale = Py_None;
    int causal = 1, window = 0, sinks = 0, stats = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$OOOpiip:softmax_attention", names, &q_arg, &k_arg, &v_arg,
                                     &lengths, &key_lengths, &scale, &causal, &window, &sinks, &stats))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *q = ha_call_in(&call, q_arg, "q", "T H d", 0), *k = ha_call_in(&call, k_arg, "k", "L K d", 0);
    const float *v = ha_call_in(&call, v_arg, "v", "L K d", 0);
    const ha_attention a = attention_of(&call, scale, causal, window, sinks);
    ha_batch batch = {0}, keys = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    ha_call_batch(&call, key_lengths == Py_None ? lengths : key_lengths, "key_lengths", SIZE('L'), &keys);
    ha_call_require(&call, batch.n_seq == keys.n_seq, "key_lengths has %d entries, expected %d", keys.n_seq,
                    batch.n_seq);
    for (int s = 0; !call.failed && s < batch.n_seq; s++)
        ha_call_require(
            &call, keys.offset[s + 1] - keys.offset[s] >= batch.offset[s + 1] - batch.offset[s],
            "key_lengths[%d] is %d, allowed are lengths[%d] = %d or more: the queries are the last tokens of the keys",
            s, keys.offset[s + 1] - keys.offset[s], s, batch.offset[s + 1] - batch.offset[s]);
    float *out = ha_call_out(&call, "T H d");
    float *lse = stats ? ha_call_out(&call, "T H") : NULL, *max = stats ? ha_call_out(&call, "T H") : NULL;
    ha_status status = HA_OK;
    if (ha_call_run(&call))
        status = forward(&a, &batch, keys.offset, q, k, v, out, lse, max, call.arena);
    return ha_call_end(&call, status);
}

/* The backward pass takes q, k, v as columns of one matrix [rows, width], as a joined projection leaves them. */
typedef struct {
    float *data, *k, *v;
    ptrdiff_t width, q_columns, kv_columns;
} joined;

static ha_status join(const ha_attention *a, int rows, joined *j, ha_arena *arena)
{
    j->q_columns = (ptrdiff_t)a->heads * a->dim;
    j->kv_columns = (ptrdiff_t)a->kv_heads * a->dim;
    j->width = j->q_columns + 2 * j->kv_columns;
    HA_PUSH(j->data, arena, (size_t)rows * (size_t)j->width);
    j->k = j->data + j->q_columns;
    j->v = j->k + j->kv_columns;
    return HA_OK;
}

static void copy_columns(int rows, ptrdiff_t columns, const float *from, ptrdiff_t ld_from, float *to, ptrdiff_t ld_to)
{
    for (int r = 0; r < rows; r++)
        memcpy(to + r * ld_to, from + r * ld_from, (size_t)columns * sizeof *to);
}

static ha_status backward(const ha_attention *a, const ha_batch *batch, const float *q, const float *k, const float *v,
                          const float *dout, const float *dlse, const float *dmax, float *dq, float *dk, float *dv,
                          ha_arena *arena)
{
    const int rows = batch->rows;
    const size_t heads = (size_t)rows * (size_t)a->heads;
    joined x, dx;
    float *out, *lse, *max, *delta;
    HA_TRY(join(a, rows, &x, arena));
    HA_TRY(join(a, rows, &dx, arena));
    HA_PUSH(out, arena, heads * (size_t)a->dim);
    HA_PUSH(lse, arena, heads);
    HA_PUSH(max, arena, heads);
    HA_PUSH(delta, arena, heads);
    HA_TRY(forward(a, batch, batch->offset, q, k, v, out, lse, max, arena));
    ha_dot_per_head(rows, a->heads, a->dim, dout, x.q_columns, out, x.q_columns, delta);
    for (size_t i = 0; dlse && i < heads; i++)
        delta[i] -= dlse[i];
    copy_columns(rows, x.q_columns, q, x.q_columns, x.data, x.width);
    copy_columns(rows, x.kv_columns, k, x.kv_columns, x.k, x.width);
    copy_columns(rows, x.kv_columns, v, x.kv_columns, x.v, x.width);
    HA_TRY(ha_attention_backward(a, batch, batch->offset, x.data, x.width, x.k, x.v, x.width, lse, delta,
                                 dmax ? max : NULL, dmax, dout, x.q_columns, dx.data, dx.width, dx.k, dx.v, dx.width,
                                 arena));
    copy_columns(rows, x.q_columns, dx.data, x.width, dq, x.q_columns);
    copy_columns(rows, x.kv_columns, dx.k, x.width, dk, x.kv_columns);
    copy_columns(rows, x.kv_columns, dx.v, x.width, dv, x.kv_columns);
    return HA_OK;
}

static PyObject *softmax_attention_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q",       "k",     "v",      "dout",   "dlse",  "dmax",
                            "lengths", "scale", "causal", "window", "sinks", NULL};
    PyObject *q_arg, *k_arg, *v_arg, *dout_arg, *dlse_arg = Py_None, *dmax_arg = Py_None, *lengths = Py_None,
                                                *scale = Py_None;
    int causal = 1, window = 0, sinks = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|OO$OOpii:softmax_attention_vjp", names, &q_arg, &k_arg, &v_arg,
                                     &dout_arg, &dlse_arg, &dmax_arg, &lengths, &scale, &causal, &window, &sinks))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *q = ha_call_in(&call, q_arg, "q", "T H d", 0), *k = ha_call_in(&call, k_arg, "k", "T K d", 0);
    const float *v = ha_call_in(&call, v_arg, "v", "T K d", 0), *dout = ha_call_in(&call, dout_arg, "dout", "T H d", 0);
    const float *dlse = ha_call_in(&call, dlse_arg, "dlse", "T H", 1),
                *dmax = ha_call_in(&call, dmax_arg, "dmax", "T H", 1);
    const ha_attention a = attention_of(&call, scale, causal, window, sinks);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    float *dq = ha_call_out(&call, "T H d"), *dk = ha_call_out(&call, "T K d"), *dv = ha_call_out(&call, "T K d");
    ha_status status = HA_OK;
    if (ha_call_run(&call))
        status = backward(&a, &batch, q, k, v, dout, dlse, dmax, dq, dk, dv, call.arena);
    return ha_call_end(&call, status);
}

PyMethodDef ha_ops_attention[] = {
    HA_FUNCTION(
        softmax_attention,
        "softmax_attention(q, k, v, *, lengths=None, key_lengths=None, scale=None, causal=True, window=0, sinks=0, "
        "return_stats=False)\n--\n\n"
        "softmax(scale q k^T) v: q [T,H,d], k, v [L,KV,d] -> [T,H,d]; scale None is d^-1/2. Query i sees key j when j "
        "<= i\n"
        "(causal) and, with a window, when also |i - j| < window or j < sinks. A sequence with more keys than queries\n"
        "(key_lengths) continues one: its queries are the last tokens. return_stats adds the log-sum-exp and the "
        "largest\n"
        "logit, each [T,H]."),
    HA_FUNCTION(
        softmax_attention_vjp,
        "softmax_attention_vjp(q, k, v, dout, dlse=None, dmax=None, *, lengths=None, scale=None, causal=True, "
        "window=0, "
        "sinks=0)\n--\n\n"
        "dout [T,H,d], and dlse, dmax [T,H] of return_stats -> dq, dk, dv. Keys are those of the queries' own tokens."),
    {0},
};
