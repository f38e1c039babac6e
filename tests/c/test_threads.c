/* The team, OpenMP regions on it, and how many processors a process may use. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "core/processors.h"
#include "core/team.h"
#include "core/thread.h"

enum { MOST = 64 };

typedef struct {
    atomic_int runs[MOST], size;
} counted;

static void count(void *data)
{
    counted *c = data;
    atomic_fetch_add(&c->runs[ha_team_member()], 1);
    atomic_store(&c->size, ha_team_size());
}

static void every_member_runs_once(void)
{
    for (int members = 1; members <= MOST; members += 7)
        for (int round = 0; round < 100; round++) {
            counted c = {0};
            ha_team_run(count, &c, members);
            CHECK_INT(atomic_load(&c.size), members);
            for (int i = 0; i < MOST; i++)
                CHECK_INT(atomic_load(&c.runs[i]), i < members);
        }
    CHECK_INT(ha_team_member(), 0);
    CHECK_INT(ha_team_size(), 1);
}

typedef struct {
    ha_loop loop;
    atomic_int seen[256];
} looped;

static void loop(void *data)
{
    looped *l = data;
    long from, to;
    if (!ha_team_loop_start(l->loop, &from, &to))
        return;
    do
        for (long i = from; i != to; i += l->loop.step)
            atomic_fetch_add(&l->seen[i + 100], 1);
    while (ha_team_loop_next(&from, &to));
}

static void rest_of_loop(void *data)
{
    looped *l = data;
    for (long from, to; ha_team_loop_next(&from, &to);)
        for (long i = from; i != to; i += l->loop.step)
            atomic_fetch_add(&l->seen[i + 100], 1);
}

static void loops_give_every_iteration_once(void)
{
    static const long cases[][4] = {{0, 100, 1, 1},  {0, 100, 1, 7},    {-50, 50, 3, 4}, {9, -20, -1, 2},
                                    {30, -9, -4, 3}, {0, 0, 1, 1},      {5, 2, 1, 1},    {2, 5, -1, 1},
                                    {0, 10, 1, 100}, {0, 100, 99, 100}, {0, 1, 1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int members = 1; members <= 8; members++) {
            const ha_loop shape = {cases[i][0], cases[i][1], cases[i][2], cases[i][3]};
            looped l = {shape, {0}};
            int wanted[256] = {0};
            for (long at = shape.first; shape.step > 0 ? at < shape.end : at > shape.end; at += shape.step)
                wanted[at + 100] += 2;
            ha_team_run(loop, &l, members);
            ha_team_run_loop(rest_of_loop, &l, members, shape);
            for (int at = 0; at < 256; at++)
                CHECK_INT(atomic_load(&l.seen[at]), wanted[at]);
        }
}

static void regions_inside_regions(void)
{
    int sums[8] = {0};
    ha_set_threads(3);
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads())
    for (int i = 0; i < 8; i++) {
        const int before = ha_thread_index();
        int part[40] = {0};
#pragma omp parallel for schedule(static) num_threads(4)
        for (int j = 0; j < 40; j++)
            part[j] = i + j;
        for (int j = 0; j < 40; j++)
            sums[i] += part[j];
        CHECK_INT(ha_thread_index(), before);
    }
    for (int i = 0; i < 8; i++)
        CHECK_INT(sums[i], 40 * i + 780);
}

static void *caller(void *data)
{
    for (int round = 0; round < 300; round++) {
        counted c = {0};
        ha_team_run(count, &c, 5);
        for (int i = 0; i < 5; i++)
            *(int *)data += atomic_load(&c.runs[i]) == 1;
    }
    return NULL;
}

static void several_callers_at_once(void)
{
    pthread_t thread[4];
    int good[4] = {0};
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_create(&thread[i], NULL, caller, &good[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        CHECK_INT(good[i], 1500);
    }
}

typedef struct {
    atomic_int next, done;
} chain;

static void one_after_the_other(void *data)
{
    chain *c = data;
    for (int task; (task = atomic_fetch_add(&c->next, 1)) < 1000;) {
        ha_wait_until(&c->done, task);
        atomic_store(&c->done, task + 1);
    }
}

static void tasks_wait_for_earlier_ones(void)
{
    for (int members = 1; members <= 8; members *= 2) {
        chain c = {0};
        ha_team_run(one_after_the_other, &c, members);
        CHECK_INT(atomic_load(&c.done), 1000);
    }
}

static int works_here(void)
{
    counted c = {0};
    ha_team_run(count, &c, 4);
    int runs = 0;
    for (int i = 0; i < 4; i++)
        runs += atomic_load(&c.runs[i]);
    return runs == 4;
}

static int status_of_child(void)
{
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        int ok = 1;
        for (int round = 0; round < 50; round++)
            ok &= works_here();
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

static void *forks(void *result)
{
    for (int round = 0; round < 20 && *(int *)result == 0; round++)
        *(int *)result = status_of_child();
    return NULL;
}

/* A child of a thread that looks on while others are inside a region. */
static void children_have_a_team_of_their_own(void)
{
    pthread_t thread;
    int status = 0, good = 0;
    CHECK_INT(works_here(), 1);
    CHECK_INT(status_of_child(), 0);
    pthread_create(&thread, NULL, forks, &status);
    for (int round = 0; round < 20; round++)
        caller(&good);
    pthread_join(thread, NULL);
    CHECK_INT(status, 0);
    CHECK_INT(good, 20 * 1500);
}

