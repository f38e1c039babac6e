/* Model(config, layers): two plain Python structures become numbers, or an error that names the
 * field. */
#include "python/model_spec.h"

#include "python/arrays.h"

/* *out = dict[name], an int from low to high; -1 with an exception. */
static int get_int(PyObject *dict, const char *name, int low, int high, int *out)
{
    PyObject *value = PyMapping_GetItemString(dict, name);
    if (!value) {
        if (PyErr_ExceptionMatches(PyExc_KeyError))
            PyErr_Format(PyExc_ValueError, "config has no %s", name);
        return -1;
    }
    long number = PyLong_Check(value) ? PyLong_AsLong(value) : -1;
    int bad = !PyLong_Check(value) || (number == -1 && PyErr_Occurred()) || number < low || number > high;
    if (bad) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "config %s is %R, allowed are whole numbers from %d to %d", name, value, low,
                     high);
    }
    Py_DECREF(value);
    *out = (int)number;
    return bad ? -1 : 0;
}

/* The same, but out stays as it is where there is no such number. */
static int get_int_if(PyObject *dict, const char *name, int low, int high, int *out)
{
    PyObject *key = PyUnicode_FromString(name);
    int there = key ? PyMapping_HasKey(dict, key) : -1;
    Py_XDECREF(key);
    return there > 0 ? get_int(dict, name, low, high, out) : there;
}

/* *out = dict[name], a number between low and high; -1 with an exception. */
static int get_float(PyObject *dict, const char *name, double low, double high, float *out)
{
    PyObject *value = PyMapping_GetItemString(dict, name);
    if (!value) {
        if (PyErr_ExceptionMatches(PyExc_KeyError))
            PyErr_Format(PyExc_ValueError, "config has no %s", name);
        return -1;
    }
    double number = PyFloat_AsDouble(value);
    int bad = (number == -1.0 && PyErr_Occurred()) || !(number > low && number < high);
    if (bad) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "config %s is %R, allowed are positive numbers", name, value);
    }
    Py_DECREF(value);
    *out = (float)number;
    return bad ? -1 : 0;
}

/* *out: a copy of the frequencies called `name` [half], freed by the caller with PyMem_Free; NULL
 * when half is 0. -1 with an exception. */
static int get_inv_freq(PyObject *dict, const char *name, int half, float **out)
{
    char full[64];
    if (half == 0)
        return 0;
    PyObject *value = PyMapping_GetItemString(dict, name);
    if (!value)
        return -1;
    snprintf(full, sizeof full, "config %s", name);
    const npy_intp shape[1] = {half};
    PyArrayObject *array = ha_array_arg(value, full, NPY_FLOAT32, 1, shape);
    Py_DECREF(value);
    if (!array)
        return -1;
    *out = PyMem_Malloc((size_t)half * sizeof **out);
    if (!*out)
        PyErr_NoMemory();
    else
        memcpy(*out, PyArray_DATA(array), (size_t)half * sizeof **out);
    Py_DECREF(array);
    return *out ? 0 : -1;
}

/* The head of a task, by the numbers of its enums; all left out: none. */
static int parse_task(PyObject *config, ha_task *task)
{
    int kind = HA_TASK_NONE, pool = HA_POOL_FIRST, pooler = HA_ACT_NONE;
    if (get_int_if(config, "task", HA_TASK_NONE, HA_TASK_SPAN, &kind) < 0)
        return -1;
    if (kind != HA_TASK_NONE && (get_int(config, "num_labels", 1, 1 << 20, &task->labels) < 0 ||
                                 get_int(config, "task_pool", HA_POOL_FIRST, HA_POOL_MEAN, &pool) < 0 ||
                                 get_int(config, "task_pooler", HA_ACT_NONE, HA_ACTS - 1, &pooler) < 0 ||
                                 get_int(config, "task_bias", 0, 1, &task->bias) < 0))
        return -1;
    task->kind = (ha_task_kind)kind;
    task->pool = (ha_pool_kind)pool;
    task->pooler = (ha_act)pooler;
    if (kind == HA_TASK_SPAN && (task->labels != 2 || pooler != HA_ACT_NONE)) {
        PyErr_SetString(PyExc_ValueError, "config num_labels of a span is 2, for start and end, without a pooler");
        return -1;
    }
    return 0;
}

