/* ops that treat every row (token) on its own: linear, stored_linear, rope, swiglu, embed, feature_map. */
#include "python/ops.h"
#include "python/dtype_arg.h"

#include <limits.h>
#include <string.h>

#include "ops/ops.h"

#define SIZE(letter) ha_size(&call, letter)

static PyObject *linear(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "bias", NULL};
    PyObject *x_arg, *w_arg, *b_arg = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:linear", names, &x_arg, &w_arg, &b_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T I", 0), *w = ha_call_in(&call, w_arg, "weight", "O I", 0);
    const float *bias = ha_call_in(&call, b_arg, "bias", "O", 1);
    float *y = ha_call_out(&call, "T O");
    if (ha_call_run(&call))
        ha_linear_forward(SIZE('T'), SIZE('I'), SIZE('O'), 1.0f, x, SIZE('I'), ha_f32(w), bias, 0.0f, y, SIZE('O'));
    return ha_call_end(&call, HA_OK);
}

static PyObject *linear_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "dy", "bias", NULL};
    PyObject *x_arg, *w_arg, *dy_arg, *b_arg = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O:linear_vjp", names, &x_arg, &w_arg, &dy_arg, &b_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T I", 0), *w = ha_call_in(&call, w_arg, "weight", "O I", 0);
    const float *bias = ha_call_in(&call, b_arg, "bias", "O", 1), *dy = ha_call_in(&call, dy_arg, "dy", "T O", 0);
    float *dx = ha_call_out(&call, "T I"), *dw = ha_call_out(&call, "O I"),
          *dbias = bias ? ha_call_out(&call, "O") : NULL;
    if (!bias)
        ha_call_out_none(&call);
    if (ha_call_run(&call))
        ha_linear_backward(SIZE('T'), SIZE('I'), SIZE('O'), 1.0f, x, SIZE('I'), ha_f32(w), dy, SIZE('O'), 0.0f, dx,
                           SIZE('I'), dw, dbias);
    return ha_call_end(&call, HA_OK);
}

/* weight [O,I] as it comes back from a storage type, on the call's arena; NULL when that is full */
static const void *packed_weight(ha_call *call, ha_dtype dtype, const float *w)
{
    const size_t n = (size_t)ha_size(call, 'O') * (size_t)ha_size(call, 'I');
    void *packed = ha_arena_push(call->arena, ha_dtype_bytes(dtype, n), 1);
    if (packed)
        ha_from_f32(dtype, w, packed, n);
    return packed;
}

static PyObject *stored(PyObject *args, PyObject *kwargs, int vjp)
{
    static char *names[2][6] = {{"x", "weight", "bias", "dtype", NULL}, {"x", "weight", "dy", "bias", "dtype", NULL}};
    PyObject *x_arg, *w_arg, *dy_arg = NULL, *b_arg = NULL;
    const char *name = "q8_0";
    ha_dtype dtype;
    int ok = vjp ? PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O$s:stored_linear_vjp", names[1], &x_arg, &w_arg,
                                               &dy_arg, &b_arg, &name)
                 : PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O$s:stored_linear", names[0], &x_arg, &w_arg, &b_arg,
                                               &name);
    if (!ok || ha_dtype_parse(name, HA_DTYPE_COUNT, &dtype) < 0)
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T I", 0), *w = ha_call_in(&call, w_arg, "weight", "O I", 0);
    const float *bias = ha_call_in(&call, b_arg, "bias", "O", 1);
    const float *dy = vjp ? ha_call_in(&call, dy_arg, "dy", "T O", 0) : NULL;
    ha_call_require(&call, (size_t)SIZE('I') % ha_dtype_block(dtype) == 0,
                    "weight has rows of %d, allowed for %s are multiples of %d", SIZE('I'), name,
                    (int)ha_dtype_block(dtype));
    float *y = ha_call_out(&call, vjp ? "T I" : "T O"), *dbias = vjp && bias ? ha_call_out(&call, "O") : NULL;
    if (vjp && !bias)
        ha_call_out_none(&call);
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        const int rows = SIZE('T'), in = SIZE('I'), out = SIZE('O');
        const ha_matrix m = {dtype, packed_weight(&call, dtype, w), out, NULL};
        if (!m.data)
            status = HA_NO_MEMORY;
        else if (vjp)
            ha_linear_backward(rows, in, out, 1.0f, x, in, m, dy, out, 0.0f, y, in, NULL, dbias);
        else
            ha_linear_forward(rows, in, out, 1.0f, x, in, m, bias, 0.0f, y, out);
    }
    return ha_call_end(&call, status);
}

static PyObject *stored_linear(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return stored(args, kwargs, 0);
}

static PyObject *stored_linear_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return stored(args, kwargs, 1);
}

