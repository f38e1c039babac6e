#include "core/arena.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* Under AddressSanitizer what is not pushed is poisoned, and a gap follows every push, so that
 * overruns are seen. */
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
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define GAP ((size_t)0)
#endif

enum { LEAST = 4 << 20 }; /* bytes of a piece: two huge pages */

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
#ifdef MADV_HUGEPAGE
    /* Fewer page faults and TLB misses on streams of hundreds of megabytes; advice only, so the
     * result does not matter. */
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
#ifdef MADV_NOHUGEPAGE
    /* Else a norm between two dropped matrices brings a page of 2 MB back. Advice only. */
    madvise(first, inside, MADV_NOHUGEPAGE);
#endif
    memset(part, 0, skip);
    memset(first + inside, 0, bytes - skip - inside);
}

void ha_arena_open(ha_arena *arena)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    *arena = (ha_arena){.size = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : (size_t)1 << 34};
}

static void unmap(ha_arena_piece *piece)
{
    ASAN_UNPOISON_MEMORY_REGION(piece->base, piece->size);
    munmap(piece->base, piece->size);
    *piece = (ha_arena_piece){0};
}

void ha_arena_trim(ha_arena *arena)
{
    if (arena->used)
        return;
    while (arena->pieces > 0)
        unmap(&arena->piece[--arena->pieces]);
    arena->top = 0;
    arena->peak = 0;
}

void ha_arena_close(ha_arena *arena)
{
    arena->used = 0;
    ha_arena_trim(arena);
    *arena = (ha_arena){0};
}

/* The piece after the top one, or the first, becomes the top and holds at least `bytes`. */
static int next_piece(ha_arena *arena, size_t bytes)
{
    const int at = arena->pieces ? arena->top + 1 : 0;
    ha_arena_piece *piece = &arena->piece[at];
    size_t before = 0;
    for (int i = 0; i < at; i++)
        before += arena->piece[i].size;
    if (at < arena->pieces && piece->size < bytes) /* too small for what comes now: a larger one in its place */
        while (arena->pieces > at)
            unmap(&arena->piece[--arena->pieces]);
    if (at == HA_ARENA_PIECES)
        return 0;
    if (at == arena->pieces) {
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        size_t size = before > LEAST ? before : LEAST;
        size = bytes > size ? (bytes + page - 1) / page * page : size;
        piece->base = map(size);
        if (!piece->base && size > bytes) /* near a limit */
            piece->base = map(size = (bytes + page - 1) / page * page);
        if (!piece->base)
            return 0;
        piece->size = size;
        arena->pieces++;
        ASAN_POISON_MEMORY_REGION(piece->base, piece->size);
    }
    piece->start = arena->used;
    arena->top = at;
    return 1;
}

void ha_arena_release(ha_arena *arena, size_t mark)
{
    while (arena->pieces && mark < arena->used) {
        ha_arena_piece *piece = &arena->piece[arena->top];
        const size_t from = mark > piece->start ? mark : piece->start;
        ASAN_POISON_MEMORY_REGION(piece->base + (from - piece->start), arena->used - from);
        arena->used = from;
        if (from == piece->start && arena->top > 0)
            arena->top--;
    }
}

void *ha_arena_push(ha_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2) {
        ha_fail(HA_NO_MEMORY, "a temporary of %zu items of %zu bytes does not fit in memory", count, size);
        return NULL;
    }
    const size_t wanted = bytes;
    bytes = (bytes + HA_ALIGN - 1) / HA_ALIGN * HA_ALIGN + GAP;
    if (arena->used > arena->size || bytes > arena->size - arena->used) {
        ha_fail(HA_NO_MEMORY, "activations need %zu MiB and %zu MiB are available: use fewer or shorter sequences",
                (arena->used + bytes) >> 20, arena->size >> 20);
        return NULL;
    }
    const ha_arena_piece *piece = &arena->piece[arena->top];
    if (!arena->pieces || bytes > piece->size - (arena->used - piece->start)) {
        if (!next_piece(arena, bytes)) {
            ha_fail(HA_NO_MEMORY,
                    "activations need %zu MiB and the system refuses %zu of them: use fewer or shorter sequences",
                    (arena->used + bytes) >> 20, bytes >> 20);
            return NULL;
        }
        piece = &arena->piece[arena->top];
    }
    void *p = piece->base + (arena->used - piece->start);
    ASAN_UNPOISON_MEMORY_REGION(p, wanted);
    arena->used += bytes;
    if (arena->used > arena->peak)
        arena->peak = arena->used;
    return p;
}

ha_status ha_arena_reserve(ha_arena *arena, size_t bytes)
{
    char *room;
    ha_arena_trim(arena);
    const size_t mark = ha_arena_mark(arena);
    HA_PUSH(room, arena, bytes);
    ha_arena_release(arena, mark);
    return HA_OK;
}
