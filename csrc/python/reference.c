/* hybridattn._core.reference: the naive twins of ops in float64, forward only. For tests. */
#include "python/reference.h"

#include "python/dtype_arg.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#define SIZE(letter) ha_size(&call, letter)

static PyObject *linear(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "bias", NULL};
    PyObject *x_arg, *w_arg, *b_arg = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:linear", names, &x_arg, &w_arg, &b_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "x", "T I", 0), *w = ha_call_in(&call, w_arg, "weight", "O I", 0);
    const double *bias = ha_call_in(&call, b_arg, "bias", "O", 1);
    double *y = ha_call_out(&call, "T O");
    if (ha_call_run(&call))
        ref_linear(SIZE('T'), SIZE('I'), SIZE('O'), x, w, bias, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *stored_linear(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "bias", "dtype", NULL};
    PyObject *x_arg, *w_arg, *b_arg = NULL;
    const char *name = "q8_0";
    ha_dtype dtype;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O$s:stored_linear", names, &x_arg, &w_arg, &b_arg, &name) ||
        ha_dtype_parse(name, HA_DTYPE_COUNT, &dtype) < 0)
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "x", "T I", 0), *w = ha_call_in(&call, w_arg, "weight", "O I", 0);
    const double *bias = ha_call_in(&call, b_arg, "bias", "O", 1);
    ha_call_require(&call, (size_t)SIZE('I') % ha_dtype_block(dtype) == 0, "weight has rows of %d", SIZE('I'));
    double *y = ha_call_out(&call, "T O"), *kept = ha_call_out(&call, "O I");
    ha_call_drop(&call);
    if (ha_call_run(&call)) {
        ref_stored(dtype, (size_t)SIZE('O') * (size_t)SIZE('I'), w, kept);
        ref_linear(SIZE('T'), SIZE('I'), SIZE('O'), x, kept, bias, y);
    }
    return ha_call_end(&call, HA_OK);
}

