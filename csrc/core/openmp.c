/* What gcc makes of `#pragma omp parallel for`, run by our own team.
 *
 * gcc turns a region into a function and calls GOMP_parallel with it (libgomp manual, "The libgomp
 * ABI"). libgomp's own barriers spin for milliseconds unless the environment said otherwise before
 * the process loaded it, and wait for threads that the system does not let run: with one other busy
 * process two threads were slower than one (docs/log.md). So the entry points are here, hidden in
 * this library, and the libgomp of other libraries is none of our business.
 *
 * Regions may be `parallel for`, static or dynamic, or `parallel` without loops. What waits inside
 * a region (barrier, for, single, sections, critical) has no entry point here;
 * tests/test_threads.py looks for it. With other compilers the pragmas go to the compiler's own
 * runtime. */
#include "core/thread.h"

#include "core/team.h"

#if defined __GNUC__ && !defined __clang__
#include <stdbool.h>

#define ENTRY __attribute__((visibility("hidden"), used))

typedef void region(void *);

/* under both names: which one depends on gcc's version */
#define DYNAMIC(NAME)                                                                                                \
    ENTRY bool GOMP_loop_##NAME##_start(long first, long end, long step, long chunk, long *from, long *to);          \
    ENTRY bool GOMP_loop_##NAME##_next(long *from, long *to);                                                        \
    ENTRY void GOMP_parallel_loop_##NAME(region *run, void *data, unsigned members, long first, long end, long step, \
                                         long chunk, unsigned flags);                                                \
    bool GOMP_loop_##NAME##_start(long first, long end, long step, long chunk, long *from, long *to)                 \
    {                                                                                                                \
        return ha_team_loop_start((ha_loop){first, end, step, chunk}, from, to);                                     \
    }                                                                                                                \
    bool GOMP_loop_##NAME##_next(long *from, long *to)                                                               \
    {                                                                                                                \
        return ha_team_loop_next(from, to);                                                                          \
    }                                                                                                                \
    void GOMP_parallel_loop_##NAME(region *run, void *data, unsigned members, long first, long end, long step,       \
                                   long chunk, unsigned flags)                                                       \
    {                                                                                                                \
        (void)flags;                                                                                                 \
        ha_team_run_loop(run, data, members ? (int)members : ha_threads(), (ha_loop){first, end, step, chunk});      \
    }

DYNAMIC(nonmonotonic_dynamic)
DYNAMIC(dynamic)

ENTRY void GOMP_parallel(region *run, void *data, unsigned members, unsigned flags);
ENTRY void GOMP_loop_end_nowait(void);
ENTRY void GOMP_barrier(void);
ENTRY int omp_get_thread_num(void);
ENTRY int omp_get_num_threads(void);

void GOMP_parallel(region *run, void *data, unsigned members, unsigned flags)
{
    (void)flags;
    ha_team_run(run, data, members ? (int)members : ha_threads());
}

void GOMP_loop_end_nowait(void)
{
}

/* For a BLIS inside this library alone: it never has more than one member. */
void GOMP_barrier(void)
{
}

int omp_get_thread_num(void)
{
    return ha_team_member();
}

int omp_get_num_threads(void)
{
    return ha_team_size();
}

int ha_thread_index(void)
{
    return ha_team_member();
}

#else
#include <omp.h>

int ha_thread_index(void)
{
    return omp_get_thread_num();
}

#if defined __clang__
/* LLVM's runtime looks for 200 ms before it sleeps unless it is told otherwise. */
__attribute__((constructor)) static void sleep_at_once(void)
{
    kmp_set_blocktime(0);
}
#endif
#endif
