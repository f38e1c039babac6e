/* hybridattn._core.reference: the twins of ops_task.c. */
#include "python/ops.h"
#include "python/reference.h"

#define SIZE(letter) ha_size(&call, letter)

static PyObject *pool_sequences(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "pool", "lengths", NULL};
    PyObject *x_arg, *lengths = Py_None;
    const char *name = "first";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$sO:pool_sequences", names, &x_arg, &name, &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const int pool = ha_call_pool(&call, name);
    const double *x = ha_call_in(&call, x_arg, "x", "T d", 0);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    double *y = ha_call_out(&call, "S d");
    if (ha_call_run(&call))
        ref_pool_sequences(pool, &batch, SIZE('d'), x, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *softmax_cross_entropy(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"logits", "targets", "lengths", NULL};
    PyObject *x_arg, *target_arg, *lengths = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$O:softmax_cross_entropy", names, &x_arg, &target_arg, &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *x = ha_call_in(&call, x_arg, "logits", "T", 0);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    const int32_t *target = ha_call_piece_targets(&call, target_arg, &batch);
    double *loss = ha_call_out(&call, "S");
    if (ha_call_run(&call))
        ref_softmax_cross_entropy(&batch, x, target, loss);
    return ha_call_end(&call, HA_OK);
}

static PyObject *softmax_kl(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"teacher_logits", "logits", "lengths", NULL};
    PyObject *teacher_arg, *x_arg, *lengths = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$O:softmax_kl", names, &teacher_arg, &x_arg, &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *teacher = ha_call_in(&call, teacher_arg, "teacher_logits", "T", 0),
                 *x = ha_call_in(&call, x_arg, "logits", "T", 0);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    double *loss = ha_call_out(&call, "S");
    if (ha_call_run(&call))
        ref_softmax_kl(&batch, teacher, x, loss);
    return ha_call_end(&call, HA_OK);
}

static PyObject *error(PyObject *args, PyObject *kwargs,
                       void (*twin)(int rows, int d, const double *target, const double *y, double *loss))
{
    static char *names[] = {"target", "y", NULL};
    PyObject *target_arg, *y_arg;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:error", names, &target_arg, &y_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT64);
    const double *target = ha_call_in(&call, target_arg, "target", "T d", 0),
                 *y = ha_call_in(&call, y_arg, "y", "T d", 0);
    double *loss = ha_call_out(&call, "T");
    if (ha_call_run(&call))
        twin(SIZE('T'), SIZE('d'), target, y, loss);
    return ha_call_end(&call, HA_OK);
}

static PyObject *squared_error(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return error(args, kwargs, ref_squared_error);
}

static PyObject *relative_error(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return error(args, kwargs, ref_relative_error);
}

PyMethodDef ha_reference_task[] = {
    HA_FUNCTION(pool_sequences, "pool_sequences(x, *, pool='first', lengths=None)\n--\n\nAs ops.pool_sequences."),
    HA_FUNCTION(softmax_cross_entropy,
                "softmax_cross_entropy(logits, targets, *, lengths=None)\n--\n\nAs ops.softmax_cross_entropy."),
    HA_FUNCTION(softmax_kl, "softmax_kl(teacher_logits, logits, *, lengths=None)\n--\n\nAs ops.softmax_kl."),
    HA_FUNCTION(squared_error, "squared_error(target, y)\n--\n\nAs ops.squared_error."),
    HA_FUNCTION(relative_error, "relative_error(target, y)\n--\n\nAs ops.relative_error."),
    {0},
};