static PyObject *rms_norm(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "eps", NULL};
    PyObject *x_arg, *w_arg;
    double eps = 1e-6;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$d:rms_norm", names, &x_arg, &w_arg, &eps))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "x", "T d", 0), *w = ha_call_in(&call, w_arg, "weight", "d", 0);
    double *y = ha_call_out(&call, "T d");
    if (ha_call_run(&call))
        ref_rms_norm(SIZE('T'), SIZE('d'), x, w, eps, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *layer_norm(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "bias", "eps", NULL};
    PyObject *x_arg, *w_arg, *b_arg;
    double eps = 1e-5;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$d:layer_norm", names, &x_arg, &w_arg, &b_arg, &eps))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "x", "T d", 0), *w = ha_call_in(&call, w_arg, "weight", "d", 0),
                 *b = ha_call_in(&call, b_arg, "bias", "d", 0);
    double *y = ha_call_out(&call, "T d");
    if (ha_call_run(&call))
        ref_layer_norm(SIZE('T'), SIZE('d'), x, w, b, eps, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *head_norm(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "eps", NULL};
    PyObject *x_arg, *w_arg;
    double eps = 1e-6;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$d:head_norm", names, &x_arg, &w_arg, &eps))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "x", "T H d", 0), *w = ha_call_in(&call, w_arg, "weight", "d", 0);
    double *y = ha_call_out(&call, "T H d");
    if (ha_call_run(&call))
        ref_rms_norm(SIZE('T') * SIZE('H'), SIZE('d'), x, w, eps, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *activation(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "kind", NULL};
    PyObject *x_arg;
    const char *name = "gelu";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$s:activation", names, &x_arg, &name))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "x", "T f", 0);
    const ha_act kind = ha_call_act(&call, name);
    double *y = ha_call_out(&call, "T f");
    if (ha_call_run(&call))
        ref_activation(kind, (size_t)SIZE('T') * (size_t)SIZE('f'), x, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *rope(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "inv_freq", "positions", "lengths", "factor", NULL};
    PyObject *x_arg, *freq_arg, *positions = Py_None, *lengths = Py_None;
    double factor = 1.0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOd:rope", names, &x_arg, &freq_arg, &positions, &lengths,
                                     &factor))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "x", "T H D", 0),
                 *freq = ha_call_in(&call, freq_arg, "inv_freq", "h", 0);
    ha_batch batch = {0};
    ha_call_require(&call, 2 * SIZE('h') <= SIZE('D'),
                    "inv_freq has length %d, allowed are up to half of x's last axis", SIZE('h'));
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    if (positions != Py_None)
        batch.position = ha_call_in_int(&call, positions, "positions", "T", 0, INT_MAX);
    double *y = ha_call_out(&call, "T H D");
    if (ha_call_run(&call))
        ref_rope(SIZE('T'), SIZE('H'), SIZE('D'), SIZE('h'), batch.position, freq, factor, x, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *swiglu(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"gate_up", NULL};
    PyObject *x_arg;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:swiglu", names, &x_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "gate_up", "T 2f", 0);
    double *y = ha_call_out(&call, "T f");
    if (ha_call_run(&call))
        ref_swiglu(SIZE('T'), SIZE('f'), x, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *embed(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "table", NULL};
    PyObject *token_arg, *table_arg;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:embed", names, &token_arg, &table_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *table = ha_call_in(&call, table_arg, "table", "V d", 0);
    const int32_t *token = ha_call_in_int(&call, token_arg, "tokens", "T", 0, SIZE('V'));
    double *x = ha_call_out(&call, "T d");
    if (ha_call_run(&call))
        ref_embed(SIZE('T'), SIZE('d'), token, table, x);
    return ha_call_end(&call, HA_OK);
}

static PyObject *feature_map(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "map", NULL};
    PyObject *x_arg, *w_arg = Py_None;
    const char *name = "hedgehog";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$s:feature_map", names, &x_arg, &w_arg, &name))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const void *x, *w;
    const int map = ha_call_feature(&call, name, x_arg, w_arg, &x, &w);
    double *y = ha_call_out(&call, "T H F");
    if (ha_call_run(&call))
        ref_feature(map, SIZE('T'), SIZE('H'), SIZE('d'), x, w, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *softmax_attention(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q",      "k",      "v",     "lengths",      "key_lengths", "scale",
                            "causal", "window", "sinks", "return_stats", NULL};
    PyObject *q_arg, *k_arg, *v_arg, *lengths = Py_None, *key_lengths = Py_None, *scale = Py_None;
    ref_attention a = {.causal = 1};
    int stats = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$OOOpiip:softmax_attention", names, &q_arg, &k_arg, &v_arg,
                                     &lengths, &key_lengths, &scale, &a.causal, &a.window, &a.sinks, &stats))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *q = ha_call_in(&call, q_arg, "q", "T H d", 0), *k = ha_call_in(&call, k_arg, "k", "L K d", 0);
    const double *v = ha_call_in(&call, v_arg, "v", "L K d", 0);
    ha_require_groups(&call);
    ha_require_window(&call, a.window, a.sinks, 0);
    a.heads = SIZE('H'), a.kv_heads = SIZE('K'), a.dim = SIZE('d');
    a.scale = scale == Py_None ? 1.0 / sqrt(a.dim) : PyFloat_AsDouble(scale);
    call.failed |= scale != Py_None && a.scale == -1.0 && PyErr_Occurred();
    ha_batch batch = {0}, keys = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    ha_call_batch(&call, key_lengths == Py_None ? lengths : key_lengths, "key_lengths", SIZE('L'), &keys);
    ha_call_require(&call, batch.n_seq == keys.n_seq, "key_lengths has %d entries, expected %d", keys.n_seq,
                    batch.n_seq);
    for (int s = 0; !call.failed && s < batch.n_seq; s++)
        ha_call_require(&call, keys.offset[s + 1] - keys.offset[s] >= batch.offset[s + 1] - batch.offset[s],
                        "key_lengths[%d] is below lengths[%d]", s, s);
    double *out = ha_call_out(&call, "T H d");
    double *lse = stats ? ha_call_out(&call, "T H") : NULL, *max = stats ? ha_call_out(&call, "T H") : NULL;
    if (ha_call_run(&call))
        ref_softmax_attention(&a, &batch, keys.offset, q, k, v, out, lse, max);
    return ha_call_end(&call, HA_OK);
}

