#include "core/thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/processors.h"

static atomic_int threads, set_by_call;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char reason[160], bad[200], warning[200];

/* A whole number in decimal digits, up to `end` or a comma; 0 when it is none, HA_MOST_THREADS + 1
 * when it is larger. */
static int number(const char *text, int list)
{
    int n = 0, digits = 0;
    while (*text == ' ')
        text++;
    for (; *text >= '0' && *text <= '9'; text++, digits++)
        if (n <= HA_MOST_THREADS)
            n = n * 10 + (*text - '0');
    while (*text == ' ')
        text++;
    if (!digits || (*text && !(list && *text == ',')))
        return 0;
    return n > HA_MOST_THREADS ? HA_MOST_THREADS + 1 : n;
}

/* OpenMP's own variable, a number or a list by nesting depth, of which the first counts. Other
 * libraries read it too, so what cannot be followed is a warning. */
static int from_openmp(const char *text)
{
    const int n = number(text, 1);
    if (!n) {
        snprintf(warning, sizeof warning, "OMP_NUM_THREADS=%.60s is ignored: allowed are whole numbers from 1", text);
        return 0;
    }
    if (n <= HA_MOST_THREADS) {
        snprintf(reason, sizeof reason, "OMP_NUM_THREADS");
        return n;
    }
    snprintf(reason, sizeof reason, "OMP_NUM_THREADS=%.60s, held to %d", text, HA_MOST_THREADS);
    snprintf(warning, sizeof warning, "%s threads", reason);
    return HA_MOST_THREADS;
}

static int from_processors(void)
{
    const int mask = ha_affinity(), n = ha_processors_now();
    if (n < mask)
        snprintf(reason, sizeof reason, "cgroup quota of %.3g processors (%d by affinity)", ha_cgroup_quota(""), mask);
    else
        snprintf(reason, sizeof reason, "processors by affinity");
    return n < HA_MOST_THREADS ? n : HA_MOST_THREADS;
}

static void first_use(void)
{
    const char *ours = getenv("HYBRIDATTN_NUM_THREADS"), *openmp = getenv("OMP_NUM_THREADS");
    int n = 0;
    if (ours && *ours) {
        n = number(ours, 0);
        if (n > 0 && n <= HA_MOST_THREADS)
            snprintf(reason, sizeof reason, "HYBRIDATTN_NUM_THREADS");
        else {
            snprintf(bad, sizeof bad, "HYBRIDATTN_NUM_THREADS is '%.60s', allowed are 1 to %d", ours, HA_MOST_THREADS);
            n = 0;
        }
    }
    if (!n && openmp && *openmp)
        n = from_openmp(openmp);
    if (!n)
        n = from_processors();
    atomic_store(&threads, n);
}

int ha_threads(void)
{
    pthread_once(&once, first_use);
    return atomic_load(&threads);
}

int ha_set_threads(int n)
{
    pthread_once(&once, first_use);
    atomic_store(&threads, n < 1 ? 1 : n > HA_MOST_THREADS ? HA_MOST_THREADS : n);
    atomic_store(&set_by_call, 1);
    return ha_threads();
}

const char *ha_threads_reason(void)
{
    pthread_once(&once, first_use);
    return atomic_load(&set_by_call) ? "set_num_threads" : reason;
}

ha_status ha_threads_check(void)
{
    pthread_once(&once, first_use);
    return bad[0] ? ha_fail(HA_BAD_VALUE, "%s", bad) : HA_OK;
}

const char *ha_threads_warning(void)
{
    pthread_once(&once, first_use);
    return warning[0] ? warning : NULL;
}
