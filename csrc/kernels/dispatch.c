/* Chooses the kernel table once, by what this processor runs. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

extern const ha_kernels ha_kernels_generic;
#if defined __x86_64__
#include <cpuid.h>
extern const ha_kernels ha_kernels_avx2, ha_kernels_avx512;
#endif

static const ha_kernels *chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char bad[160];

#if defined __x86_64__
/* Not every compiler's __builtin_cpu_supports knows it. */
static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

static void choose(void)
{
    const ha_kernels *able[3] = {&ha_kernels_generic};
    int n = 1;
#if defined __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
        able[n++] = &ha_kernels_avx2;
        if (__builtin_cpu_supports("avx512f"))
            able[n++] = &ha_kernels_avx512;
    }
#endif
    chosen = able[n - 1];
    const char *wish = getenv("HYBRIDATTN_ISA");
    if (!wish || !*wish)
        return;
    char allowed[64] = "";
    for (int i = 0, at = 0; i < n; i++) {
        if (strcmp(wish, able[i]->isa) == 0) {
            chosen = able[i];
            return;
        }
        at += snprintf(allowed + at, sizeof allowed - (size_t)at, "%s%s", i ? ", " : "", able[i]->isa);
    }
    snprintf(bad, sizeof bad, "HYBRIDATTN_ISA is '%.40s', allowed on this processor are %s", wish, allowed);
}

const ha_kernels *ha_kernels_get(void)
{
    pthread_once(&once, choose);
    return chosen;
}

ha_status ha_kernels_check(void)
{
    pthread_once(&once, choose);
    return bad[0] ? ha_fail(HA_BAD_VALUE, "%s", bad) : HA_OK;
}