/* object: q, k, v, g, beta, a, b, gv; those that are not given are NULL or None */
static PyObject *run_recurrence(PyObject *const object[8], PyObject *lengths, PyObject *initial_arg, int return_state,
                                int reverse)
{
    static const char *const gates[2] = {"T H", "T H k"};
    ha_call call = ha_call_begin(NPY_FLOAT64);
    int gate = -1;
    ref_operands in;
    in.q = ha_call_in(&call, object[0], "q", "T H k", 0);
    in.k = ha_call_in(&call, object[1], "k", "T H k", 0);
    in.v = ha_call_in(&call, object[2], "v", "T H v", 0);
    in.g = ha_call_in_either(&call, object[3], "g", gates, &gate);
    in.beta = ha_call_in(&call, object[4], "beta", "T H", 1);
    in.a = ha_call_in(&call, object[5], "a", "T H k", 1);
    in.b = ha_call_in(&call, object[6], "b", "T H k", 1);
    in.gv = ha_call_in(&call, object[7], "gv", "T H v", 1);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    const double *initial = ha_call_in(&call, initial_arg, "initial_state", "S H k v", 1);
    ha_call_state_size(&call, (int64_t)SIZE('k') * SIZE('v'));
    double *out = ha_call_out(&call, "T H v"), *state = ha_call_out(&call, "S H k v");
    if (ha_call_run(&call)) {
        const ref_shape r = {SIZE('H'), SIZE('k'), SIZE('v'), gate == 1, reverse};
        if (initial)
            memcpy(state, initial, (size_t)SIZE('S') * (size_t)r.heads * (size_t)r.dk * (size_t)r.dv * sizeof *state);
        ref_recurrence(&r, &batch, &in, state, out);
    }
    if (!return_state)
        ha_call_drop(&call);
    return ha_call_end(&call, HA_OK);
}

static PyObject *recurrence(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "q", "k", "v", "g", "beta", "a", "b", "gv", "lengths", "initial_state", "return_state", "reverse", NULL};
    PyObject *object[8] = {NULL}, *lengths = Py_None, *initial = Py_None;
    int return_state = 0, reverse = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$OOOOOOOpp:recurrence", names, &object[0], &object[1],
                                     &object[2], &object[3], &object[4], &object[5], &object[6], &object[7], &lengths,
                                     &initial, &return_state, &reverse))
        return NULL;
    return run_recurrence(object, lengths, initial, return_state, reverse);
}

static PyObject *gated_delta(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q", "k", "v", "g", "beta", "lengths", "initial_state", "return_state", NULL};
    PyObject *object[8] = {NULL}, *lengths = Py_None, *initial = Py_None;
    int return_state = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOO|$OOp:gated_delta", names, &object[0], &object[1], &object[2],
                                     &object[3], &object[4], &lengths, &initial, &return_state))
        return NULL;
    return run_recurrence(object, lengths, initial, return_state, 0);
}

static PyObject *slot_attention(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q", "k", "v", "g", "lengths", NULL};
    PyObject *object[4], *lengths = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|$O:slot_attention", names, &object[0], &object[1], &object[2],
                                     &object[3], &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *q = ha_call_in(&call, object[0], "q", "T H d", 0), *k = ha_call_in(&call, object[1], "k", "T H d", 0);
    const double *v = ha_call_in(&call, object[2], "v", "T H d", 0), *g = ha_call_in(&call, object[3], "g", "T H M", 0);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    double *out = ha_call_out(&call, "T H d");
    ha_status status = HA_OK;
    if (ha_call_run(&call))
        status = ref_slot_attention(SIZE('H'), SIZE('d'), SIZE('M'), &batch, q, k, v, g, out, call.arena);
    return ha_call_end(&call, status);
}

