/* Consecutive slices of one block of floats. Without a block they are only counted, so that one
 * function says both how many floats a block needs and where its parts lie. */
#ifndef HA_CORE_SLICES_H
#define HA_CORE_SLICES_H

#include <stddef.h>

typedef struct {
    float *block; /* NULL: count only */
    size_t used;
} ha_slices;

/* The next `count` floats of the block, or NULL without one. */
static inline float *ha_slice(ha_slices *slices, size_t count)
{
    float *at = slices->block ? slices->block + slices->used : NULL;
    slices->used += count;
    return at;
}

#endif