static char root[] = "/tmp/ha_test_XXXXXX";

static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *slash = full + sizeof root; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    CHECK(file != NULL);
    if (file) {
        fputs(text, file);
        fclose(file);
    }
}

#define V2_MOUNT "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNT(top) "33 32 0:29 " top " /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"

static void quotas_of_version_2(void)
{
    put("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/root rw\n" V2_MOUNT);
    put("proc/self/cgroup", "0::/a.slice/b.scope\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 0.0, 0.0);
    put("sys/fs/cgroup/a.slice/b.scope/cpu.max", "max 100000\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 0.0, 0.0);
    put("sys/fs/cgroup/a.slice/cpu.max", "250000 100000\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 2.5, 1e-12);
    put("sys/fs/cgroup/a.slice/b.scope/cpu.max", "50000 100000\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 0.5, 1e-12);
    put("sys/fs/cgroup/a.slice/b.scope/cpu.max", "900000 100000\n"); /* the smallest wins */
    CHECK_CLOSE(ha_cgroup_quota(root), 2.5, 1e-12);
    put("sys/fs/cgroup/cpu.max", "200000 100000\n"); /* a container sees its own group as the root */
    CHECK_CLOSE(ha_cgroup_quota(root), 2.0, 1e-12);
    put("proc/self/cgroup", "0::/../other\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 2.0, 1e-12);
    static const char *const damaged[] = {"", "\n", "max", "100000", "x 100000", "100000 0", "-5 100000", "nan 100000"};
    put("proc/self/cgroup", "0::/\n");
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        put("sys/fs/cgroup/cpu.max", damaged[i]);
        CHECK_CLOSE(ha_cgroup_quota(root), 0.0, 0.0);
    }
}

static void quotas_of_version_1(void)
{
    put("proc/self/mountinfo", V1_MOUNT("/"));
    put("proc/self/cgroup", "9:cpuset:/x\n4:cpu,cpuacct:/box\n0::/\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 0.0, 0.0);
    put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "150000\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 0.0, 0.0);
    put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "50000\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 3.0, 1e-12);
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "120000\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 1.2, 1e-12);
    put("proc/self/mountinfo", V1_MOUNT("/docker/abc")); /* the mount begins at the container's group */
    put("proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 1.2, 1e-12);
    put("proc/self/cgroup", "4:cpu,cpuacct:/docker/abc/box\n");
    put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "20000\n");
    CHECK_CLOSE(ha_cgroup_quota(root), 0.4, 1e-12);
    put("proc/self/cgroup", "4:cpuset,cpuacct:/docker/abc/box\n"); /* "cpu" as a whole word */
    CHECK_CLOSE(ha_cgroup_quota(root), 0.0, 0.0);
}

static void quotas_nowhere(void)
{
    CHECK_CLOSE(ha_cgroup_quota("/nonexistent"), 0.0, 0.0);
}

static void affinity_counts(void)
{
    cpu_set_t before, one;
    CHECK_INT(sched_getaffinity(0, sizeof before, &before), 0);
    CHECK_INT(ha_affinity(), CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
        if (CPU_ISSET(i, &before))
            CPU_SET(i, &one);
    CHECK_INT(sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_INT(ha_affinity(), 1);
    CHECK_INT(ha_processors_now(), 1);
    CHECK_INT(works_here(), 1);
    sched_setaffinity(0, sizeof before, &before);
}

int main(void)
{
    RUN(every_member_runs_once);
    RUN(loops_give_every_iteration_once);
    RUN(regions_inside_regions);
    RUN(several_callers_at_once);
    RUN(tasks_wait_for_earlier_ones);
    if (!CHECK_UNDER_TSAN)
        RUN(children_have_a_team_of_their_own);
    if (mkdtemp(root)) {
        RUN(quotas_of_version_2);
        RUN(quotas_of_version_1);
        char command[64];
        snprintf(command, sizeof command, "rm -r %s", root);
        CHECK_INT(system(command), 0);
    }
    RUN(quotas_nowhere);
    RUN(affinity_counts);
    return REPORT();
}
