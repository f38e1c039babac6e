/* An operation of hybridattn._core.ops and its naive twin in hybridattn._core.reference, described
 * once.
 *
 * The description lists parameters and results. From it come the signature that Python shows, the
 * checks of what is passed and the arrays of the results. What is left to the operation is `check`,
 * where it has rules of its own, and the two functions that compute: `fast` on float32, `naive` on
 * float64. */
#ifndef HA_PYTHON_OPERATION_H
#define HA_PYTHON_OPERATION_H

#include "python/call.h"
#include "python/call_run.h"

typedef enum {
    HA_ARRAY,    /* floating-point numbers of a shape */
    HA_IN_PLACE, /* the same, changed by the call */
    HA_INTEGERS, /* whole numbers of a shape */
    HA_LENGTHS,  /* lengths of the sequences, which add up to 'T' */
    HA_NUMBER,
    HA_PAIR, /* two numbers */
    HA_INT,
    HA_INT64,
    HA_FLAG,
    HA_CHOICE, /* one of some names, as its number */
    HA_OBJECT  /* anything: for `check` */
} ha_parameter_kind;

typedef struct {
    const char *name;
    const char *fallback; /* the default as Python writes it; NULL: it must be passed */
    ha_parameter_kind kind;
    int naive_only;            /* only the twin has it */
    int nullable;              /* must be passed, and may be None */
    const char *shape, *other; /* of an array; other: a second shape that it may have */
    const char *const *choices;
    int low; /* integers are low .. size of letter `end` - 1, or without a letter any from low on */
    char end;
} ha_parameter;

/* The parameters that most operations have. */
#define HA_PARAM_ARRAY(name_, shape_)                      \
    {                                                      \
        .name = name_, .kind = HA_ARRAY, .shape = (shape_) \
    }
#define HA_PARAM_OPTIONAL(name_, shape_)                                       \
    {                                                                          \
        .name = name_, .kind = HA_ARRAY, .shape = (shape_), .fallback = "None" \
    }
#define HA_PARAM_INTEGERS(name_, shape_, low_, end_)                                        \
    {                                                                                       \
        .name = name_, .kind = HA_INTEGERS, .shape = (shape_), .low = (low_), .end = (end_) \
    }
#define HA_PARAM(kind_, name_, fallback_)                       \
    {                                                           \
        .name = name_, .kind = (kind_), .fallback = (fallback_) \
    }
#define HA_PARAM_LENGTHS HA_PARAM(HA_LENGTHS, "lengths", "None")

typedef struct {
    const char *shape; /* NULL: that of the array `when` */
    const char *when;  /* a parameter that must be given, or true; NULL: always there */
    int none;          /* otherwise None; left out without this */
    int doubles;       /* float64 in ops too */
} ha_result;

typedef struct ha_operation {
    const char *name;
    const char *doc;       /* what stands behind the signature */
    const char *naive_doc; /* the same of the twin; NULL: "As ops.<name>." */
    int positional;        /* so many may be passed by position, the others by name only */
    ha_parameter parameter[HA_CALL_VALUES];
    ha_result result[HA_CALL_RESULTS];
    /* Letters whose sizes `check` sets. Arrays that have one are read after it, all others
     * before. */
    const char *derived;
    void (*check)(ha_call *call);
    ha_status (*fast)(const ha_call *call);  /* NULL: not in ops */
    ha_status (*naive)(const ha_call *call); /* NULL: not in reference */
} ha_operation;

/* Calls op->fast with arrays of NPY_FLOAT32, op->naive with arrays of NPY_FLOAT64. */
PyObject *ha_operate(const ha_operation *op, int type, PyObject *args, PyObject *kwargs);

/* An operation with the two functions that Python calls. */
typedef struct {
    const ha_operation *operation;
    PyCFunctionWithKeywords fast, naive;
} ha_entry;

/* Defines these functions for the description `name`; HA_ENTRY(name) puts them in a table, which
 * {0} ends. */
#define HA_OPERATION(name)                                                                 \
    static PyObject *call_##name(PyObject *module, PyObject *args, PyObject *kwargs)       \
    {                                                                                      \
        (void)module;                                                                      \
        return ha_operate(&(name), NPY_FLOAT32, args, kwargs);                             \
    }                                                                                      \
    static PyObject *call_naive_##name(PyObject *module, PyObject *args, PyObject *kwargs) \
    {                                                                                      \
        (void)module;                                                                      \
        return ha_operate(&(name), NPY_FLOAT64, args, kwargs);                             \
    }
#define HA_ENTRY(name)                          \
    {                                           \
        &(name), call_##name, call_naive_##name \
    }

#endif
