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
extern const ha_packed_kernels ha_bf16_avx512;
#endif

/* An instruction set by the name in HYBRIDATTN_ISA, each with all before it. */
typedef struct {
    const char *name;
    const ha_kernels *table;
    const ha_packed_kernels *bf16;
} level;

static level chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char bad[160];

#if defined __x86_64__
/* Not every compiler's __builtin_cpu_supports knows them. */
static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int has_avx512_bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 30) /* AVX512BW */ &&
           __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5);
}
#endif

static int levels(level able[HA_BF16_KERNELS])
{
    int n = 0;
    able[n++] = (level){"generic", &ha_kernels_generic, &ha_kernels_generic.bf16};
#if defined __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
        return n;
    able[n++] = (level){"avx2", &ha_kernels_avx2, &ha_kernels_avx2.bf16};
    if (!__builtin_cpu_supports("avx512f"))
        return n;
    able[n++] = (level){"avx512", &ha_kernels_avx512, &ha_kernels_avx512.bf16};
    if (has_avx512_bf16())
        able[n++] = (level){"avx512_bf16", &ha_kernels_avx512, &ha_bf16_avx512};
#endif
    return n;
}

static void choose(void)
{
    level able[HA_BF16_KERNELS];
    const int n = levels(able);
    chosen = able[n - 1];
    const char *wish = getenv("HYBRIDATTN_ISA");
    if (!wish || !*wish)
        return;
    char allowed[64] = "";
    for (int i = 0, at = 0; i < n; i++) {
        if (strcmp(wish, able[i].name) == 0) {
            chosen = able[i];
            return;
        }
        at += snprintf(allowed + at, sizeof allowed - (size_t)at, "%s%s", i ? ", " : "", able[i].name);
    }
    snprintf(bad, sizeof bad, "HYBRIDATTN_ISA is '%.40s', allowed on this processor are %s", wish, allowed);
}

const ha_kernels *ha_kernels_get(void)
{
    pthread_once(&once, choose);
    return chosen.table;
}

const ha_packed_kernels *ha_bf16_get(void)
{
    pthread_once(&once, choose);
    return chosen.bf16;
}

int ha_bf16_each(const ha_packed_kernels *list[HA_BF16_KERNELS])
{
    level able[HA_BF16_KERNELS];
    const int n = levels(able);
    for (int i = 0; i < n; i++)
        list[i] = able[i].bf16;
    return n;
}

ha_status ha_kernels_check(void)
{
    pthread_once(&once, choose);
    return bad[0] ? ha_fail(HA_BAD_VALUE, "%s", bad) : HA_OK;
}
