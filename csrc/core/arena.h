/* Memory: blocks that live long (parameters, moments) and an arena for what lives during one call
 * (activations, scratch).
 *
 * Both come from mmap: pages cost nothing until they are touched, arrive zeroed, and stay mapped
 * from one step to the next, so a training step makes no system call and takes no page fault after
 * the first ones. An arena maps what is asked of it and no more than about three times that, so
 * that many of them fit under an address-space limit. */
#ifndef HA_CORE_ARENA_H
#define HA_CORE_ARENA_H

#include <stddef.h>

#include "core/status.h"

#define HA_ALIGN 64

/* A zeroed block of `bytes`, aligned to a page; NULL (with a message) when the system refuses. */
void *ha_block_alloc(size_t bytes);
/* Gives a block of `bytes` back to the system; NULL is nothing. */
void ha_block_free(void *block, size_t bytes);
/* Zeroes a part of a block, and gives its whole pages back to the system. */
void ha_block_drop(void *part, size_t bytes);

/* A stack of temporaries: push, remember a mark, release back to the mark. Its memory is in pieces,
 * each at least as large as all before it: `used` counts what is pushed, and a piece holds what was
 * pushed from its `start` on. */
enum { HA_ARENA_PIECES = 48 };
typedef struct {
    char *base;
    size_t start, size;
} ha_arena_piece;
typedef struct {
    size_t size, used, peak; /* size: the most that may be used at a time */
    int pieces, top;         /* mapped; the one that pushes go to */
    ha_arena_piece piece[HA_ARENA_PIECES];
} ha_arena;

/* An empty arena; nothing is mapped yet. */
void ha_arena_open(ha_arena *arena);
/* Gives all memory back; the arena may be opened again. */
void ha_arena_close(ha_arena *arena);
/* Gives all memory back to the system; the arena must be empty. */
void ha_arena_trim(ha_arena *arena);

/* `count` items of `size` bytes, aligned to 64, contents undefined; NULL (with a message) when
 * there is no memory. */
void *ha_arena_push(ha_arena *arena, size_t count, size_t size);

/* Room for `bytes` in one piece: an empty arena that uses no more maps no more. */
ha_status ha_arena_reserve(ha_arena *arena, size_t bytes);

static inline size_t ha_arena_mark(const ha_arena *arena)
{
    return arena->used;
}

/* Back to the mark: what was pushed since is gone. A function that fails may leave its pushes to
 * its caller's release. */
void ha_arena_release(ha_arena *arena, size_t mark);

/* Push or return from the calling function with HA_NO_MEMORY. */
#define HA_PUSH(pointer, arena, count)                                  \
    do {                                                                \
        (pointer) = ha_arena_push((arena), (count), sizeof *(pointer)); \
        if (!(pointer))                                                 \
            return HA_NO_MEMORY;                                        \
    } while (0)

#endif
