/* Models as arguments. */
#include "python/model_object.h"

int ha_model_ready(model_object *self)
{
    if (!self->model)
        PyErr_SetString(PyExc_RuntimeError, "Model.__init__ was not called or failed");
    return self->model != NULL;
}

model_object *ha_model_arg(module_state *state, PyObject *object, const char *name)
{
    if (!PyObject_TypeCheck(object, state->model)) {
        PyErr_Format(PyExc_TypeError, "%s is a %s, expected a Model", name, Py_TYPE(object)->tp_name);
        return NULL;
    }
    model_object *model = (model_object *)object;
    return ha_model_ready(model) ? model : NULL;
}

int ha_comparable(model_object *teacher, model_object *model, const char *other)
{
    const ha_config *a = &teacher->model->config, *b = &model->model->config;
    static const char *const tasks[] = {"none", "classify", "regress", "span"}, *const heads[] = {"no", "an"};
    const struct {
        const char *what;
        int teacher, model;
        const char *const *names; /* of the values, NULL where they are numbers */
    } same[] = {{"vocab_size", a->vocab_size, b->vocab_size, NULL},
                {"hidden_size", a->hidden_size, b->hidden_size, NULL},
                {"task", (int)a->task.kind, (int)b->task.kind, tasks},
                {"num_labels", a->task.labels, b->task.labels, NULL},
                {"LM head", teacher->model->head != HA_NONE, model->model->head != HA_NONE, heads}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        const int t = same[i].teacher, m = same[i].model;
        if (t == m)
            continue;
        if (same[i].names)
            PyErr_Format(PyExc_ValueError, "teacher and %s differ: %s '%s' and '%s', allowed are equal ones", other,
                         same[i].what, same[i].names[t], same[i].names[m]);
        else
            PyErr_Format(PyExc_ValueError, "teacher and %s differ: %s %d and %d, allowed are equal ones", other,
                         same[i].what, t, m);
        return -1;
    }
    return 0;
}
