/* How many processors this process may use: affinity, and the quotas of Linux control groups. */
#ifndef HA_CORE_PROCESSORS_H
#define HA_CORE_PROCESSORS_H

/* The least quota of this process's cgroup and those above it, in processors; 0: none. Reads
 * version 1 (cpu.cfs_quota_us and cpu.cfs_period_us) and 2 (cpu.max) through proc/self/cgroup and
 * proc/self/mountinfo below `root` ("" on a real system). */
double ha_cgroup_quota(const char *root);

/* Processors that the calling thread may run on, at least 1. */
int ha_affinity(void);

/* The same held to the quota, rounded up, as it was when the process first asked. */
int ha_processors_now(void);

#endif
