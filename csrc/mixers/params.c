#include "mixers/params.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

ha_status ha_params_add(ha_params *params, const char *prefix, const char *name, ha_group group, int layer, int aligns,
                        int join, int ndim, int d0, int d1, int d2, size_t *offset)
{
    if (params->count == params->capacity) {
        int capacity = params->capacity ? 2 * params->capacity : 64;
        ha_param *list = realloc(params->list, (size_t)capacity * sizeof *list);
        if (!list)
            return ha_fail(HA_NO_MEMORY, "out of memory for the parameter table");
        params->list = list;
        params->capacity = capacity;
    }
    ha_param *p = &params->list[params->count];
    *p = (ha_param){.ndim = ndim, .shape = {d0, d1, d2}, .group = group, .layer = layer, .aligns = aligns, .count = 1};
    snprintf(p->name, sizeof p->name, "%s%s", prefix, name);
    for (int i = 0; i < ndim; i++)
        if (__builtin_mul_overflow(p->count, (size_t)p->shape[i], &p->count))
            return ha_fail(HA_NO_MEMORY, "parameter %s is too large", p->name);
    p->offset = join ? params->total : (params->total + 15) / 16 * 16;
    params->total = p->offset + p->count;
    if (params->total > SIZE_MAX / 16)
        return ha_fail(HA_NO_MEMORY, "the model has too many parameters");
    params->count++;
    *offset = p->offset;
    return HA_OK;
}

void ha_params_free(ha_params *params)
{
    free(params->list);
    *params = (ha_params){0};
}
