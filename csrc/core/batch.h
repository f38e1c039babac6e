/* How tokens of several sequences lie in memory: packed one after the other, with no padding
 * anywhere in the core. */
#ifndef HA_CORE_BATCH_H
#define HA_CORE_BATCH_H

#include <stdint.h>

typedef struct {
    int rows, n_seq;
    const int32_t *offset;   /* [n_seq + 1] rows of sequence s: offset[s] .. offset[s + 1] */
    const int32_t *token;    /* [rows] */
    const int32_t *position; /* [rows] place in its sequence, from 0 */
    const int32_t *segment;  /* [rows] token type, or NULL: all 0 */
} ha_batch;

/* Asked at layer and step boundaries from the calling thread; non-zero means: give up,
 * HA_INTERRUPTED. */
typedef struct {
    int (*poll)(void *arg);
    void *arg;
} ha_interrupt;

static inline int ha_interrupted(const ha_interrupt *check)
{
    return check && check->poll && check->poll(check->arg);
}

#endif
