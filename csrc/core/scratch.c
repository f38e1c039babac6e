#include "core/scratch.h"

#include <stdatomic.h>

#include "core/arena.h"

/* Before the scratch itself; it fills HA_ALIGN bytes. */
typedef struct {
    size_t bytes; /* of the whole block */
} header;

/* One block is kept. Whoever takes it while another holds it maps a second one, which is given back
 * to the system. */
static _Atomic(header *) spare;

static void drop(header *block)
{
    if (block)
        ha_block_free(block, block->bytes);
}

void *ha_scratch_take(size_t bytes)
{
    const size_t wanted = bytes + HA_ALIGN;
    header *block = atomic_exchange(&spare, NULL);
    if (!block || block->bytes < wanted) {
        drop(block);
        block = ha_block_alloc(wanted);
        if (!block)
            return NULL;
        block->bytes = wanted;
    }
    return (char *)block + HA_ALIGN;
}

void ha_scratch_give(void *scratch)
{
    if (scratch)
        drop(atomic_exchange(&spare, (header *)(void *)((char *)scratch - HA_ALIGN)));
}
