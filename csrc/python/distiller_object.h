/* The object behind Distiller. */
#ifndef HA_PYTHON_DISTILLER_OBJECT_H
#define HA_PYTHON_DISTILLER_OBJECT_H

#include "distill/distill.h"
#include "python/model_object.h"

typedef struct {
    PyObject_HEAD model_object *student, *teacher;
    ha_trainer *trainer;
    ha_stage stage;
} distiller_object;

#endif
