/* From a description and what Python passes to a call with values, checked arrays and results. */
#include "python/operation.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "python/arrays.h"

/* True when the function of this type has the parameter. */
static int has(const ha_parameter *parameter, int type)
{
    return !parameter->naive_only || type == NPY_FLOAT64;
}

/* Sets value->object of every parameter that was passed, as Python's own functions do. */
static int parse(const ha_operation *op, PyObject *args, PyObject *kwargs, ha_call *call)
{
    char *names[HA_CALL_VALUES + 1] = {NULL};
    char format[2 * HA_CALL_VALUES + 64], *at = format;
    PyObject *passed[HA_CALL_VALUES] = {NULL};
    int count = 0, optional = 0;
    for (int i = 0; i < HA_CALL_VALUES && op->parameter[i].name; i++) {
        const ha_parameter *parameter = &op->parameter[i];
        if (!has(parameter, call->type))
            continue;
        if (parameter->fallback && !optional++)
            *at++ = '|';
        if (i == op->positional)
            *at++ = '$';
        *at++ = 'O';
        call->value[count].name = names[count] = (char *)parameter->name;
        call->value[count++].required = !parameter->fallback && !parameter->nullable;
    }
    PyOS_snprintf(at, sizeof format - (size_t)(at - format), ":%s", op->name);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &passed[0], &passed[1], &passed[2], &passed[3],
                                     &passed[4], &passed[5], &passed[6], &passed[7], &passed[8], &passed[9],
                                     &passed[10], &passed[11], &passed[12], &passed[13], &passed[14], &passed[15]))
        return -1;
    for (int i = 0; i < count; i++)
        call->value[i].object = passed[i];
    return 0;
}

/* The number of one of some names, -1 without an exception when it is none of them. */
static int choice_of(const char *const *names, const char *name, size_t length)
{
    for (int i = 0; names[i]; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0)
            return i;
    return -1;
}

/* The ValueError for a name that is none of `names`. */
static void refuse_choice(const char *what, const char *const *names, const char *name)
{
    char allowed[128] = "";
    for (int i = 0; names[i]; i++) {
        size_t used = strlen(allowed);
        PyOS_snprintf(allowed + used, sizeof allowed - used, "%s%s", !i ? "" : names[i + 1] ? ", " : " and ", names[i]);
    }
    PyErr_Format(PyExc_ValueError, "%s is '%s', allowed are %s", what, name, allowed);
}

/* Numbers, flags and choices as Python writes them in a default. */
static void read_default(const ha_parameter *parameter, ha_value *value)
{
    const char *text = parameter->fallback;
    char *end;
    switch (parameter->kind) {
    case HA_NUMBER:
        value->given = strcmp(text, "None") != 0;
        value->number = value->given ? PyOS_string_to_double(text, NULL, NULL) : 0.0;
        break;
    case HA_PAIR:
        value->number = PyOS_string_to_double(text + 1, &end, NULL);
        value->second = PyOS_string_to_double(end + 2, &end, NULL);
        break;
    case HA_INT:
    case HA_INT64:
        value->whole = atoi(text);
        break;
    case HA_FLAG:
        value->given = text[0] == 'T';
        value->whole = value->given;
        break;
    case HA_CHOICE:
        value->whole = choice_of(parameter->choices, text + 1, strlen(text) - 2);
        break;
    default:
        break;
    }
}

/* number and second from a sequence of two */
static void read_pair(ha_value *value)
{
    PyObject *pair = ha_tuple_arg(value->object, value->name, "two numbers");
    if (pair && PyTuple_GET_SIZE(pair) != 2)
        PyErr_Format(PyExc_TypeError, "%s has %zd numbers, expected two", value->name, PyTuple_GET_SIZE(pair));
    else if (pair) {
        value->number = PyFloat_AsDouble(PyTuple_GET_ITEM(pair, 0));
        value->second = PyErr_Occurred() ? 0.0 : PyFloat_AsDouble(PyTuple_GET_ITEM(pair, 1));
    }
    Py_XDECREF(pair);
}

/* whole from an int; narrow: it must fit a C int */
static void read_whole(ha_value *value, int narrow)
{
    value->whole = PyLong_AsLongLong(value->object);
    if (!PyErr_Occurred() && narrow && (value->whole < INT_MIN || value->whole > INT_MAX))
        PyErr_Format(PyExc_OverflowError, "%s is %lld, allowed are %d to %d", value->name, (long long)value->whole,
                     INT_MIN, INT_MAX);
}

/* whole from one of the names */
static void read_choice(const ha_parameter *parameter, ha_value *value)
{
    Py_ssize_t length;
    const char *name = NULL;
    if (PyUnicode_Check(value->object))
        name = PyUnicode_AsUTF8AndSize(value->object, &length);
    else
        PyErr_Format(PyExc_TypeError, "%s is a %s, expected str", value->name, Py_TYPE(value->object)->tp_name);
    if (name && (value->whole = choice_of(parameter->choices, name, (size_t)length)) < 0)
        refuse_choice(value->name, parameter->choices, name);
}

