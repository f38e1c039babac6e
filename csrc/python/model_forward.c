/* Model.logits, Model.hidden and Model.nll: forward passes over padded token arrays. */
#include "python/model_forward.h"

#include "ops/ops.h"
#include "distill/distill.h"
#include "python/cache_object.h"
#include "python/model_lock.h"
#include "python/padded_tokens.h"
#include "python/raise.h"

/* hidden states of packed sequences, [rows, hidden]; a cache continues its sequences instead of
 * starting new ones */
static ha_status packed_hidden(model_object *self, const packed *p, ha_cache *cache, float *hidden,
                               const ha_interrupt *check)
{
    const ha_windows w = {p->token, p->window, p->n_seq, self->model->config.vocab_size, p->segment};
    if (!cache)
        return ha_windows_hidden(self->model, &w, hidden, &self->arena, check);
    ha_batch batch;
    int *extra;
    HA_TRY(ha_windows_batch(&w, 0, p->n_seq, 1, &self->arena, &batch));
    HA_PUSH(extra, &self->arena, (size_t)p->n_seq);
    int32_t *position = (int32_t *)batch.position;
    for (int s = 0; s < p->n_seq; s++) {
        extra[s] = batch.offset[s + 1] - batch.offset[s];
        for (int r = batch.offset[s]; r < batch.offset[s + 1]; r++)
            position[r] += ha_cache_length(cache, s);
    }
    HA_TRY(ha_cache_reserve(cache, extra));
    return ha_model_hidden(self->model, NULL, &batch, cache, hidden, &self->arena, check);
}

/* Rows of all sequences, or, with room for them in `last` [B,hidden], only the last of each, to an
 * array [B,T,width] or [B,width]: hidden states or logits. */
static void unpack(model_object *self, const packed *p, const float *hidden, float *last, int logits, float *out)
{
    const size_t d = (size_t)self->model->config.hidden_size,
                 width = logits ? (size_t)self->model->config.vocab_size : d;
    if (last) {
        for (int s = 0; s < p->n_seq; s++)
            memcpy(last + (size_t)s * d, hidden + (size_t)(p->window[2 * s + 1] - 1) * d, d * sizeof *last);
        ha_model_logits(self->model, p->n_seq, last, out);
        return;
    }
    for (int s = 0; s < p->n_seq; s++) {
        int n = (int)(p->window[2 * s + 1] - p->window[2 * s]);
        float *to = out + ((size_t)s * (size_t)p->width + (size_t)p->first[s]) * width;
        const float *from = hidden + (size_t)p->window[2 * s] * d;
        if (logits)
            ha_model_logits(self->model, n, from, to);
        else
            memcpy(to, from, (size_t)n * d * sizeof *to);
    }
}

/* All memory is taken before a cache moves on, so that what follows it cannot fail. */
static ha_status packed_run(model_object *self, const packed *p, ha_cache *cache, int last, int logits, float *out,
                            const ha_interrupt *check)
{
    const size_t d = (size_t)self->model->config.hidden_size;
    float *hidden, *rows = NULL;
    HA_PUSH(hidden, &self->arena, (size_t)p->rows * d);
    if (last)
        HA_PUSH(rows, &self->arena, (size_t)p->n_seq * d);
    HA_TRY(packed_hidden(self, p, cache, hidden, check));
    unpack(self, p, hidden, rows, logits, out);
    return HA_OK;
}

static cache_object *cache_arg(model_object *self, PyObject *object, int n_seq)
{
    module_state *state = ha_state_of(Py_TYPE(self));
    if (!state)
        return NULL;
    if (!PyObject_TypeCheck(object, state->cache)) {
        PyErr_Format(PyExc_TypeError, "cache is a %s, expected a Cache", Py_TYPE(object)->tp_name);
        return NULL;
    }
    cache_object *cache = (cache_object *)object;
    if (cache->owner != self) {
        PyErr_SetString(PyExc_ValueError, "cache belongs to another model");
        return NULL;
    }
    if (ha_cache_sequences(cache->cache) != n_seq) {
        PyErr_Format(PyExc_ValueError, "tokens has %d sequences and the cache %d", n_seq,
                     ha_cache_sequences(cache->cache));
        return NULL;
    }
    return cache;
}

static int meets(model_object *self, ha_status (*need)(const ha_model *))
{
    const ha_status status = need(self->model);
    if (status != HA_OK)
        ha_raise(status);
    return status == HA_OK;
}

