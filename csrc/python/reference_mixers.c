/* Whole mixers for hybridattn._core.reference, from the projections of x to what the output projection reads. */
#include "python/reference.h"

#define SIZE(letter) ha_size(&call, letter)

static PyObject *mix_gated_delta(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "q",    "k",        "v",           "gate", "b",        "a",       "A_log",         "dt_bias",
        "norm", "inv_freq", "rope_factor", "silu", "norm_eps", "lengths", "bidirectional", NULL};
    PyObject *object[9], *freq_arg = Py_None, *lengths = Py_None;
    ref_gated_delta_mixer m = {.rope_factor = 1.0, .silu = 1, .norm_eps = 1e-6};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOOOOO|$OdpdOp:mix_gated_delta", names, &object[0], &object[1],
                                     &object[2], &object[3], &object[4], &object[5], &object[6], &object[7], &object[8],
                                     &freq_arg, &m.rope_factor, &m.silu, &m.norm_eps, &lengths, &m.bidirectional))
        return NULL;
    static const char *const shape[9] = {"T H 2h", "T H 2h", "T H 2h", "T H 2h", "T H", "T H", "H", "H", "2h"};
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *in[9];
    for (int i = 0; i < 9; i++)
        in[i] = ha_call_in(&call, object[i], names[i], shape[i], 0);
    m.inv_freq = ha_call_in(&call, freq_arg, "inv_freq", "h", 1);
    m.heads = SIZE('H'), m.dim = 2 * SIZE('h');
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    double *y = ha_call_out(&call, "T H 2h");
    ha_status status = HA_OK;
    if (ha_call_run(&call))
        status = ref_mix_gated_delta(&m, &batch, in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7], in[8], y,
                                     call.arena);
    return ha_call_end(&call, status);
}

/* feature_q and feature_k of a map by number, None where it has no weight */
static void feature_weights(ha_call *call, int map, PyObject *const object[2], const double *weight[2])
{
    ha_call_require(call, map >= 0 && map <= 3, "feature is %d, allowed are 0 to 3", map);
    weight[0] = ha_call_in(call, object[0], "feature_q", "H 2h 2h", map < 2);
    weight[1] = ha_call_in(call, object[1], "feature_k", "K 2h 2h", map < 2);
}

static PyObject *mix_window_linear(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q",           "k",      "v",     "feature_q",     "feature_k", "gate",    "inv_freq",
                            "rope_factor", "window", "sinks", "rope_features", "feature",   "lengths", "bidirectional",
                            NULL};
    PyObject *object[7], *lengths = Py_None;
    ref_window_mixer m = {.rope_factor = 1.0, .window = 64, .sinks = 4, .rope_features = 1, .map = 2};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOOO|$diipiOp:mix_window_linear", names, &object[0], &object[1],
                                     &object[2], &object[3], &object[4], &object[5], &object[6], &m.rope_factor,
                                     &m.window, &m.sinks, &m.rope_features, &m.map, &lengths, &m.bidirectional))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *weight[2], *q = ha_call_in(&call, object[0], "q", "T H 2h", 0);
    const double *k = ha_call_in(&call, object[1], "k", "T K 2h", 0),
                 *v = ha_call_in(&call, object[2], "v", "T K 2h", 0);
    feature_weights(&call, m.map, object + 3, weight);
    const double *gate = ha_call_in(&call, object[5], "gate", "H", 0);
    m.inv_freq = ha_call_in(&call, object[6], "inv_freq", "h", 0);
    ha_require_groups(&call);
    ha_require_window(&call, m.window, m.sinks, 1);
    m.heads = SIZE('H'), m.kv_heads = SIZE('K'), m.dim = 2 * SIZE('h');
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    double *y = ha_call_out(&call, "T H 2h");
    ha_status status = HA_OK;
    if (ha_call_run(&call))
        status = ref_mix_window_linear(&m, &batch, q, k, v, weight[0], weight[1], gate, y, call.arena);
    return ha_call_end(&call, status);
}

static PyObject *mix_linear(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q",       "k",    "v",           "feature_q", "feature_k", "inv_freq",      "norm",
                            "feature", "rope", "rope_factor", "norm_eps",  "lengths",   "bidirectional", NULL};
    PyObject *object[6], *norm_arg = Py_None, *lengths = Py_None;
    ref_linear_mixer m = {.rope = 1, .map = 2, .norm_eps = 1e-6, .rope_factor = 1.0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOO|$OipddOp:mix_linear", names, &object[0], &object[1],
                                     &object[2], &object[3], &object[4], &object[5], &norm_arg, &m.map, &m.rope,
                                     &m.rope_factor, &m.norm_eps, &lengths, &m.bidirectional))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *weight[2], *q = ha_call_in(&call, object[0], "q", "T H 2h", 0);
    const double *k = ha_call_in(&call, object[1], "k", "T K 2h", 0),
                 *v = ha_call_in(&call, object[2], "v", "T K 2h", 0);
    feature_weights(&call, m.map, object + 3, weight);
    m.inv_freq = ha_call_in(&call, object[5], "inv_freq", "h", 0);
    const double *norm = ha_call_in(&call, norm_arg, "norm", "2h", 1);
    ha_require_groups(&call);
    m.heads = SIZE('H'), m.kv_heads = SIZE('K'), m.dim = 2 * SIZE('h');
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    double *y = ha_call_out(&call, "T H 2h");
    ha_status status = HA_OK;
    if (ha_call_run(&call))
        status = ref_mix_linear(&m, &batch, q, k, v, weight[0], weight[1], norm, y, call.arena);
    return ha_call_end(&call, status);
}

PyMethodDef ha_reference_mixers[] = {
    HA_FUNCTION(
        mix_gated_delta,
        "mix_gated_delta(q, k, v, gate, b, a, A_log, dt_bias, norm, *, inv_freq=None, rope_factor=1.0, silu=True, "
        "norm_eps=1e-6, lengths=None, bidirectional=False)\n"
        "--\n\nThe gated_delta mixer between its projections: q, k, v, gate [T,H,d], b, a [T,H], A_log, dt_bias [H],\n"
        "norm [d], inv_freq [d/2] to rotate q and k -> [T,H,d]."),
    HA_FUNCTION(
        mix_window_linear,
        "mix_window_linear(q, k, v, feature_q, feature_k, gate, inv_freq, *, rope_factor=1.0, window=64, sinks=4, "
        "rope_features=True, "
        "feature=2, lengths=None, bidirectional=False)\n--\n\nThe window_linear mixer between its projections: q "
        "[T,H,d], k, v [T,KV,d], "
        "feature_q [H,d,d],\nfeature_k [KV,d,d] or None by the number of the feature map, gate [H], inv_freq [d/2] -> "
        "[T,H,d]."),
    HA_FUNCTION(
        mix_linear,
        "mix_linear(q, k, v, feature_q, feature_k, inv_freq, *, norm=None, feature=2, rope=True, rope_factor=1.0, "
        "norm_eps=1e-6, "
        "lengths=None, bidirectional=False)\n--\n\nThe linear mixer between its projections, arrays as in "
        "mix_window_linear; norm [d] for "
        "normalise=0."),
    {0},
};