static PyObject *linear_attention(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"f", "e", "v", "lag", "causal", "lengths", "initial_state", "return_state", NULL};
    PyObject *object[3], *lengths = Py_None, *initial_arg = Py_None;
    int lag = 0, causal = 1, return_state = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$ipOOp:linear_attention", names, &object[0], &object[1],
                                     &object[2], &lag, &causal, &lengths, &initial_arg, &return_state))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *f = ha_call_in(&call, object[0], "f", "T H F", 0), *e = ha_call_in(&call, object[1], "e", "T K F", 0);
    const double *v = ha_call_in(&call, object[2], "v", "T K d", 0);
    ha_require_groups(&call);
    ha_call_require(&call, lag >= 0 && lag <= 1 << 30, "lag is %d, allowed are 0 to 2^30", lag);
    ha_call_require(&call, lag == 0 || (initial_arg == Py_None && !return_state),
                    "lag is %d, allowed with a state is 0", lag);
    ha_call_require(&call, causal || (initial_arg == Py_None && !return_state),
                    "causal is False, allowed with a state is True");
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    ha_call_state_size(&call, (int64_t)SIZE('F') * (SIZE('d') + 1));
    const double *initial = ha_call_in(&call, initial_arg, "initial_state", "S K P", 1);
    double *num = ha_call_out(&call, "T H d"), *den = ha_call_out(&call, "T H"), *state = ha_call_out(&call, "S K P");
    if (ha_call_run(&call)) {
        const ref_linear_shape a = {SIZE('H'), SIZE('K'), SIZE('F'), SIZE('d'), lag, !causal};
        if (initial)
            memcpy(state, initial, (size_t)SIZE('S') * (size_t)SIZE('K') * (size_t)SIZE('P') * sizeof *state);
        ref_linear_attention(&a, &batch, f, e, v, state, num, den);
    }
    if (!return_state)
        ha_call_drop(&call);
    return ha_call_end(&call, HA_OK);
}

static PyObject *short_conv(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "lengths", "initial_state", "return_state", NULL};
    PyObject *x_arg, *w_arg, *lengths = Py_None, *initial_arg = Py_None;
    int return_state = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOp:short_conv", names, &x_arg, &w_arg, &lengths, &initial_arg,
                                     &return_state))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "x", "T d", 0), *w = ha_call_in(&call, w_arg, "weight", "d w", 0);
    ha_call_taps(&call);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    const double *initial = ha_call_in(&call, initial_arg, "initial_state", "S P d", 1);
    double *y = ha_call_out(&call, "T d"), *state = ha_call_out(&call, "S P d");
    if (ha_call_run(&call)) {
        if (initial)
            memcpy(state, initial, (size_t)SIZE('S') * (size_t)SIZE('P') * (size_t)SIZE('d') * sizeof *state);
        ref_short_conv(&batch, SIZE('d'), SIZE('w'), x, w, state, y);
    }
    if (!return_state)
        ha_call_drop(&call);
    return ha_call_end(&call, HA_OK);
}

static PyObject *pool(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "lengths", NULL};
    PyObject *x_arg, *w_arg, *lengths = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$O:pool", names, &x_arg, &w_arg, &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "x", "T d", 0), *w = ha_call_in(&call, w_arg, "weight", "n N", 0);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    int64_t slots = 0;
    for (int q = 0; !call.failed && q < batch.n_seq; q++) {
        const int rows = batch.offset[q + 1] - batch.offset[q];
        ha_call_require(&call, rows <= SIZE('N'), "lengths[%d] is %d, allowed are 1 to weight's %d", q, rows,
                        SIZE('N'));
        for (int64_t s = 0; !call.failed && s < SIZE('n') && s * SIZE('N') / SIZE('n') < rows; s++)
            slots++;
    }
    ha_call_state_size(&call, slots);
    double *y = ha_call_out(&call, "P d");
    if (ha_call_run(&call))
        ref_pool(&batch, SIZE('d'), SIZE('n'), SIZE('N'), x, w, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *cross_entropy(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"hidden", "head", "targets", "bias", NULL};
    PyObject *hidden_arg, *head_arg, *target_arg, *bias_arg = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$O:cross_entropy", names, &hidden_arg, &head_arg, &target_arg,
                                     &bias_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *hidden = ha_call_in(&call, hidden_arg, "hidden", "T d", 0),
                 *head = ha_call_in(&call, head_arg, "head", "V d", 0),
                 *bias = ha_call_in(&call, bias_arg, "bias", "V", 1);
    const int32_t *target = ha_call_in_int(&call, target_arg, "targets", "T", -1, SIZE('V'));
    double *loss = ha_call_out(&call, "T");
    if (ha_call_run(&call))
        ref_cross_entropy(SIZE('T'), SIZE('d'), SIZE('V'), hidden, head, bias, target, loss);
    return ha_call_end(&call, HA_OK);
}

