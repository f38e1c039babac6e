/* The options of Distiller(...), checked. */
#include "python/distiller_options.h"

#include "python/arrays.h"

#include <math.h>

int ha_stage_parse(const char *name, ha_stage *stage)
{
    static const char *const names[] = {"align", "distill", "finetune"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *stage = (ha_stage)i;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "stage is '%s', allowed are align, distill and finetune", name);
    return -1;
}

int ha_align_layers_parse(const ha_model *model, PyObject *object, uint8_t **out)
{
    *out = PyMem_Calloc((size_t)model->config.num_layers, 1);
    if (!*out) {
        PyErr_NoMemory();
        return -1;
    }
    int all = object == Py_None, any = 0;
    PyObject *list = all ? NULL : ha_tuple_arg(object, "layers", "a sequence of layer numbers");
    if (!all && !list)
        return -1;
    for (Py_ssize_t i = 0; list && i < PyTuple_GET_SIZE(list); i++) {
        long l = PyLong_AsLong(PyTuple_GET_ITEM(list, i));
        if (!PyErr_Occurred() && (l < 0 || l >= model->config.num_layers))
            PyErr_Format(PyExc_ValueError, "layers[%zd] is %ld, allowed are 0 to %d", i, l,
                         model->config.num_layers - 1);
        if (PyErr_Occurred()) {
            Py_DECREF(list);
            return -1;
        }
        (*out)[l] = 1;
    }
    Py_XDECREF(list);
    for (int l = 0; l < model->config.num_layers; l++) {
        int both = model->layer[l].softmax.kind && model->layer[l].linear.kind;
        if ((*out)[l] && !both) {
            PyErr_Format(PyExc_ValueError, "layer %d has only one mixer: align needs a probe", l);
            return -1;
        }
        (*out)[l] |= all && both;
        any |= (*out)[l];
    }
    if (!any)
        PyErr_SetString(PyExc_ValueError, "no layer to align: align needs a probe, whose layers have both mixers");
    return any ? 0 : -1;
}

int ha_recompute_parse(PyObject *object, int layers, int *out)
{
    const long count = PyBool_Check(object) ? (object == Py_True ? layers : 0) : PyLong_AsLong(object);
    if (PyErr_Occurred())
        return -1;
    if (count < 0 || count > layers) {
        PyErr_Format(PyExc_ValueError, "recompute is %ld, allowed are False, True, and 0 to %d layers", count, layers);
        return -1;
    }
    *out = (int)count;
    return 0;
}

int ha_moments_parse(const char *name, ha_dtype *out)
{
    for (ha_dtype type = HA_F32; type <= HA_BF16; type++)
        if (strcmp(name, ha_dtype_name(type)) == 0) {
            *out = type;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "moments is '%s', allowed are float32 and bfloat16", name);
    return -1;
}

int ha_train_options_check(const ha_train_options *options)
{
    const struct {
        const char *name;
        double value;
        int ok;
    } rules[] = {
        {"betas[0]", (double)options->beta1, options->beta1 >= 0.0f && options->beta1 < 1.0f},
        {"betas[1]", (double)options->beta2, options->beta2 >= 0.0f && options->beta2 < 1.0f},
        {"eps", (double)options->eps, options->eps > 0.0f && options->eps < INFINITY},
        {"weight_decay", (double)options->weight_decay,
         options->weight_decay >= 0.0f && options->weight_decay < INFINITY},
        {"clip", (double)options->clip, options->clip >= 0.0f && options->clip < INFINITY},
        {"micro_batch", options->micro_batch, options->micro_batch >= 0},
        {"head_rows", options->piece, options->piece >= 0},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!rules[i].ok) {
            PyObject *value = PyFloat_FromDouble(rules[i].value);
            PyErr_Format(PyExc_ValueError, "%s is %R, out of its range", rules[i].name, value);
            Py_XDECREF(value);
            return -1;
        }
    return 0;
}