static PyObject *run(model_object *self, PyObject *tokens, PyObject *mask, PyObject *cache, PyObject *segments,
                     int last, int logits)
{
    packed p;
    cache_object *state = NULL;
    if (!ha_model_ready(self) || (logits && !meets(self, ha_model_need_head)) ||
        ha_pack(self, tokens, mask, segments, &p) < 0)
        return NULL;
    const ha_config *c = &self->model->config;
    npy_intp shape[3] = {p.n_seq, last ? (logits ? c->vocab_size : c->hidden_size) : p.width,
                         logits ? c->vocab_size : c->hidden_size};
    if (cache != Py_None && !(state = cache_arg(self, cache, p.n_seq))) {
        ha_pack_clear(&p);
        return NULL;
    }
    PyArrayObject *out = (PyArrayObject *)PyArray_ZEROS(last ? 2 : 3, shape, NPY_FLOAT32, 0);
    if (out) {
        ha_core_call core = ha_core_begin(self, NULL);
        if (core.status == HA_OK)
            core.status =
                packed_run(self, &p, state ? state->cache : NULL, last, logits, PyArray_DATA(out), &ha_signals);
        const ha_status status = ha_core_end(&core);
        if (status != HA_OK) {
            Py_CLEAR(out);
            ha_raise(status);
        }
    }
    ha_pack_clear(&p);
    return (PyObject *)out;
}

PyObject *ha_model_logits_method(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "mask", "cache", "last", "segments", NULL};
    PyObject *tokens, *mask = Py_None, *cache = Py_None, *segments = Py_None;
    int last = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOpO:logits", names, &tokens, &mask, &cache, &last, &segments))
        return NULL;
    return run(self, tokens, mask, cache, segments, last, 1);
}

PyObject *ha_model_hidden_method(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "mask", "cache", "segments", NULL};
    PyObject *tokens, *mask = Py_None, *cache = Py_None, *segments = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOO:hidden", names, &tokens, &mask, &cache, &segments))
        return NULL;
    return run(self, tokens, mask, cache, segments, 0, 0);
}

static ha_status packed_nll(model_object *self, const packed *p, float *out, const ha_interrupt *check)
{
    const ha_model *m = self->model;
    const ha_windows w = {p->token, p->window, p->n_seq, m->config.vocab_size, p->segment};
    float *hidden;
    double *loss;
    int32_t *target;
    HA_PUSH(hidden, &self->arena, (size_t)p->rows * (size_t)m->config.hidden_size);
    HA_PUSH(loss, &self->arena, (size_t)p->rows);
    HA_PUSH(target, &self->arena, (size_t)p->rows);
    for (int s = 0; s < p->n_seq; s++)
        for (int64_t r = p->window[2 * s]; r < p->window[2 * s + 1]; r++)
            target[r] = r + 1 < p->window[2 * s + 1] ? p->token[r + 1] : -1;
    HA_TRY(ha_windows_hidden(m, &w, hidden, &self->arena, check));
    HA_TRY(ha_head_cross_entropy(p->rows, m->config.hidden_size, m->config.vocab_size, hidden, ha_model_head(m), target,
                                 0.0f, loss, NULL, (ha_head_gradient){0}, check, &self->arena));
    for (int s = 0; s < p->n_seq; s++)
        for (int64_t i = 0; i + 1 < p->window[2 * s + 1] - p->window[2 * s]; i++)
            out[(size_t)s * (size_t)(p->width - 1) + (size_t)(p->first[s] + i)] = (float)loss[p->window[2 * s] + i];
    return HA_OK;
}

PyObject *ha_model_nll_method(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "mask", NULL};
    PyObject *tokens, *mask = Py_None;
    packed p;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:nll", names, &tokens, &mask))
        return NULL;
    if (!ha_model_ready(self) || !meets(self, ha_model_need_next) || ha_pack(self, tokens, mask, Py_None, &p) < 0)
        return NULL;
    npy_intp shape[2] = {p.n_seq, p.width - 1};
    PyArrayObject *out = (PyArrayObject *)PyArray_ZEROS(2, shape, NPY_FLOAT32, 0);
    if (out) {
        ha_core_call core = ha_core_begin(self, NULL);
        if (core.status == HA_OK)
            core.status = packed_nll(self, &p, PyArray_DATA(out), &ha_signals);
        const ha_status status = ha_core_end(&core);
        if (status != HA_OK) {
            Py_CLEAR(out);
            ha_raise(status);
        }
    }
    ha_pack_clear(&p);
    return (PyObject *)out;
}
