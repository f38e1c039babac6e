/* Which kernels BLIS takes, and whether it can take those that BLIS_ARCH_TYPE asks for. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/blas.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <blis.h>
#pragma GCC diagnostic pop

const char *ha_blas_version(void)
{
    return bli_info_get_version_str();
}

const char *ha_blas_arch(void)
{
    return bli_arch_string(bli_arch_query_id());
}

static const char variable[] = "BLIS_ARCH_TYPE";

/* Whether the kernels that BLIS takes for this value are those meant, and run. BLIS 0.9 reads a name as 0. */
static int works(const char *value)
{
    static const float a[64], b[64];
    float c[64], one = 1.0f, zero = 0.0f;
    char *end;
    bli_init(); /* before it is asked which kernels it takes: else it finds none */
    const char *name = bli_arch_string(bli_arch_query_id());
    bli_sgemm(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, 8, 8, 8, &one, (float *)a, 8, 1, (float *)b, 8, 1, &zero, c, 8, 1);
    strtol(value, &end, 10);
    return *end == 0 || strcmp(value, name) == 0;
}

/* BLIS ends the process where it has no such kernels, and the processor where it cannot run them, so a child tries,
 * which says and leaves nothing. 1 where no child can be had. */
static int child_works(const char *value)
{
    const pid_t child = fork();
    if (child < 0)
        return 1;
    if (child == 0) {
        const int nowhere = open("/dev/null", O_WRONLY);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        if (nowhere < 0 || dup2(nowhere, 1) < 0 || dup2(nowhere, 2) < 0 || setenv(variable, value, 1) != 0)
            _exit(0);
        _exit(works(value) ? 0 : 1);
    }
    int status = 0;
    pid_t ended;
    do
        ended = waitpid(child, &status, 0);
    while (ended < 0 && errno == EINTR);
    return ended < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static char bad[400];

static void ask(void)
{
    const char *wish = getenv(variable);
    if (wish && !*wish) /* as our own variables: not set */
        unsetenv(variable);
    if (!wish || !*wish || child_works(wish)) {
        bli_init();
        return;
    }
    int at = snprintf(bad, sizeof bad, "%s is '%.40s', allowed by BLIS %s here are", variable, wish, ha_blas_version());
    const char *before = " ";
    for (int id = 0; id < (int)BLIS_NUM_ARCHS && at < (int)sizeof bad - 60; id++) {
        char number[16];
        snprintf(number, sizeof number, "%d", id);
        if (child_works(number)) {
            at += snprintf(bad + at, sizeof bad - (size_t)at, "%s%s (%s)", before, number, bli_arch_string((arch_t)id));
            before = ", ";
        }
    }
    snprintf(bad + at, sizeof bad - (size_t)at, "; or unset it");
}

ha_status ha_blas_check(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, ask);
    return bad[0] ? ha_fail(HA_BAD_VALUE, "%s", bad) : HA_OK;
}