/* rope and rope_vjp differ in the sign of the angle and in which array they turn. */
static PyObject *rotate(PyObject *args, PyObject *kwargs, int vjp)
{
    static char *forward_names[] = {"x", "inv_freq", "positions", "lengths", "factor", NULL};
    static char *vjp_names[] = {"x", "inv_freq", "dy", "positions", "lengths", "factor", NULL};
    PyObject *x_arg, *freq_arg, *dy_arg = NULL, *positions = Py_None, *lengths = Py_None;
    double factor = 1.0;
    int ok = vjp ? PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$OOd:rope_vjp", vjp_names, &x_arg, &freq_arg, &dy_arg,
                                               &positions, &lengths, &factor)
                 : PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOd:rope", forward_names, &x_arg, &freq_arg,
                                               &positions, &lengths, &factor);
    if (!ok)
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T H D", 0), *freq = ha_call_in(&call, freq_arg, "inv_freq", "h", 0);
    if (vjp)
        x = ha_call_in(&call, dy_arg, "dy", "T H D", 0);
    ha_batch batch = {0};
    ha_call_require(&call, 2 * SIZE('h') <= SIZE('D'),
                    "inv_freq has length %d, allowed are up to half of x's last axis", SIZE('h'));
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    if (positions != Py_None)
        batch.position = ha_call_in_int(&call, positions, "positions", "T", 0, INT_MAX);
    float *y = ha_call_out(&call, "T H D");
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        const int rows = SIZE('T'), heads = SIZE('H'), dim = SIZE('D'), half = SIZE('h');
        size_t angles = (size_t)rows * (size_t)half;
        float *table = ha_arena_push(call.arena, 2 * angles, sizeof *table);
        if (table) {
            memcpy(y, x, (size_t)rows * (size_t)(heads * dim) * sizeof *y);
            ha_rope_table(rows, half, batch.position, freq, (float)factor, table, table + angles);
            ha_rope(rows, heads, dim, half, table, table + angles, vjp ? -1.0f : 1.0f, y, (ptrdiff_t)heads * dim);
        } else {
            status = HA_NO_MEMORY;
        }
    }
    return ha_call_end(&call, status);
}

static PyObject *rope(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return rotate(args, kwargs, 0);
}

static PyObject *rope_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return rotate(args, kwargs, 1);
}

static PyObject *swiglu(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"gate_up", NULL};
    PyObject *x_arg;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:swiglu", names, &x_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "gate_up", "T 2f", 0);
    float *y = ha_call_out(&call, "T f");
    if (ha_call_run(&call))
        ha_swiglu_forward(SIZE('T'), SIZE('f'), x, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *swiglu_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"gate_up", "dy", NULL};
    PyObject *x_arg, *dy_arg;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:swiglu_vjp", names, &x_arg, &dy_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "gate_up", "T 2f", 0), *dy = ha_call_in(&call, dy_arg, "dy", "T f", 0);
    float *dx = ha_call_out(&call, "T 2f");
    if (ha_call_run(&call)) {
        memcpy(dx, x, (size_t)SIZE('T') * 2 * (size_t)SIZE('f') * sizeof *x);
        ha_swiglu_backward(SIZE('T'), SIZE('f'), dx, dy, NULL);
    }
    return ha_call_end(&call, HA_OK);
}

static PyObject *embed(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "table", NULL};
    PyObject *token_arg, *table_arg;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:embed", names, &token_arg, &table_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *table = ha_call_in(&call, table_arg, "table", "V d", 0);
    const int32_t *token = ha_call_in_int(&call, token_arg, "tokens", "T", 0, SIZE('V'));
    float *x = ha_call_out(&call, "T d");
    if (ha_call_run(&call))
        ha_embed_forward(SIZE('T'), SIZE('d'), token, ha_f32(table), x);
    return ha_call_end(&call, HA_OK);
}

static PyObject *embed_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "table", "dx", NULL};
    PyObject *token_arg, *table_arg, *dx_arg;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:embed_vjp", names, &token_arg, &table_arg, &dx_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    ha_call_in(&call, table_arg, "table", "V d", 0);
    const int32_t *token = ha_call_in_int(&call, token_arg, "tokens", "T", 0, SIZE('V'));
    const float *dx = ha_call_in(&call, dx_arg, "dx", "T d", 0);
    float *dtable = ha_call_out(&call, "V d");
    if (ha_call_run(&call))
        ha_embed_backward(SIZE('T'), SIZE('d'), token, dx, dtable);
    return ha_call_end(&call, HA_OK);
}

