/* The threads of this process, and how they share work without keeping a core from anybody.
 *
 * A region is a number of members, and whichever thread is free runs the next one. The calling
 * thread is always among them and never waits for a thread that has not begun, so a thread that the
 * system does not let run costs nothing: the others do its members. Whoever waits looks for some
 * microseconds and then sleeps. There are never more threads than processors this thread may run
 * on, however many members a region has. */
#ifndef HA_CORE_TEAM_H
#define HA_CORE_TEAM_H

#include <stdatomic.h>

/* Runs run(data) once for every member, and returns when all are done. Members of one region must
 * not wait for members with a higher number: there may be one thread for all of them. Inside a
 * region, or while another thread runs one, the calling thread does all members itself. */
void ha_team_run(void (*run)(void *), void *data, int members);

/* Inside a region: this member's number and how many there are; 0 and 1 outside. */
int ha_team_member(void);
/* Members of the region that runs; 1 outside. */
int ha_team_size(void);

/* A loop that all members of a region share, `chunk` iterations at a time to whoever asks next: at
 * first, first + step ... before `end`. A region has one at most. */
typedef struct {
    long first, end, step, chunk;
} ha_loop;

/* A region whose loop is known before it begins: members call next alone. */
void ha_team_run_loop(void (*run)(void *), void *data, int members, ha_loop loop);
/* Every member begins with the same loop. Both give 0, or a part of it: from, from + step ...
 * before `to`. */
int ha_team_loop_start(ha_loop loop, long *from, long *to);
/* The next part, or 0. */
int ha_team_loop_next(long *from, long *to);

/* Waits until *value is at least `wanted`. */
void ha_wait_until(const atomic_int *value, int wanted);

#endif
