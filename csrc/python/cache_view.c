/* How a Cache shows itself: a line, its bytes by layer and kind, small HTML. */
#include "python/cache_view.h"

PyObject *ha_cache_repr(cache_object *self)
{
    const int sequences = ha_cache_sequences(self->cache);
    int least = ha_cache_length(self->cache, 0), most = least;
    char tokens[64];
    for (int s = 1; s < sequences; s++) {
        const int length = ha_cache_length(self->cache, s);
        least = length < least ? length : least;
        most = length > most ? length : most;
    }
    if (least < most)
        PyOS_snprintf(tokens, sizeof tokens, "%d to %d", least, most);
    else
        PyOS_snprintf(tokens, sizeof tokens, "%d", most);
    return PyUnicode_FromFormat("Cache(%d sequence%s of %s tokens, %s, %zu bytes)", sequences, sequences > 1 ? "s" : "",
                                tokens, ha_cache_dtype(self->cache) == HA_F16 ? "f16" : "f32",
                                ha_cache_bytes(self->cache));
}

/* dict[kind] = bytes of one mixer's states; nothing where the layer does not run it. -1 with an
 * exception. */
static int add_bytes(const cache_object *self, int l, int linear, PyObject *dict)
{
    const ha_layer *layer = &self->owner->model->layer[l];
    if (!ha_cache_state(self->cache, l, linear))
        return 0;
    PyObject *bytes = PyLong_FromSize_t(ha_cache_layer_bytes(self->cache, l, linear));
    const char *kind = (linear ? layer->linear : layer->softmax).kind->name;
    const int status = bytes ? PyDict_SetItemString(dict, kind, bytes) : -1;
    Py_XDECREF(bytes);
    return status;
}

PyObject *ha_cache_layers(cache_object *self, PyObject *unused)
{
    (void)unused;
    PyObject *result = PyList_New(0);
    for (int l = 0; result && l < self->owner->model->config.num_layers; l++) {
        PyObject *dict = PyDict_New();
        if (!dict || add_bytes(self, l, 0, dict) < 0 || add_bytes(self, l, 1, dict) < 0 ||
            PyList_Append(result, dict) < 0)
            Py_CLEAR(result);
        Py_XDECREF(dict);
    }
    return result;
}

PyObject *ha_cache_html(cache_object *self, PyObject *unused)
{
    (void)unused;
    PyObject *module = PyImport_ImportModule("hybridattn.results.cache");
    PyObject *html = module ? PyObject_CallMethod(module, "html", "O", self) : NULL;
    Py_XDECREF(module);
    return html;
}
