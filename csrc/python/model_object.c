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

/* 0, or -1 with a ValueError that says in what a teacher and the model called `name` differ. */
static int compare(const ha_model *teacher, const ha_model *model, const char *name)
{
    static const char *const tasks[] = {"none", "classify", "regress", "span"}, *const heads[] = {"no", "an"};
    const ha_config *theirs = &teacher->config, *own = &model->config;
    const struct {
        const char *what;
        int teacher, model;
        const char *const *names; /* of the values, NULL where they are numbers */
    } same[] = {{"vocab_size", theirs->vocab_size, own->vocab_size, NULL},
                {"hidden_size", theirs->hidden_size, own->hidden_size, NULL},
                {"task", (int)theirs->task.kind, (int)own->task.kind, tasks},
                {"num_labels", theirs->task.labels, own->task.labels, NULL},
                {"LM head", teacher->head != HA_NONE, model->head != HA_NONE, heads}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        const int first = same[i].teacher, second = same[i].model;
        if (first == second)
            continue;
        if (same[i].names)
            PyErr_Format(PyExc_ValueError, "teacher and %s differ: %s '%s' and '%s', allowed are equal ones", name,
                         same[i].what, same[i].names[first], same[i].names[second]);
        else
            PyErr_Format(PyExc_ValueError, "teacher and %s differ: %s %d and %d, allowed are equal ones", name,
                         same[i].what, first, second);
        return -1;
    }
    return 0;
}

int ha_teacher_arg(module_state *state, PyObject *object, const model_object *model, const char *name,
                   model_object **teacher)
{
    *teacher = NULL;
    if (object == Py_None)
        return 0;
    *teacher = ha_model_arg(state, object, "teacher");
    return *teacher ? compare((*teacher)->model, model->model, name) : -1;
}
