#include "core/arena.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* Under AddressSanitizer what is not pushed is poisoned, and a gap follows every push, so that overruns are seen. Poison
 * costs an eighth of its range in real memory, hence the limit. */
#if defined __SANITIZE_ADDRESS__
#define UNDER_ASAN 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifdef UNDER_ASAN
#include <sanitizer/asan_interface.h>
#define GAP ((size_t)HA_ALIGN)
#define MOST ((size_t)1 << 31)
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define GAP ((size_t)0)
#define MOST SIZE_MAX
#endif

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
#ifdef MADV_HUGEPAGE
    /* Fewer page faults and TLB misses on streams of hundreds of megabytes; advice only, so the result does not matter. */
    madvise(p, bytes, MADV_HUGEPAGE);
#endif
    return p;
}

void *ha_block_alloc(size_t bytes)
{
    void *p = map(bytes ? bytes : 1);
    if (!p)
        ha_fail(HA_NO_MEMORY, "cannot map %zu bytes", bytes);
    return p;
}

void ha_block_free(void *block, size_t bytes)
{
    if (block)
        munmap(block, bytes ? bytes : 1);
}

void ha_block_drop(void *part, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = (page - (uintptr_t)part % page) % page;
    char *first = (char *)part + skip;
    size_t inside = bytes > skip ? (bytes - skip) / page * page : 0;
    if (!inside || madvise(first, inside, MADV_DONTNEED) != 0) {
        memset(part, 0, bytes);
        return;
    }
    memset(part, 0, skip);
    memset(first + inside, 0, bytes - skip - inside);
}

ha_status ha_arena_open(ha_arena *arena)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t physical = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : (size_t)1 << 34;
    *arena = (ha_arena){0};
    /* Address space only: halve until an address-space limit (ulimit -v) lets it through. */
    for (size_t size = physical < MOST ? physical : MOST; size >= (size_t)1 << 24; size /= 2) {
        arena->base = map(size);
        if (arena->base) {
            arena->size = size;
            ASAN_POISON_MEMORY_REGION(arena->base, size);
            return HA_OK;
        }
    }
    return ha_fail(HA_NO_MEMORY, "cannot reserve address space for activations");
}

void ha_arena_close(ha_arena *arena)
{
    if (arena->base) {
        ASAN_UNPOISON_MEMORY_REGION(arena->base, arena->size);
        munmap(arena->base, arena->size);
    }
    *arena = (ha_arena){0};
}

void ha_arena_release(ha_arena *arena, size_t mark)
{
    if (mark < arena->used)
        ASAN_POISON_MEMORY_REGION(arena->base + mark, arena->used - mark);
    arena->used = mark;
}

void ha_arena_trim(ha_arena *arena)
{
    if (arena->base && arena->used == 0 && arena->peak)
        madvise(arena->base, arena->peak, MADV_DONTNEED);
    arena->peak = 0;
}

void *ha_arena_push(ha_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - HA_ALIGN - GAP) {
        ha_fail(HA_NO_MEMORY, "a temporary of %zu items of %zu bytes does not fit in memory", count, size);
        return NULL;
    }
    size_t wanted = bytes;
    bytes = (bytes + HA_ALIGN - 1) / HA_ALIGN * HA_ALIGN + GAP;
    if (bytes > arena->size - arena->used) {
        ha_fail(HA_NO_MEMORY, "activations need %zu MiB and %zu MiB are available: use fewer or shorter sequences",
                (arena->used + bytes) >> 20, arena->size >> 20);
        return NULL;
    }
    void *p = arena->base + arena->used;
    ASAN_UNPOISON_MEMORY_REGION(p, wanted);
    arena->used += bytes;
    if (arena->used > arena->peak)
        arena->peak = arena->used;
    return p;
}