/* What tells the families' blocks, embeddings and heads apart; what is left out is as in Llama. */
static int parse_form(PyObject *given, ha_config *config)
{
    const int most = 1 << 24;
    int norm = 0, block = 0, act = 0;
    config->final_norm = config->lm_head = 1;
    config->rope_dim = config->head_dim;
    if (PyMapping_HasKeyString(given, "embed_scale") &&
        get_float(given, "embed_scale", 0.0, 1e6, &config->embed_scale) < 0)
        return -1;
    if (get_int_if(given, "qk_norm", 0, 1, &config->qk_norm) < 0 ||
        get_int_if(given, "attention_gate", 0, 1, &config->attention_gate) < 0 ||
        get_int_if(given, "norm", 0, HA_NORM_LAYER, &norm) < 0 ||
        get_int_if(given, "block", 0, HA_BLOCK_SANDWICH, &block) < 0 ||
        get_int_if(given, "mlp_plain", 0, 1, &config->mlp_plain) < 0 ||
        get_int_if(given, "act", 0, HA_ACTS - 1, &act) < 0 ||
        get_int_if(given, "positions", 0, most, &config->positions) < 0 ||
        get_int_if(given, "position_offset", 0, most, &config->position_offset) < 0 ||
        get_int_if(given, "segments", 0, most, &config->segments) < 0 ||
        get_int_if(given, "embed_norm", 0, 1, &config->embed_norm) < 0 ||
        get_int_if(given, "final_norm", 0, 1, &config->final_norm) < 0 ||
        get_int_if(given, "lm_head", 0, 1, &config->lm_head) < 0 ||
        get_int_if(given, "head_bias", 0, 1, &config->head_bias) < 0 ||
        get_int_if(given, "head_transform", 0, 1, &config->head_transform) < 0 ||
        get_int_if(given, "rope_dim", 0, config->head_dim, &config->rope_dim) < 0)
        return -1;
    config->norm = (ha_norm_kind)norm;
    config->block = (ha_block_form)block;
    config->act = (ha_act)act;
    if (config->rope_dim % 2 == 0)
        return 0;
    PyErr_Format(PyExc_ValueError, "config rope_dim is %d, allowed are even numbers", config->rope_dim);
    return -1;
}

/* Which layers are local, from the list local_layers of their numbers, with their window and
 * frequencies; left out: none. -1 with an exception. */
static int parse_local(PyObject *given, ha_config *config, ha_config_memory *memory)
{
    PyObject *value = NULL, *list = NULL;
    int status = -1;
    if (!PyMapping_HasKeyString(given, "local_layers"))
        return 0;
    if (!(value = PyMapping_GetItemString(given, "local_layers")) || !(list = PySequence_Tuple(value)))
        goto done;
    if (PyTuple_GET_SIZE(list) == 0) {
        status = 0;
        goto done;
    }
    if (get_int(given, "local_window", 0, 1 << 30, &config->local_window) < 0 ||
        get_inv_freq(given, "local_inv_freq", config->rope_dim / 2, &memory->local_inv_freq) < 0)
        goto done;
    memory->local = PyMem_Calloc((size_t)config->num_layers, 1);
    if (!memory->local) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(list); i++) {
        PyObject *item = PyTuple_GET_ITEM(list, i);
        const long layer = PyLong_Check(item) ? PyLong_AsLong(item) : -1;
        if (layer < 0 || layer >= config->num_layers) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "config local_layers holds %R, allowed are layers from 0 to %d", item,
                         config->num_layers - 1);
            goto done;
        }
        memory->local[layer] = 1;
    }
    config->local = memory->local;
    config->local_inv_freq = memory->local_inv_freq;
    status = 0;
