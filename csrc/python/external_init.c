/* The start of a Python mixer: its init function gets the softmax mixer's weights and gives its
 * own. */
#include "python/external_init.h"

#include "python/external_call.h"

/* given[name] = a view of the weights [rows,columns], or of the bias [rows] where columns is 0 */
static void give(ha_callback *call, PyObject *given, const char *name, const float *data, npy_intp rows,
                 npy_intp columns)
{
    const npy_intp shape[2] = {rows, columns};
    PyObject *array = ha_callback_view(call, data, columns ? 2 : 1, shape);
    call->failed |= !array || PyDict_SetItemString(given, name, array) < 0;
    Py_XDECREF(array);
}

/* name -> view of the softmax mixer's projections: weights [out,in], and biases [out] where there
 * are some. A new reference; NULL after a failure. */
static PyObject *softmax_weights(ha_callback *call, const ha_mixer *softmax, const float *weights)
{
    static const char *const names[2][4] = {{"q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight"},
                                            {"q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"}};
    const ha_config *config = softmax->config;
    const npy_intp queries = config->num_heads * config->head_dim, keys = config->num_kv_heads * config->head_dim;
    const npy_intp rows[3] = {queries, keys, keys};
    PyObject *given = PyDict_New();
    call->failed |= !given;
    for (int bias = 0; bias < 2; bias++) {
        const size_t joined = softmax->at[bias ? HA_SLOT_QKV_BIAS : HA_SLOT_QKV],
                     output = softmax->at[bias ? HA_SLOT_O_BIAS : HA_SLOT_O];
        const npy_intp columns = bias ? 0 : config->hidden_size;
        size_t at = joined;
        for (int i = 0; i < 3 && joined != HA_NONE && !call->failed; i++) {
            give(call, given, names[bias][i], weights + at, rows[i], columns);
            at += (size_t)rows[i] * (bias ? 1 : (size_t)columns);
        }
        if (output != HA_NONE && !call->failed)
            give(call, given, names[bias][3], weights + output, config->hidden_size, bias ? 0 : queries);
    }
    return given;
}

/* What init(numpy.random.default_rng(seed), config, given) returns, a dict; a new reference, NULL
 * after a failure. */
static PyObject *call_init(ha_callback *call, const ha_config *numbers, uint64_t seed, PyObject *given)
{
    PyObject *numpy = PyImport_ImportModule("numpy.random"), *config = ha_external_config(numbers), *made = NULL;
    PyObject *generator = numpy ? PyObject_CallMethod(numpy, "default_rng", "K", (unsigned long long)seed) : NULL;
    if (config && generator)
        made = PyObject_CallFunctionObjArgs(call->kind->init, generator, config, given, NULL);
    if (made && !PyDict_Check(made)) {
        PyErr_Format(PyExc_TypeError, "mixer %s: init gave a %s, expected a dict of arrays", call->kind->name,
                     Py_TYPE(made)->tp_name);
        Py_CLEAR(made);
    }
    Py_XDECREF(numpy);
    Py_XDECREF(config);
    Py_XDECREF(generator);
    call->failed |= !made;
    return made;
}

void ha_external_init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    ha_callback call = ha_callback_begin(mixer);
    if (PyErr_Occurred()) /* of the layer before */
        call.failed = 1;
    PyObject *given = call.failed ? NULL : softmax_weights(&call, softmax, weights);
    PyObject *made = call.failed ? NULL : call_init(&call, mixer->config, ha_rng_next(rng), given);
    if (!call.failed) {
        ha_callback_clear_params(&call, mixer, weights);
        ha_callback_add_params(&call, mixer, "init gave no", made, weights);
    }
    Py_XDECREF(given);
    Py_XDECREF(made);
    ha_callback_end(&call);
}