static PyObject *kl_divergence(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"teacher_hidden", "hidden",       "teacher_head", "head",
                            "targets",        "teacher_bias", "bias",         NULL};
    PyObject *teacher_arg, *hidden_arg, *teacher_head_arg, *head_arg, *target_arg = Py_None,
                                                                      *teacher_bias_arg = Py_None, *bias_arg = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|O$OO:kl_divergence", names, &teacher_arg, &hidden_arg,
                                     &teacher_head_arg, &head_arg, &target_arg, &teacher_bias_arg, &bias_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *teacher = ha_call_in(&call, teacher_arg, "teacher_hidden", "T d", 0);
    const double *hidden = ha_call_in(&call, hidden_arg, "hidden", "T d", 0);
    const double *teacher_head = ha_call_in(&call, teacher_head_arg, "teacher_head", "V d", 0);
    const double *head = ha_call_in(&call, head_arg, "head", "V d", 0);
    const double *teacher_bias = ha_call_in(&call, teacher_bias_arg, "teacher_bias", "V", 1);
    const double *bias = ha_call_in(&call, bias_arg, "bias", "V", 1);
    const int32_t *target = NULL;
    if (target_arg != Py_None)
        target = ha_call_in_int(&call, target_arg, "targets", "T", -1, SIZE('V'));
    double *loss = ha_call_out(&call, "T"), *nll = target ? ha_call_out(&call, "T") : NULL;
    if (ha_call_run(&call)) {
        ref_kl(SIZE('T'), SIZE('d'), SIZE('V'), teacher, teacher_head, teacher_bias, hidden, head, bias, loss);
        if (nll)
            ref_cross_entropy(SIZE('T'), SIZE('d'), SIZE('V'), hidden, head, bias, target, nll);
    }
    return ha_call_end(&call, HA_OK);
}

static PyObject *align_loss(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"target", "y", NULL};
    PyObject *target_arg, *y_arg;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:align_loss", names, &target_arg, &y_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *target = ha_call_in(&call, target_arg, "target", "T d", 0),
                 *y = ha_call_in(&call, y_arg, "y", "T d", 0);
    double *loss = ha_call_out(&call, "T");
    if (ha_call_run(&call))
        ref_align_loss(SIZE('T'), SIZE('d'), target, y, loss);
    return ha_call_end(&call, HA_OK);
}

static PyObject *adamw(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"p", "g", "m", "v", "lr", "step", "betas", "eps", "weight_decay", "clip", NULL};
    PyObject *p_arg, *g_arg, *m_arg, *v_arg;
    ref_adamw_options o = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1.0};
    long long step;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOdL|$(dd)ddd:adamw", names, &p_arg, &g_arg, &m_arg, &v_arg,
                                     &o.lr, &step, &o.beta1, &o.beta2, &o.eps, &o.decay, &o.clip))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    o.step = step;
    double *p = ha_call_in_place(&call, p_arg, "p", "N"), *g = ha_call_in_place(&call, g_arg, "g", "N");
    double *m = ha_call_in_place(&call, m_arg, "m", "N"), *v = ha_call_in_place(&call, v_arg, "v", "N");
    if (ha_call_run(&call))
        ref_adamw((size_t)SIZE('N'), &o, p, g, m, v);
    return ha_call_end(&call, HA_OK);
}