/* Numbers, flags and choices as they were passed; leaves an exception where one is not what it
 * should be. */
static void read_passed(const ha_parameter *parameter, ha_value *value)
{
    switch (parameter->kind) {
    case HA_NUMBER:
        value->given = value->required || value->object != Py_None || strcmp(parameter->fallback, "None") != 0;
        value->number = value->given ? PyFloat_AsDouble(value->object) : 0.0;
        break;
    case HA_PAIR:
        read_pair(value);
        break;
    case HA_INT:
    case HA_INT64:
        read_whole(value, parameter->kind == HA_INT);
        break;
    case HA_FLAG:
        value->whole = PyObject_IsTrue(value->object);
        value->given = value->whole > 0;
        break;
    case HA_CHOICE:
        read_choice(parameter, value);
        break;
    default:
        break;
    }
}

/* True for a shape with a letter that `check` sets. */
static int is_derived(const ha_operation *op, const ha_parameter *parameter)
{
    return op->derived && strpbrk(parameter->shape, op->derived) != NULL;
}

/* Arrays, by their kind. */
static void read_array(const ha_parameter *parameter, ha_call *call, ha_value *value)
{
    if (parameter->kind == HA_ARRAY)
        ha_call_array(call, value, parameter->shape, parameter->other);
    else if (parameter->kind == HA_IN_PLACE)
        ha_call_in_place(call, value, parameter->shape);
    else if (parameter->kind == HA_INTEGERS)
        ha_call_integers(call, value, parameter->shape, parameter->low,
                         parameter->end ? ha_size(call, parameter->end) : INT32_MAX);
}

/* Plain values first; then arrays of one kind and of one side of `check`. The first array tells how
 * many tokens there are, and lengths, read behind it, how many sequences. */
typedef enum { PLAIN, FLOATS, INTEGERS, DERIVED } stage;

/* When a parameter is read. */
static stage stage_of(const ha_operation *op, const ha_parameter *parameter)
{
    switch (parameter->kind) {
    case HA_ARRAY:
    case HA_IN_PLACE:
        return is_derived(op, parameter) ? DERIVED : FLOATS;
    case HA_INTEGERS:
        return is_derived(op, parameter) ? DERIVED : INTEGERS;
    default:
        return PLAIN;
    }
}

/* call->batch from the parameter of that kind, where there is one */
static void read_lengths(const ha_operation *op, ha_call *call)
{
    for (int i = 0; i < HA_CALL_VALUES && op->parameter[i].name; i++)
        if (op->parameter[i].kind == HA_LENGTHS)
            ha_call_lengths(call, ha_argument(call, op->parameter[i].name)->object, op->parameter[i].name,
                            ha_size(call, 'T'), &call->batch);
}

/* Reads the parameters of one stage, in their order. */
static void read_stage(const ha_operation *op, ha_call *call, stage wanted)
{
    for (int i = 0, at = 0; i < HA_CALL_VALUES && op->parameter[i].name; i++) {
        const ha_parameter *parameter = &op->parameter[i];
        if (!has(parameter, call->type))
            continue;
        ha_value *value = &call->value[at++];
        if (call->failed || stage_of(op, parameter) != wanted)
            continue;
        if (wanted != PLAIN)
            read_array(parameter, call, value);
        else if (value->object)
            read_passed(parameter, value);
        else
            read_default(parameter, value);
        call->failed |= PyErr_Occurred() != NULL;
        if (wanted == FLOATS && i == 0 && !call->failed)
            read_lengths(op, call);
    }
}

/* The results whose parameter is given. */
static void make_results(const ha_operation *op, ha_call *call)
{
    for (int i = 0; i < HA_CALL_RESULTS && !call->failed; i++) {
        const ha_result *result = &op->result[i];
        if (!result->shape && !result->when)
            return;
        const ha_value *when = result->when ? ha_argument(call, result->when) : NULL;
        if (!when || when->given)
            ha_call_result(call, i, result->shape ? result->shape : when->shape, result->doubles);
        else if (result->none)
            ha_call_result_none(call, i);
    }
}

PyObject *ha_operate(const ha_operation *op, int type, PyObject *args, PyObject *kwargs)
{
    ha_call call = {.type = type};
    if (parse(op, args, kwargs, &call) < 0)
        return NULL;
    read_stage(op, &call, PLAIN);
    read_stage(op, &call, FLOATS);
    read_stage(op, &call, INTEGERS);
    if (op->check && !call.failed)
        op->check(&call);
    read_stage(op, &call, DERIVED);
    make_results(op, &call);
    ha_status status = HA_OK;
    if (ha_call_run(&call))
        status = (type == NPY_FLOAT32 ? op->fast : op->naive)(&call);
    return ha_call_end(&call, status);
}