done:
    Py_XDECREF(value);
    Py_XDECREF(list);
    return status;
}

void ha_config_memory_free(ha_config_memory *memory)
{
    PyMem_Free(memory->inv_freq);
    PyMem_Free(memory->local_inv_freq);
    PyMem_Free(memory->local);
}

int ha_parse_config(PyObject *given, ha_config *config, ha_config_memory *memory)
{
    const int most = 1 << 24;
    if (!PyMapping_Check(given)) {
        PyErr_SetString(PyExc_TypeError, "config must be a mapping of names to numbers");
        return -1;
    }
    if (get_int(given, "vocab_size", 1, most, &config->vocab_size) < 0 ||
        get_int(given, "hidden_size", 1, most, &config->hidden_size) < 0 ||
        get_int(given, "num_layers", 1, 10000, &config->num_layers) < 0 ||
        get_int(given, "num_heads", 1, 65536, &config->num_heads) < 0 ||
        get_int(given, "num_kv_heads", 1, 65536, &config->num_kv_heads) < 0 ||
        get_int(given, "head_dim", 1, HA_MAX_HEAD_DIM, &config->head_dim) < 0 ||
        get_int(given, "intermediate_size", 1, most, &config->intermediate_size) < 0 ||
        get_float(given, "norm_eps", 0.0, 1.0, &config->norm_eps) < 0 ||
        get_float(given, "rope_attention_factor", 0.0, 1000.0, &config->rope_factor) < 0 ||
        get_int(given, "sliding_window", 0, 1 << 30, /* positions plus it stay ints */
                &config->sliding_window) < 0 ||
        get_int(given, "bidirectional", 0, 1, &config->bidirectional) < 0 ||
        get_int(given, "attention_bias", 0, 1, &config->attention_bias) < 0 ||
        get_int(given, "output_bias", 0, 1, &config->output_bias) < 0 ||
        get_int(given, "mlp_bias", 0, 1, &config->mlp_bias) < 0 ||
        get_int(given, "tie_embeddings", 0, 1, &config->tie_embeddings) < 0 || parse_form(given, config) < 0 ||
        parse_task(given, &config->task) < 0)
        return -1;
    if (config->num_heads % config->num_kv_heads) {
        PyErr_Format(PyExc_ValueError, "config num_heads is %d, allowed are multiples of num_kv_heads = %d",
                     config->num_heads, config->num_kv_heads);
        return -1;
    }
    if (get_inv_freq(given, "rope_inv_freq", config->rope_dim / 2, &memory->inv_freq) < 0)
        return -1;
    config->rope_inv_freq = memory->inv_freq;
    return parse_local(given, config, memory);
}

/* *number = that of the name `value`; -1 with an exception. */
static int parse_name(PyObject *value, const ha_mixer_kind *kind, const ha_option *option, int layer, int *number)
{
    char allowed[HA_MAX_NAME] = "";
    for (int i = option->min; i <= option->max; i++) {
        const size_t used = strlen(allowed);
        if (PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, option->names[i]) == 0) {
            *number = i;
            return 0;
        }
        PyOS_snprintf(allowed + used, sizeof allowed - used, "%s'%s'", used ? ", " : "", option->names[i]);
    }
    PyErr_Format(PyExc_ValueError, "layers[%d]: %s option %s is %R, allowed are %s", layer, kind->name, option->name,
                 value, allowed);
    return -1;
}

/* option[i] = value, where i is the place of the option called `key` in the kind; -1 with an
 * exception. */
