#include "mixers/params.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ha_status ha_params_add(ha_params *params, const char *prefix, const char *name, const ha_param *facts, size_t *offset)
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
    *p = *facts;
    p->count = 1;
    snprintf(p->name, sizeof p->name, "%s%s", prefix, name);
    for (int i = 0; i < p->ndim; i++)
        if (__builtin_mul_overflow(p->count, (size_t)p->shape[i], &p->count))
            return ha_fail(HA_NO_MEMORY, "parameter %s is too large", p->name);
    p->offset = p->joined ? params->total : (params->total + 15) / 16 * 16;
    params->total = p->offset + p->count;
    if (params->total > SIZE_MAX / 16)
        return ha_fail(HA_NO_MEMORY, "the model has too many parameters");
    params->count++;
    *offset = p->offset;
    return HA_OK;
}

/* Each matrix continues in the one joined behind it; where both are float32 they are one, as they
 * lie in the arena. */
static void join_parts(ha_params *params)
{
    for (int i = params->count - 1; i >= 0; i--) {
        ha_matrix *m = &params->stored[i], *behind = i + 1 < params->count && params->list[i + 1].joined ? m + 1 : NULL;
        const int one = behind && m->dtype == HA_F32 && behind->dtype == HA_F32;
        m->rows = params->list[i].shape[0] + (one ? behind->rows : 0);
        m->next = one ? behind->next : behind;
    }
}

ha_status ha_params_store(ha_params *params, int i, ha_dtype type, const void *data, const float *weights)
{
    const ha_param *p = &params->list[i];
    if (!p->matrix)
        return ha_fail(HA_BAD_VALUE, "%s stays float32: allowed are embeddings, projections and the LM head", p->name);
    if ((size_t)p->shape[1] % ha_dtype_block(type))
        return ha_fail(HA_BAD_VALUE, "%s is [%d, %d], but rows of %s are a multiple of %d: allowed is another type",
                       p->name, p->shape[0], p->shape[1], ha_dtype_name(type), (int)ha_dtype_block(type));
    if (!params->stored) {
        params->stored = calloc((size_t)params->count, sizeof *params->stored);
        if (!params->stored)
            return ha_fail(HA_NO_MEMORY, "out of memory for the parameter table");
        for (int j = 0; j < params->count; j++)
            params->stored[j] = (ha_matrix){.data = weights + params->list[j].offset};
    }
    params->stored[i].dtype = type;
    params->stored[i].data = data;
    join_parts(params);
    return HA_OK;
}

int ha_params_at(const ha_params *params, size_t offset)
{
    int low = 0, high = params->count - 1; /* offsets ascend */
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (params->list[middle].offset <= offset)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

ha_matrix ha_params_matrix(const ha_params *params, const float *weights, size_t offset)
{
    ha_matrix matrix = params->stored ? params->stored[ha_params_at(params, offset)] : ha_f32(weights + offset);
    matrix.compute = params->compute;
    return matrix;
}

const ha_param *ha_params_find(const ha_params *params, const char *name)
{
    for (int i = 0; i < params->count; i++)
        if (strcmp(params->list[i].name, name) == 0)
            return &params->list[i];
    return NULL;
}

void ha_params_free(ha_params *params)
{
    free(params->list);
    free(params->stored);
    *params = (ha_params){0};
}
