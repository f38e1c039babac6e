/* The state of the module and its definition. */
#include "python/state.h"

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    Py_VISIT(state->tensor);
    Py_VISIT(state->model);
    Py_VISIT(state->cache);
    Py_VISIT(state->scorer);
    Py_VISIT(state->distiller);
    return 0;
}

static int clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->tensor);
    Py_CLEAR(state->model);
    Py_CLEAR(state->cache);
    Py_CLEAR(state->scorer);
    Py_CLEAR(state->distiller);
    return 0;
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hybridattn._core",
    .m_doc = "Tensors, attention kernels, KL layer scoring and distillation in C.",
    .m_size = sizeof(module_state),
    .m_traverse = traverse,
    .m_clear = clear,
};

module_state *ha_state_of(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &definition);
    return module ? PyModule_GetState(module) : NULL;
}

PyObject *ha_state_define(PyMethodDef *methods, PyModuleDef_Slot *slots)
{
    definition.m_methods = methods;
    definition.m_slots = slots;
    return PyModuleDef_Init(&definition);
}
