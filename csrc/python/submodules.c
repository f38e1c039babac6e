/* Sub-modules made of the tables of operations; signatures are written from the descriptions. */
#include "python/submodules.h"

#include <string.h>

#include "python/operation_tables.h"

static const ha_entry *const tables[] = {ha_ops_linear,
                                         ha_ops_rows,
                                         ha_ops_norm,
                                         ha_ops_attention,
                                         ha_ops_linear_attention,
                                         ha_ops_recurrence,
                                         ha_ops_sequence,
                                         ha_ops_head_loss,
                                         ha_ops_row_loss,
                                         ha_ops_optimizer,
                                         ha_ops_task,
                                         ha_ops_mixers,
                                         NULL};
enum { FUNCTIONS = 96, TEXT = 2048 };

static const char ops_doc[] =
    "The operations of the core, one by one, on float32 arrays: new arrays out, the GIL released.\n\n"
    "T is the number of tokens of all sequences, one after the other; `lengths` cuts it into sequences (default: "
    "one).\n"
    "H heads, KV key heads (query head h reads key head h // (H // KV)). Every `name_vjp` takes the arguments of "
    "`name`\n"
    "and the gradients of its results, and returns the gradients of its arrays; it repeats the forward pass it needs.\n"
    "hybridattn._core.reference has the same functions as plain loops in float64, without gradients.";
static const char reference_doc[] = "The operations of the core as plain loops in float64, without gradients.";

/* text [TEXT] += piece, where it fits */
static void append(char *text, const char *piece)
{
    strncat(text, piece, TEXT - 1 - strlen(text));
}

/* "name(signature)\n--\n\ndocumentation" on memory of its own, as PyMethodDef takes it; NULL with
 * an exception. */
static char *text_of(const ha_operation *op, int naive)
{
    char text[TEXT] = "";
    append(text, op->name);
    append(text, "(");
    for (int i = 0; i < HA_CALL_VALUES && op->parameter[i].name; i++) {
        const ha_parameter *parameter = &op->parameter[i];
        if (parameter->naive_only && !naive)
            continue;
        append(text, i ? ", " : "");
        append(text, i == op->positional ? "*, " : "");
        append(text, parameter->name);
        append(text, parameter->fallback ? "=" : "");
        append(text, parameter->fallback ? parameter->fallback : "");
    }
    append(text, ")\n--\n\n");
    if (naive && op->fast && !op->naive_doc) {
        append(text, "As ops.");
        append(text, op->name);
        append(text, ".");
    } else {
        append(text, naive && op->naive_doc ? op->naive_doc : op->doc);
    }
    char *own = PyMem_RawMalloc(strlen(text) + 1);
    if (!own)
        PyErr_NoMemory();
    return own ? strcpy(own, text) : NULL;
}

/* Fills methods [FUNCTIONS] with what ops or reference has. They live as long as the process:
 * functions point to them. */
static int define(PyMethodDef *methods, int naive)
{
    int count = 0;
    for (int t = 0; tables[t]; t++)
        for (const ha_entry *entry = tables[t]; entry->operation; entry++) {
            const ha_operation *op = entry->operation;
            if (!(naive ? op->naive : op->fast))
                continue;
            char *text = count < FUNCTIONS - 1 ? text_of(op, naive) : NULL;
            if (!text) {
                methods[0] = (PyMethodDef){0}; /* not a whole table */
                return -1;
            }
            methods[count++] =
                (PyMethodDef){op->name, (PyCFunction)(void (*)(void))(naive ? entry->naive : entry->fast),
                              METH_VARARGS | METH_KEYWORDS, text};
        }
    return 0;
}

/* Makes one sub-module and adds it; -1 with an exception. */
static int add(PyObject *module, const char *name, int naive, const char *doc)
{
    static PyMethodDef methods[2][FUNCTIONS];
    if (!methods[naive][0].ml_name && define(methods[naive], naive) < 0)
        return -1;
    PyObject *full = PyUnicode_FromFormat("%s.%s", PyModule_GetName(module), name);
    PyObject *sub = full ? PyModule_NewObject(full) : NULL;
    const int failed = !sub || PyModule_SetDocString(sub, doc) < 0 || PyModule_AddFunctions(sub, methods[naive]) < 0 ||
                       PyModule_AddObjectRef(module, name, sub) < 0 ||
                       PyDict_SetItem(PyImport_GetModuleDict(), full, sub) < 0;
    Py_XDECREF(full);
    Py_XDECREF(sub);
    return failed ? -1 : 0;
}

int ha_add_ops(PyObject *module)
{
    return add(module, "ops", 0, ops_doc);
}

int ha_add_reference(PyObject *module)
{
    return add(module, "reference", 1, reference_doc);
}
