#include "core/team.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "core/processors.h"

/* How long somebody looks before sleeping: about what waking a thread takes, so that a row of short
 * regions goes without system calls. Results of docs/log.md. */
enum { LOOK_NS = 20000, NAP_NS = 50000, STACK = 4 << 20, MOST_WORKERS = 1023 };

typedef struct {
    void (*run)(void *);
    void *data;
    int members;
    ha_loop loop;
    atomic_int next;       /* member */
    atomic_long loop_next; /* iteration */
} job;

/* What this thread runs. */
static _Thread_local struct {
    job *job;
    int member;
    ha_loop loop;
} own;

/* state: OPEN while threads may join, and below it how many have and are not done. */
enum { OPEN = 1 << 30 };
static struct {
    atomic_flag busy; /* held by the thread whose region it is */
    atomic_int state, limit, sleepers;
    atomic_uint epoch; /* counts regions */
    job *job;
    int workers;
    pthread_mutex_t mutex;
    pthread_cond_t wake, done;
} team = {.busy = ATOMIC_FLAG_INIT,
          .mutex = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Tells the processor that this is a wait. */
static void relax(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Looks at `condition` for LOOK_NS; afterwards it may still be false. */
#define LOOK_FOR(condition)                                   \
    for (long long begun = now(); !(condition);) {            \
        for (int spin = 0; spin < 32 && !(condition); spin++) \
            relax();                                          \
        if (now() - begun > LOOK_NS)                          \
            break;                                            \
    }

/* Members from the job's counter until there are none. */
static void work(job *mine)
{
    own.job = mine;
    own.loop = mine->loop;
    while ((own.member = atomic_fetch_add_explicit(&mine->next, 1, memory_order_relaxed)) < mine->members)
        mine->run(mine->data);
    own.job = NULL;
}

/* One more in the open region, up to its limit; 0: no. */
static int join_team(void)
{
    int state = atomic_load(&team.state);
    while (state & OPEN && (state & ~OPEN) < atomic_load(&team.limit))
        if (atomic_compare_exchange_weak(&team.state, &state, state + 1))
            return 1;
    return 0;
}

/* One less; the last one wakes whoever waits for the region. */
static void leave_team(void)
{
    if (atomic_fetch_sub(&team.state, 1) != 1)
        return; /* still open, or somebody is not done */
    pthread_mutex_lock(&team.mutex);
    pthread_cond_signal(&team.done);
    pthread_mutex_unlock(&team.mutex);
}

/* What a thread of the team does until the process ends. */
static void *worker(void *start)
{
    /* The C library makes thread-local data at their first use, and ends the process where there is
     * no memory for them: so now, not in the middle of a product. */
    *(volatile int *)&own.member = 0;
    for (unsigned seen = (unsigned)(size_t)start;;) {
        LOOK_FOR(atomic_load(&team.epoch) != seen)
        if (atomic_load(&team.epoch) == seen) {
            pthread_mutex_lock(&team.mutex);
            atomic_fetch_add(&team.sleepers, 1);
            while (atomic_load(&team.epoch) == seen)
                pthread_cond_wait(&team.wake, &team.mutex);
            atomic_fetch_sub(&team.sleepers, 1);
            pthread_mutex_unlock(&team.mutex);
        }
        seen = atomic_load(&team.epoch);
        if (join_team()) {
            work(team.job);
            leave_team();
        }
    }
    return NULL;
}

/* A child has none of its parent's threads, and of the locks only what they held. */
static void in_child(void)
{
    pthread_mutex_init(&team.mutex, NULL);
    pthread_cond_init(&team.wake, NULL);
    pthread_cond_init(&team.done, NULL);
    atomic_store(&team.state, 0);
    atomic_store(&team.sleepers, 0);
    atomic_flag_clear(&team.busy);
    team.workers = 0;
}

static void first_use(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

/* As many workers as asked for, or as the system allows. They take no signal: those are the main
 * thread's. */
static void hire(int wanted)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (team.workers >= wanted || pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const size_t seen = atomic_load(&team.epoch);
    while (team.workers < wanted && pthread_create(&thread, &attributes, worker, (void *)seen) == 0)
        team.workers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static void call_workers(int wanted)
{
    atomic_store(&team.limit, wanted);
    atomic_store(&team.state, OPEN);
    atomic_fetch_add(&team.epoch, 1);
    const int sleepers = atomic_load(&team.sleepers);
    if (!sleepers)
        return;
    pthread_mutex_lock(&team.mutex);
    if (wanted >= sleepers)
        pthread_cond_broadcast(&team.wake);
    else
        for (int i = 0; i < wanted; i++)
            pthread_cond_signal(&team.wake);
    pthread_mutex_unlock(&team.mutex);
}

/* No thread joins any more; those that have finish their member. */
static void dismiss_workers(void)
{
    atomic_fetch_and(&team.state, ~OPEN);
    LOOK_FOR(atomic_load(&team.state) == 0)
    if (atomic_load(&team.state) == 0)
        return;
    pthread_mutex_lock(&team.mutex);
    while (atomic_load(&team.state) != 0)
        pthread_cond_wait(&team.done, &team.mutex);
    pthread_mutex_unlock(&team.mutex);
}

void ha_team_run_loop(void (*run)(void *), void *data, int members, ha_loop loop)
{
    job mine = {.run = run, .data = data, .members = members, .loop = loop};
    const __typeof__(own) before = own; /* a region inside a region */
    const int wanted = members < 2 || before.job ? 0 : ha_processors_now() - 1;
    int workers = wanted < members - 1 ? wanted : members - 1;
    if (workers > 0 && !atomic_flag_test_and_set(&team.busy)) {
        pthread_once(&once, first_use);
        hire(workers < MOST_WORKERS ? workers : MOST_WORKERS);
        if (workers > team.workers)
            workers = team.workers;
        team.job = &mine;
        if (workers)
            call_workers(workers);
        work(&mine);
        if (workers)
            dismiss_workers();
        atomic_flag_clear(&team.busy);
    } else
        work(&mine);
    own = before;
}

void ha_team_run(void (*run)(void *), void *data, int members)
{
    ha_team_run_loop(run, data, members, (ha_loop){0, 0, 1, 1});
}

int ha_team_member(void)
{
    return own.job ? own.member : 0;
}

int ha_team_size(void)
{
    return own.job ? own.job->members : 1;
}

int ha_team_loop_start(ha_loop loop, long *from, long *to)
{
    own.loop = loop;
    return ha_team_loop_next(from, to);
}

int ha_team_loop_next(long *from, long *to)
{
    const ha_loop l = own.loop;
    const long all = l.step > 0 ? (l.end - l.first + l.step - 1) / l.step : (l.first - l.end - l.step - 1) / -l.step;
    const long chunk = l.chunk < 1 ? 1 : l.chunk;
    const long at = atomic_fetch_add_explicit(&own.job->loop_next, chunk, memory_order_relaxed);
    if (at >= all)
        return 0;
    *from = l.first + at * l.step;
    *to = l.first + (all - at < chunk ? all : at + chunk) * l.step;
    return 1;
}

void ha_wait_until(const atomic_int *value, int wanted)
{
    const struct timespec nap = {0, NAP_NS};
    LOOK_FOR(atomic_load_explicit(value, memory_order_acquire) >= wanted)
    while (atomic_load_explicit(value, memory_order_acquire) < wanted)
        nanosleep(&nap, NULL);
}