static PyObject *feature_map(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "map", NULL};
    PyObject *x_arg, *w_arg = Py_None;
    const char *name = "hedgehog";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$s:feature_map", names, &x_arg, &w_arg, &name))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const void *x, *w;
    const ha_feature map = (ha_feature)ha_call_feature(&call, name, x_arg, w_arg, &x, &w);
    float *y = ha_call_out(&call, "T H F");
    ha_status status = HA_OK;
    const int heads = SIZE('H'), d = SIZE('d');
    if (ha_call_run(&call))
        status = ha_feature_forward(map, SIZE('T'), heads, d, x, heads * d, w, y, heads * SIZE('F'), call.arena);
    return ha_call_end(&call, status);
}

static PyObject *feature_map_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "dy", "weight", "map", NULL};
    PyObject *x_arg, *dy_arg, *w_arg = Py_None;
    const char *name = "hedgehog";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O$s:feature_map_vjp", names, &x_arg, &dy_arg, &w_arg, &name))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const void *x, *w;
    const ha_feature map = (ha_feature)ha_call_feature(&call, name, x_arg, w_arg, &x, &w);
    const float *dy = ha_call_in(&call, dy_arg, "dy", "T H F", 0);
    float *dx = ha_call_out(&call, "T H d"), *dw = NULL;
    if (w)
        dw = ha_call_out(&call, "H d d");
    else
        ha_call_out_none(&call);
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        const int rows = SIZE('T'), heads = SIZE('H'), d = SIZE('d'), ld = heads * d, ldy = heads * SIZE('F');
        float *y = ha_arena_push(call.arena, (size_t)rows * (size_t)ldy, sizeof *y);
        status = y ? ha_feature_forward(map, rows, heads, d, x, ld, w, y, ldy, call.arena) : HA_NO_MEMORY;
        if (status == HA_OK)
            status = ha_feature_backward(map, rows, heads, d, x, ld, w, y, ldy, dy, ldy, dx, ld, dw, call.arena);
    }
    return ha_call_end(&call, status);
}

PyMethodDef ha_ops_rows[] = {
    HA_FUNCTION(linear,
                "linear(x, weight, bias=None)\n--\n\nx W^T + bias: x [T,in], weight [out,in], bias [out] -> [T,out]."),
    HA_FUNCTION(linear_vjp,
                "linear_vjp(x, weight, dy, bias=None)\n--\n\ndy [T,out] -> dx, dweight, dbias (None without bias)."),
    HA_FUNCTION(stored_linear,
                "stored_linear(x, weight, bias=None, *, dtype='q8_0')\n--\n\nlinear with the weight kept in a storage "
                "type, see pack."),
    HA_FUNCTION(stored_linear_vjp, "stored_linear_vjp(x, weight, dy, bias=None, *, dtype='q8_0')\n--\n\ndy [T,out] -> "
                                   "dx, dbias (None without bias); the weight is constant."),
    HA_FUNCTION(
        rope,
        "rope(x, inv_freq, *, positions=None, lengths=None, factor=1.0)\n--\n\n"
        "Rotates pairs (i, i + d/2) of x [T,H,d] by position * inv_freq[i], inv_freq [d/2], and scales with factor.\n"
        "positions [T]; default: from 0 in every sequence."),
    HA_FUNCTION(rope_vjp,
                "rope_vjp(x, inv_freq, dy, *, positions=None, lengths=None, factor=1.0)\n--\n\ndy [T,H,d] -> dx."),
    HA_FUNCTION(swiglu, "swiglu(gate_up)\n--\n\nsilu(gate) * up: gate_up [T,2f] = [gate, up] -> [T,f]."),
    HA_FUNCTION(swiglu_vjp, "swiglu_vjp(gate_up, dy)\n--\n\ndy [T,f] -> dgate_up [T,2f]."),
    HA_FUNCTION(embed, "embed(tokens, table)\n--\n\ntable[tokens]: tokens [T] ints, table [V,d] -> [T,d]."),
    HA_FUNCTION(embed_vjp, "embed_vjp(tokens, table, dx)\n--\n\ndx [T,d] -> dtable [V,d]."),
    HA_FUNCTION(feature_map,
                "feature_map(x, weight=None, *, map='hedgehog')\n--\n\n"
                "Feature map of linear attention, per head: x [T,H,d], weight W [H,d,d] -> [T,H,d] or [T,H,2d].\n"
                "elu: elu(x) + 1 (Katharopoulos et al. 2020); relu: max(x, 0); both without a weight.\n"
                "hedgehog: softmax([W x, -W x]) (Zhang et al. 2024); favor: exp([W x, -W x] - |x|^2 / (2 sqrt(d)))\n"
                "(Choromanski et al. 2021), exponents at most 30."),
    HA_FUNCTION(feature_map_vjp,
                "feature_map_vjp(x, dy, weight=None, *, map='hedgehog')\n--\n\ndy [T,H,F] -> dx, dweight or None."),
    {0},
};
