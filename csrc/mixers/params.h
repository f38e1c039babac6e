/* The parameter table: names, shapes and places of views into one contiguous arena.
 *
 * Gradients and optimizer moments are arenas of the same layout, so an offset serves all of
 * them. */
#ifndef HA_MIXERS_PARAMS_H
#define HA_MIXERS_PARAMS_H

#include <stddef.h>

#include "core/matrix.h"
#include "core/status.h"

enum { HA_MAX_NAME = 96, HA_MAX_DIMS = 3 };
#define HA_NONE ((size_t)-1)

/* Learning-rate groups of RADLADS step 2; what is fixed never trains. */
typedef enum { HA_GROUP_REST, HA_GROUP_MIXER, HA_GROUP_FIXED } ha_group;

typedef struct {
    char name[HA_MAX_NAME];
    size_t offset, count;
    int ndim, shape[HA_MAX_DIMS];
    ha_group group;
    int layer;  /* -1: belongs to no layer */
    int aligns; /* trained in step 1 */
    int joined; /* right behind the one before it */
    int matrix; /* read through ha_params_matrix: may be stored in another type */
} ha_param;

typedef struct {
    ha_param *list;
    int count, capacity;
    size_t total;       /* floats */
    ha_matrix *stored;  /* [count], once a matrix lies outside the arena; NULL before */
    ha_compute compute; /* of products with the matrices; may change between passes */
} ha_params;

/* Adds a parameter called prefix and name, with the shape, group and marks of `facts`, and sets
 * *offset. One that is joined comes right behind the one before it, so that several matrices with
 * equal columns act as one; others start on a 64-byte boundary. */
ha_status ha_params_add(ha_params *params, const char *prefix, const char *name, const ha_param *facts, size_t *offset);
/* Parameter i, marked as a matrix, is from now on `data` of that type, which the caller keeps
 * alive. */
ha_status ha_params_store(ha_params *params, int i, ha_dtype type, const void *data, const float *weights);
/* The matrix at an offset, with those joined to it; in the arena `weights` unless it is stored
 * elsewhere. */
ha_matrix ha_params_matrix(const ha_params *params, const float *weights, size_t offset);
/* The type of parameter i: HA_F32 in the arena. */
static inline ha_dtype ha_params_dtype(const ha_params *params, int i)
{
    return params->stored ? params->stored[i].dtype : HA_F32;
}
/* Index of the parameter at an offset. */
int ha_params_at(const ha_params *params, size_t offset);
/* The parameter of that name, or NULL. */
const ha_param *ha_params_find(const ha_params *params, const char *name);
/* Frees the table, not the arenas that it describes. */
void ha_params_free(ha_params *params);

#endif
