/* ops of the heads of tasks: pool_sequences, and losses on logits. */
#include "python/ops.h"

#include <string.h>

#include "ops/ops.h"

#define SIZE(letter) ha_size(&call, letter)

int ha_call_pool(ha_call *call, const char *name)
{
    static const char *const names[] = {"first", "last", "mean"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    ha_call_require(call, 0, "pool is '%s', allowed are first, last and mean", name);
    return 0;
}

static PyObject *pool_sequences(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "pool", "lengths", NULL};
    PyObject *x_arg, *lengths = Py_None;
    const char *name = "first";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$sO:pool_sequences", names, &x_arg, &name, &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const ha_pool_kind pool = (ha_pool_kind)ha_call_pool(&call, name);
    const float *x = ha_call_in(&call, x_arg, "x", "T d", 0);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    float *y = ha_call_out(&call, "S d");
    if (ha_call_run(&call))
        ha_pool_sequences(pool, &batch, SIZE('d'), x, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *pool_sequences_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "dy", "pool", "lengths", NULL};
    PyObject *x_arg, *dy_arg, *lengths = Py_None;
    const char *name = "first";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$sO:pool_sequences_vjp", names, &x_arg, &dy_arg, &name,
                                     &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const ha_pool_kind pool = (ha_pool_kind)ha_call_pool(&call, name);
    ha_call_in(&call, x_arg, "x", "T d", 0);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    const float *dy = ha_call_in(&call, dy_arg, "dy", "S d", 0);
    float *dx = ha_call_out(&call, "T d");
    if (ha_call_run(&call))
        ha_pool_sequences_backward(pool, &batch, SIZE('d'), dy, dx);
    return ha_call_end(&call, HA_OK);
}

const int32_t *ha_call_piece_targets(ha_call *call, PyObject *object, const ha_batch *batch)
{
    const int32_t *target = ha_call_in_int(call, object, "targets", "S", 0, INT32_MAX);
    for (int s = 0; !call->failed && s < batch->n_seq; s++)
        ha_call_require(call, target[s] < batch->offset[s + 1] - batch->offset[s],
                        "targets[%d] is %d, allowed are 0 to %d", s, target[s],
                        batch->offset[s + 1] - batch->offset[s] - 1);
    return target;
}

/* x, or a copy on the arena that a loss may use up */
static float *copy(ha_call *call, const float *x, size_t n)
{
    float *own = ha_arena_push(call->arena, n, sizeof *own);
    if (own)
        memcpy(own, x, n * sizeof *own);
    return own;
}

static PyObject *softmax_loss(PyObject *args, PyObject *kwargs, int kl, int vjp)
{
    static char *names[2][2][5] = {
        {{"logits", "targets", "lengths", NULL}, {"logits", "targets", "dloss", "lengths"}},
        {{"teacher_logits", "logits", "lengths", NULL}, {"teacher_logits", "logits", "dloss", "lengths"}}};
    PyObject *first, *second, *lengths = Py_None;
    double dloss = 1.0;
    if (vjp ? !PyArg_ParseTupleAndKeywords(args, kwargs, "OO|d$O:softmax_loss_vjp", names[kl][1], &first, &second,
                                           &dloss, &lengths)
            : !PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$O:softmax_loss", names[kl][0], &first, &second, &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *teacher = kl ? ha_call_in(&call, first, "teacher_logits", "T", 0) : NULL;
    const float *x = ha_call_in(&call, kl ? second : first, "logits", "T", 0);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    const int32_t *target = kl ? NULL : ha_call_piece_targets(&call, second, &batch);
    double *loss = vjp ? NULL : ha_call_out_double(&call, "S");
    float *dx = vjp ? ha_call_out(&call, "T") : NULL;
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        const size_t n = (size_t)SIZE('T');
        float *own = copy(&call, x, n), *theirs = kl ? copy(&call, teacher, n) : NULL;
        if (!loss)
            loss = ha_arena_push(call.arena, (size_t)batch.n_seq, sizeof *loss);
        status = own && loss && (theirs || !kl) ? HA_OK : HA_NO_MEMORY;
        const float scale = vjp ? (float)dloss : 0.0f;
        if (status == HA_OK && kl)
            ha_pieces_kl(batch.n_seq, batch.offset, theirs, own, scale, loss);
        else if (status == HA_OK)
            ha_pieces_cross_entropy(batch.n_seq, batch.offset, own, target, scale, loss);
        if (status == HA_OK && scale != 0.0f)
            memcpy(dx, own, n * sizeof *dx);
    }
    return ha_call_end(&call, status);
}

static PyObject *softmax_cross_entropy(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return softmax_loss(args, kwargs, 0, 0);
}

static PyObject *softmax_cross_entropy_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return softmax_loss(args, kwargs, 0, 1);
}

static PyObject *softmax_kl(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return softmax_loss(args, kwargs, 1, 0);
}

static PyObject *softmax_kl_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return softmax_loss(args, kwargs, 1, 1);
}

PyMethodDef ha_ops_task[] = {
    HA_FUNCTION(pool_sequences, "pool_sequences(x, *, pool='first', lengths=None)\n--\n\n"
                                "The 'first' or 'last' row of each sequence, or the 'mean' of its rows: x [T,d] -> "
                                "[sequences,d]."),
    HA_FUNCTION(pool_sequences_vjp, "pool_sequences_vjp(x, dy, *, pool='first', lengths=None)\n--\n\n"
                                    "dy [sequences,d] -> dx."),
    HA_FUNCTION(softmax_cross_entropy,
                "softmax_cross_entropy(logits, targets, *, lengths=None)\n--\n\n-log softmax(logits)[target] over each "
                "piece, in nats: logits [T], `lengths` of the pieces (default: one), targets [pieces] within them -> "
                "float64 [pieces]."),
    HA_FUNCTION(softmax_cross_entropy_vjp, "softmax_cross_entropy_vjp(logits, targets, dloss=1.0, *, lengths=None)\n--"
                                           "\n\ndloss, the same for every piece -> dlogits."),
    HA_FUNCTION(softmax_kl, "softmax_kl(teacher_logits, logits, *, lengths=None)\n--\n\nKL(teacher || student) of the "
                            "softmax over each piece, in nats: logits [T] -> float64 [pieces]."),
    HA_FUNCTION(softmax_kl_vjp, "softmax_kl_vjp(teacher_logits, logits, dloss=1.0, *, lengths=None)\n--\n\n"
                                "dloss, the same for every piece -> dlogits of the student."),
    {0},
};
