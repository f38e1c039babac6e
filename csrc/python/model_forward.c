/* Model.logits, Model.hidden and Model.nll: forward passes over padded token arrays. */
#include "python/model_forward.h"

#include "distill/distill.h"
#include "ops/ops.h"
#include "python/cache_object.h"
#include "python/model_lock.h"
#include "python/padded_tokens.h"
#include "python/raise.h"

/* What is asked for, as it was passed; last: of the last token of each sequence only; logits: of
 * the LM head, or else hidden states. */
typedef struct {
    PyObject *tokens, *mask, *cache, *segments;
    int last, logits;
} forward_arguments;

/* The packed sequences as windows of a stream. */
static ha_windows windows_of(const ha_model *model, const packed_tokens *packed)
{
    return (ha_windows){packed->token, packed->window, packed->n_seq, model->config.vocab_size, packed->segment};
}

/* hidden [rows,hidden_size] of packed sequences; with a cache they continue those in it. */
static ha_status hidden_of(model_object *self, const packed_tokens *packed, ha_cache *cache, float *hidden)
{
    const ha_windows windows = windows_of(self->model, packed);
    if (!cache)
        return ha_windows_hidden(self->model, &windows, hidden, &self->arena, &ha_signals);
    ha_batch batch;
    int *extra;
    HA_TRY(ha_windows_batch(&windows, 0, packed->n_seq, 1, &self->arena, &batch));
    HA_PUSH(extra, &self->arena, (size_t)packed->n_seq);
    int32_t *position = (int32_t *)batch.position;
    for (int s = 0; s < packed->n_seq; s++) {
        extra[s] = batch.offset[s + 1] - batch.offset[s];
        for (int r = batch.offset[s]; r < batch.offset[s + 1]; r++)
            position[r] += ha_cache_length(cache, s);
    }
    HA_TRY(ha_cache_reserve(cache, extra));
    return ha_model_hidden(self->model, NULL, &batch, cache, hidden, &self->arena, &ha_signals);
}

/* out [B,hidden_size], or [B,vocab_size] of logits, of the last row of each sequence of hidden
 * [rows,hidden_size]; last [B,hidden_size] is scratch. */
static void write_last(const ha_model *model, const packed_tokens *packed, const float *hidden, int logits, float *last,
                       float *out)
{
    const size_t width = (size_t)model->config.hidden_size;
    float *rows = logits ? last : out;
    for (int s = 0; s < packed->n_seq; s++)
        memcpy(rows + (size_t)s * width, hidden + (size_t)(packed->window[2 * s + 1] - 1) * width,
               width * sizeof *rows);
    if (logits)
        ha_model_logits(model, packed->n_seq, last, out);
}

/* out [B,T,hidden_size], or [B,T,vocab_size] of logits, of all rows of hidden [rows,hidden_size];
 * padding stays as it is. */
static void write_all(const ha_model *model, const packed_tokens *packed, const float *hidden, int logits, float *out)
{
    const size_t width = (size_t)model->config.hidden_size;
    const size_t out_width = logits ? (size_t)model->config.vocab_size : width;
    for (int s = 0; s < packed->n_seq; s++) {
        const int rows = (int)(packed->window[2 * s + 1] - packed->window[2 * s]);
        float *to = out + ((size_t)s * (size_t)packed->width + (size_t)packed->first[s]) * out_width;
        const float *from = hidden + (size_t)packed->window[2 * s] * width;
        if (logits)
            ha_model_logits(model, rows, from, to);
        else
            memcpy(to, from, (size_t)rows * width * sizeof *to);
    }
}

/* All memory is taken before a cache moves on, so that what follows it cannot fail. */
static ha_status forward(model_object *self, const packed_tokens *packed, const forward_arguments *asked,
                         ha_cache *cache, float *out)
{
    const size_t width = (size_t)self->model->config.hidden_size;
    float *hidden, *last = NULL;
    HA_PUSH(hidden, &self->arena, (size_t)packed->rows * width);
    if (asked->last)
        HA_PUSH(last, &self->arena, (size_t)packed->n_seq * width);
    HA_TRY(hidden_of(self, packed, cache, hidden));
    if (asked->last)
        write_last(self->model, packed, hidden, asked->logits, last, out);
    else
        write_all(self->model, packed, hidden, asked->logits, out);
    return HA_OK;
}

/* *cache is that of an argument, or NULL for None. It must be of this model and hold n_seq
 * sequences. Returns 0, or -1 with an exception. */
static int cache_arg(model_object *self, PyObject *object, int n_seq, ha_cache **cache)
{
    *cache = NULL;
    if (object == Py_None)
        return 0;
    module_state *state = ha_state_of(Py_TYPE(self));
    if (!state)
        return -1;
    if (!PyObject_TypeCheck(object, state->cache)) {
        PyErr_Format(PyExc_TypeError, "cache is a %s, expected a Cache", Py_TYPE(object)->tp_name);
        return -1;
    }
    const cache_object *given = (cache_object *)object;
    if (given->owner != self) {
        PyErr_SetString(PyExc_ValueError, "cache belongs to another model");
        return -1;
    }
    if (ha_cache_sequences(given->cache) != n_seq) {
        PyErr_Format(PyExc_ValueError, "tokens has %d sequences and the cache %d", n_seq,
                     ha_cache_sequences(given->cache));
        return -1;
    }
    *cache = given->cache;
    return 0;
}

