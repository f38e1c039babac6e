/* The number of threads of this process, and what a fork needs. The only file that talks to the OpenMP runtime. */
#ifndef HA_CORE_THREAD_H
#define HA_CORE_THREAD_H

/* Threads used by every parallel region: OMP_NUM_THREADS or the processors of this process, until set. */
int ha_threads(void);
/* n >= 1; returns what is in force afterwards. */
int ha_set_threads(int n);
/* This thread's number inside a parallel region, below the region's num_threads: picks its slice of shared
 * scratch. The region and its scratch take their number from one call of ha_threads(), which may change at any time. */
int ha_thread_index(void);

#endif
