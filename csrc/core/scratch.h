/* Scratch of one operation, which the process keeps for the next: for what would be large on a
 * stack. */
#ifndef HA_CORE_SCRATCH_H
#define HA_CORE_SCRATCH_H

#include <stddef.h>

/* At least `bytes`, aligned to 64, contents undefined; NULL when the system refuses. */
void *ha_scratch_take(size_t bytes);
/* What was taken, or NULL. */
void ha_scratch_give(void *scratch);

#endif
