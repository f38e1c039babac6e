/* hybridattn._core.ops: every operation of the core on float32 arrays, with its vector-Jacobian product. */
#include "python/ops.h"

static const char doc[] =
    "The operations of the core, one by one, on float32 arrays: new arrays out, the GIL released.\n\n"
    "T is the number of tokens of all sequences, one after the other; `lengths` cuts it into sequences (default: "
    "one).\n"
    "H heads, KV key heads (query head h reads key head h // (H // KV)). Every `name_vjp` takes the arguments of "
    "`name`\n"
    "and the gradients of its results, and returns the gradients of its arrays; it repeats the forward pass it needs.\n"
    "hybridattn._core.reference has the same functions as plain loops in float64, without gradients.";

int ha_add_ops(PyObject *module)
{
    PyMethodDef *const tables[] = {ha_ops_rows,       ha_ops_norm,
                                   ha_ops_attention,  ha_ops_linear_attention,
                                   ha_ops_recurrence, ha_ops_short_conv,
                                   ha_ops_pool,       ha_ops_losses,
                                   ha_ops_task,       NULL};
    return ha_add_submodule(module, "ops", doc, tables);
}
