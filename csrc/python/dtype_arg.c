/* A storage type by its name. */
#include "python/dtype_arg.h"

#include <string.h>

int ha_dtype_parse(const char *name, int count, ha_dtype *dtype)
{
    char allowed[128] = "";
    for (int i = 0; i < count; i++) {
        if (!strcmp(name, ha_dtype_name((ha_dtype)i))) {
            *dtype = (ha_dtype)i;
            return 0;
        }
        size_t used = strlen(allowed);
        snprintf(allowed + used, sizeof allowed - used, "%s%s", i ? ", " : "", ha_dtype_name((ha_dtype)i));
    }
    PyErr_Format(PyExc_ValueError, "dtype is '%s', allowed are %s", name, allowed);
    return -1;
}
