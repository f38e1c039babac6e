#include "core/thread.h"

#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_int threads;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A child forked after a parallel region inherits a thread pool without its threads and would wait for them for ever. */
static void before_fork(void)
{
#if _OPENMP >= 201811 || __GNUC__ >= 9 /* libgomp had it before it claimed OpenMP 5 */
    omp_pause_resource_all(omp_pause_hard);
#endif
}

static void first_use(void)
{
    atomic_store(&threads, omp_get_max_threads());
    pthread_atfork(before_fork, NULL, NULL);
}

int ha_threads(void)
{
    pthread_once(&once, first_use);
    return atomic_load(&threads);
}

int ha_set_threads(int n)
{
    pthread_once(&once, first_use);
    atomic_store(&threads, n < 1 ? 1 : n > 1024 ? 1024 : n);
    return ha_threads();
}

int ha_thread_index(void)
{
    return omp_get_thread_num();
}