/* True when the model has what is needed; else false with an exception. */
static int meets(model_object *self, ha_status (*need)(const ha_model *))
{
    const ha_status status = need(self->model);
    if (status != HA_OK)
        ha_raise(status);
    return status == HA_OK;
}

/* A new array [B,T,width], or [B,width] of the last tokens. */
static PyObject *run(model_object *self, const forward_arguments *asked)
{
    packed_tokens packed;
    ha_cache *cache;
    if (!ha_model_ready(self) || (asked->logits && !meets(self, ha_model_need_head)) ||
        ha_packed_parse(self, asked->tokens, asked->mask, asked->segments, &packed) < 0)
        return NULL;
    const ha_config *config = &self->model->config;
    const npy_intp width = asked->logits ? config->vocab_size : config->hidden_size;
    npy_intp shape[3] = {packed.n_seq, asked->last ? width : packed.width, width};
    PyArrayObject *out = NULL;
    if (cache_arg(self, asked->cache, packed.n_seq, &cache) == 0)
        out = (PyArrayObject *)PyArray_ZEROS(asked->last ? 2 : 3, shape, NPY_FLOAT32, 0);
    if (out) {
        ha_core_call core = ha_core_begin(self, NULL);
        if (core.status == HA_OK)
            core.status = forward(self, &packed, asked, cache, PyArray_DATA(out));
        if (ha_core_end(&core) != HA_OK) {
            Py_CLEAR(out);
            ha_raise(core.status);
        }
    }
    ha_packed_clear(&packed);
    return (PyObject *)out;
}

PyObject *ha_model_logits_method(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "mask", "cache", "last", "segments", NULL};
    forward_arguments asked = {.mask = Py_None, .cache = Py_None, .segments = Py_None, .logits = 1};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOpO:logits", names, &asked.tokens, &asked.mask, &asked.cache,
                                     &asked.last, &asked.segments))
        return NULL;
    return run(self, &asked);
}

PyObject *ha_model_hidden_method(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "mask", "cache", "segments", NULL};
    forward_arguments asked = {.mask = Py_None, .cache = Py_None, .segments = Py_None};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOO:hidden", names, &asked.tokens, &asked.mask, &asked.cache,
                                     &asked.segments))
        return NULL;
    return run(self, &asked);
}

/* out [B,T-1] = -log p(next token) at the places of the tokens that have one; padding stays as it
 * is. */
static ha_status nll_of(model_object *self, const packed_tokens *packed, float *out)
{
    const ha_model *model = self->model;
    const ha_windows windows = windows_of(model, packed);
    const int64_t *window = packed->window;
    float *hidden;
    double *loss;
    int32_t *target;
    HA_PUSH(hidden, &self->arena, (size_t)packed->rows * (size_t)model->config.hidden_size);
    HA_PUSH(loss, &self->arena, (size_t)packed->rows);
    HA_PUSH(target, &self->arena, (size_t)packed->rows);
    for (int s = 0; s < packed->n_seq; s++)
        for (int64_t r = window[2 * s]; r < window[2 * s + 1]; r++)
            target[r] = r + 1 < window[2 * s + 1] ? packed->token[r + 1] : -1;
    HA_TRY(ha_windows_hidden(model, &windows, hidden, &self->arena, &ha_signals));
    const ha_linear head = ha_model_head(model);
    HA_TRY(ha_head_cross_entropy(&head, packed->rows, hidden, target, loss, NULL, &ha_signals, &self->arena));
    for (int s = 0; s < packed->n_seq; s++) {
        float *to = out + (size_t)s * (size_t)(packed->width - 1) + (size_t)packed->first[s];
        for (int64_t r = window[2 * s]; r + 1 < window[2 * s + 1]; r++)
            to[r - window[2 * s]] = (float)loss[r];
    }
    return HA_OK;
}

PyObject *ha_model_nll_method(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "mask", NULL};
    PyObject *tokens, *mask = Py_None;
    packed_tokens packed;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:nll", names, &tokens, &mask))
        return NULL;
    if (!ha_model_ready(self) || !meets(self, ha_model_need_next) ||
        ha_packed_parse(self, tokens, mask, Py_None, &packed) < 0)
        return NULL;
    npy_intp shape[2] = {packed.n_seq, packed.width - 1};
    PyArrayObject *out = (PyArrayObject *)PyArray_ZEROS(2, shape, NPY_FLOAT32, 0);
    if (out) {
        ha_core_call core = ha_core_begin(self, NULL);
        if (core.status == HA_OK)
            core.status = nll_of(self, &packed, PyArray_DATA(out));
        if (ha_core_end(&core) != HA_OK) {
            Py_CLEAR(out);
            ha_raise(core.status);
        }
    }
    ha_packed_clear(&packed);
    return (PyObject *)out;
}
