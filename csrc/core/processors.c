#define _GNU_SOURCE /* sched_getaffinity, sets of any size */
#include "core/processors.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 4096, PATH = 8192 };

/* The file's first line, without its end; 0 where there is none. */
static int first_line(const char *root, const char *folder, const char *name, char *line, int size)
{
    char path[2 * PATH];
    if (snprintf(path, sizeof path, "%s%s/%s", root, folder, name) >= (int)sizeof path)
        return 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    const int found = fgets(line, size, file) != NULL;
    fclose(file);
    line[found ? strcspn(line, "\n") : 0] = '\0';
    return found;
}

/* "max 100000", "150000 100000"; "-1" and a period in another file before version 2 */
static double quota_of_folder(const char *root, const char *folder, int version)
{
    char line[LINE], *rest;
    if (!first_line(root, folder, version == 2 ? "cpu.max" : "cpu.cfs_quota_us", line, sizeof line))
        return 0.0;
    const double quota = strtod(line, &rest);
    if (rest == line || !(quota > 0.0))
        return 0.0;
    if (version == 1) {
        if (!first_line(root, folder, "cpu.cfs_period_us", line, sizeof line))
            return 0.0;
        rest = line;
    }
    const double period = strtod(rest, NULL);
    return period > 0.0 ? quota / period : 0.0;
}

static double smaller(double a, double b)
{
    return a > 0.0 && (b <= 0.0 || a < b) ? a : b;
}

/* A comma separated list holds this word. */
static int holds(const char *list, const char *word)
{
    for (size_t n; *list; list += n + (list[n] == ',')) {
        n = strcspn(list, ",");
        if (n == strlen(word) && memcmp(list, word, n) == 0)
            return 1;
    }
    return 0;
}

/* Where the group lies: a mount shows the tree below `top`, which in a container may be the group
 * itself. Walks from the group up to the mount. */
static double quota_of_mount(const char *root, int version, const char *mount, const char *top, const char *group)
{
    char folder[PATH];
    const size_t n = strcmp(top, "/") == 0 ? 0 : strlen(top);
    const int below = strncmp(group, top, n) == 0 && (group[n] == '/' || !group[n]);
    if (snprintf(folder, sizeof folder, "%s%s", mount, below ? group + n : "") >= (int)sizeof folder)
        return 0.0;
    double least = 0.0;
    for (size_t end = strlen(folder); end >= strlen(mount); folder[end] = '\0') {
        least = smaller(quota_of_folder(root, folder, version), least);
        while (end > 0 && folder[end - 1] != '/')
            end--;
        if (end == 0)
            break;
        end--;
    }
    return least;
}

/* The mounts of one version, against the group of this process in it. A line of mountinfo
 * (proc(5)): id parent device TOP MOUNT options ... - TYPE source SUPEROPTIONS */
static double quota_of_version(const char *root, int version, const char *group)
{
    char path[PATH], line[LINE];
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(path, "re");
    double least = 0.0;
    while (file && fgets(line, sizeof line, file)) {
        char top[LINE], mount[LINE], type[LINE], options[LINE];
        const char *after = strstr(line, " - ");
        if (!after || sscanf(line, "%*s %*s %*s %s %s", top, mount) != 2 ||
            sscanf(after, " - %s %*s %s", type, options) != 2)
            continue;
        if (version == 2 ? strcmp(type, "cgroup2") == 0 : strcmp(type, "cgroup") == 0 && holds(options, "cpu"))
            least = smaller(quota_of_mount(root, version, mount, top, group), least);
    }
    if (file)
        fclose(file);
    return least;
}

double ha_cgroup_quota(const char *root)
{
    char path[PATH], line[LINE];
    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= (int)sizeof path)
        return 0.0;
    FILE *file = fopen(path, "re");
    double least = 0.0;
    while (file && fgets(line, sizeof line, file)) { /* "0::/group" of version 2, "4:cpu,cpuacct:/group" before */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        if (!*++controllers)
            least = smaller(quota_of_version(root, 2, group), least);
        else if (holds(controllers, "cpu"))
            least = smaller(quota_of_version(root, 1, group), least);
    }
    if (file)
        fclose(file);
    return least;
}

int ha_affinity(void)
{
#if defined __linux__
    /* more processors than a cpu_set_t holds: as long as the system wants it to be */
    for (int most = 1024; most <= 1 << 20; most *= 2) {
        cpu_set_t few, *set = most > 1024 ? CPU_ALLOC(most) : &few;
        const size_t size = CPU_ALLOC_SIZE(most);
        const int found = set && sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        if (set && set != &few)
            CPU_FREE(set);
        if (found > 0)
            return found;
    }
#endif
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

static int most = 1 << 20;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void ask_once(void)
{
    const double quota = ha_cgroup_quota("");
    if (quota > 0.0 && quota < most)
        most = (int)ceil(quota);
}

int ha_processors_now(void)
{
    pthread_once(&once, ask_once);
    const int mask = ha_affinity();
    return mask < most ? mask : most;
}