static PyMethodDef methods[] = {
    HA_FUNCTION(linear, "linear(x, weight, bias=None)\n--\n\nAs ops.linear."),
    HA_FUNCTION(stored_linear, "stored_linear(x, weight, bias=None, *, dtype='q8_0')\n--\n\nAs ops.stored_linear."),
    HA_FUNCTION(rms_norm, "rms_norm(x, weight, *, eps=1e-6)\n--\n\nAs ops.rms_norm."),
    HA_FUNCTION(head_norm, "head_norm(x, weight, *, eps=1e-6)\n--\n\nAs ops.head_norm."),
    HA_FUNCTION(layer_norm, "layer_norm(x, weight, bias, *, eps=1e-5)\n--\n\nAs ops.layer_norm."),
    HA_FUNCTION(activation, "activation(x, *, kind='gelu')\n--\n\nAs ops.activation."),
    HA_FUNCTION(rope, "rope(x, inv_freq, *, positions=None, lengths=None, factor=1.0)\n--\n\nAs ops.rope."),
    HA_FUNCTION(swiglu, "swiglu(gate_up)\n--\n\nAs ops.swiglu."),
    HA_FUNCTION(embed, "embed(tokens, table)\n--\n\nAs ops.embed."),
    HA_FUNCTION(feature_map, "feature_map(x, weight=None, *, map='hedgehog')\n--\n\nAs ops.feature_map."),
    HA_FUNCTION(
        softmax_attention,
        "softmax_attention(q, k, v, *, lengths=None, key_lengths=None, scale=None, causal=True, window=0, sinks=0, "
        "return_stats=False)\n--\n\nAs ops.softmax_attention."),
    HA_FUNCTION(
        recurrence,
        "recurrence(q, k, v, *, g=None, beta=None, a=None, b=None, gv=None, lengths=None, initial_state=None, "
        "return_state=False, reverse=False)\n--\n\nAs ops.recurrence; reverse: from the last token to the first."),
    HA_FUNCTION(gated_delta,
                "gated_delta(q, k, v, g, beta, *, lengths=None, initial_state=None, return_state=False)\n--\n\n"
                "As ops.gated_delta."),
    HA_FUNCTION(slot_attention,
                "slot_attention(q, k, v, g, *, lengths=None)\n--\n\n"
                "Softmax attention over gated slots: per head K = diag(exp(g)) K + (1 - exp(g)) k^T, V likewise of v,\n"
                "V^T softmax(K q); q, k, v [T,H,d], g <= 0 [T,H,m] -> [T,H,d]."),
    HA_FUNCTION(
        linear_attention,
        "linear_attention(f, e, v, *, lag=0, causal=True, lengths=None, initial_state=None, return_state=False)\n--\n\n"
        "As ops.linear_attention."),
    HA_FUNCTION(short_conv, "short_conv(x, weight, *, lengths=None, initial_state=None, return_state=False)\n--\n\n"
                            "As ops.short_conv."),
    HA_FUNCTION(pool, "pool(x, weight, *, lengths=None)\n--\n\nAs ops.pool."),
    HA_FUNCTION(cross_entropy, "cross_entropy(hidden, head, targets, *, bias=None)\n--\n\nAs ops.cross_entropy."),
    HA_FUNCTION(
        kl_divergence,
        "kl_divergence(teacher_hidden, hidden, teacher_head, head, targets=None, *, teacher_bias=None, bias=None)\n--"
        "\n\nAs ops.kl_divergence."),
    HA_FUNCTION(align_loss, "align_loss(target, y)\n--\n\nAs ops.align_loss."),
    HA_FUNCTION(
        adamw,
        "adamw(p, g, m, v, lr, step, *, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, clip=1.0)\n--\n\nAs ops.adamw."),
    {0},
};

int ha_add_reference(PyObject *module)
{
    PyMethodDef *const tables[] = {methods, ha_reference_mixers, ha_reference_task, NULL};
    return ha_add_submodule(module, "reference",
                            "The operations of the core as plain loops in float64, without gradients.", tables);
}
