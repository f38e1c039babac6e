/* Storage types by their names in Python. */
#ifndef HA_PYTHON_DTYPE_ARG_H
#define HA_PYTHON_DTYPE_ARG_H

#include "core/dtype.h"
#include "python/api.h"

/* One of the first `count` storage types by name; -1 with a ValueError that lists them. */
int ha_dtype_parse(const char *name, int count, ha_dtype *dtype);

#endif
