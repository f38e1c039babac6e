/* The number of threads of this process, and why. How they work together is core/team.h. */
#ifndef HA_CORE_THREAD_H
#define HA_CORE_THREAD_H

#include "core/status.h"

enum { HA_MOST_THREADS = 1024 };

/* Members of every parallel region, until set: HYBRIDATTN_NUM_THREADS, else OMP_NUM_THREADS, else
 * the processors that this process may use. No more than that many of them run at a time. */
int ha_threads(void);
/* n >= 1; returns what is in force afterwards. */
int ha_set_threads(int n);
/* Where the number comes from: "OMP_NUM_THREADS=100000, held to 1024"; never NULL. */
const char *ha_threads_reason(void);
/* HA_BAD_VALUE, with a message, for a HYBRIDATTN_NUM_THREADS that is no number of threads. */
ha_status ha_threads_check(void);
/* What of OMP_NUM_THREADS could not be followed, or NULL. */
const char *ha_threads_warning(void);

/* This thread's number inside a parallel region, below the region's num_threads: picks its slice of
 * shared scratch. The region and its scratch take their number from one call of ha_threads(), which
 * may change at any time. */
int ha_thread_index(void);

#endif