static int parse_option(PyObject *key, PyObject *value, const ha_mixer_kind *kind, int layer, int *option)
{
    const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
    if (!name) {
        PyErr_Format(PyExc_TypeError, "layers[%d]: option names are strings, not %R", layer, key);
        return -1;
    }
    if (strcmp(name, "kind") == 0)
        return 0;
    for (int i = 0; i < HA_MAX_OPTIONS && kind->option[i].name; i++) {
        const ha_option *known = &kind->option[i];
        if (strcmp(known->name, name) != 0)
            continue;
        if (known->names)
            return parse_name(value, kind, known, layer, &option[i]);
        long number = PyLong_Check(value) ? PyLong_AsLong(value) : -1;
        if (!PyLong_Check(value) || PyErr_Occurred() || number < known->min || number > known->max) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "layers[%d]: %s option %s is %R, allowed are %d to %d", layer, kind->name,
                         name, value, known->min, known->max);
            return -1;
        }
        option[i] = (int)number;
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "layers[%d]: %s has no option %s", layer, kind->name, name);
    return -1;
}

/* dict: nobody else's, as the text of an error may run code */
static int parse_mixer(PyObject *dict, int layer, ha_layer_spec *out)
{
    PyObject *kind_name = PyDict_Check(dict) ? PyDict_GetItemString(dict, "kind") : NULL, *key, *value;
    const char *name = kind_name && PyUnicode_Check(kind_name) ? PyUnicode_AsUTF8(kind_name) : NULL;
    const ha_mixer_kind *kind = name ? ha_mixer_find(name) : NULL;
    Py_ssize_t at = 0;
    if (!kind) {
        PyErr_Format(PyExc_ValueError, "layers[%d]: no mixer of kind %R; hybridattn.mixers() lists the kinds", layer,
                     kind_name ? kind_name : dict);
        return -1;
    }
    int option[HA_MAX_OPTIONS] = {0}, softmax = kind == ha_mixer_at(0);
    if (softmax ? out->has_softmax : out->linear != NULL) {
        PyErr_Format(PyExc_ValueError, "layers[%d]: two %s mixers, allowed is one", layer,
                     softmax ? "softmax" : "linear");
        return -1;
    }
    for (int i = 0; i < HA_MAX_OPTIONS && kind->option[i].name; i++)
        option[i] = kind->option[i].value;
    while (PyDict_Next(dict, &at, &key, &value))
        if (parse_option(key, value, kind, layer, option) < 0)
            return -1;
    if (softmax) {
        out->has_softmax = 1;
        return 0;
    }
    out->linear = kind;
    memcpy(out->option, option, sizeof option);
    return 0;
}

/* out = a list of one or two mixer specs; -1 with an exception. */
static int parse_layer(PyObject *list, int layer, ha_layer_spec *out)
{
    PyObject *specs = PyList_Check(list) ? PyList_AsTuple(list) : NULL;
    Py_ssize_t count = specs ? PyTuple_GET_SIZE(specs) : 0;
    int status = count == 1 || count == 2 ? 0 : -1;
    *out = (ha_layer_spec){0};
    if (status < 0 && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "layers[%d] is %R, allowed are lists of one or two mixers", layer, list);
    for (Py_ssize_t i = 0; status == 0 && i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(specs, i), *own = PyDict_Check(item) ? PyDict_Copy(item) : Py_NewRef(item);
        status = own ? parse_mixer(own, layer, out) : -1;
        Py_XDECREF(own);
    }
    Py_XDECREF(specs);
    return status;
}

int ha_parse_layers(PyObject *layers, int num_layers, ha_layer_spec *out)
{
    if (!PyList_Check(layers) || PyList_GET_SIZE(layers) != num_layers) {
        PyErr_Format(PyExc_ValueError, "layers must be a list of %d lists of mixers, one for each layer", num_layers);
        return -1;
    }
    PyObject *own = PyList_AsTuple(layers);
    int status = own ? 0 : -1;
    for (int l = 0; status == 0 && l < num_layers; l++)
        status = parse_layer(PyTuple_GET_ITEM(own, l), l, &out[l]);
    Py_XDECREF(own);
    return status;
}
