/* Status, arena, random numbers and threads. */
#include "check.h"
#include "core/arena.h"
#include "core/rng.h"
#include "core/status.h"
#include "core/thread.h"

#if CHECK_UNDER_ASAN
#include <sanitizer/asan_interface.h>
#else
#define __asan_address_is_poisoned(address) 1
#endif

static void status_keeps_the_message(void)
{
    CHECK_INT(ha_fail(HA_BAD_VALUE, "layer %d: %s", 3, "no"), HA_BAD_VALUE);
    CHECK_STR(ha_error_message(), "layer 3: no");
}

static void arena_is_a_stack(void)
{
    ha_arena arena;
    CHECK_INT(ha_arena_open(&arena), HA_OK);
    size_t mark = ha_arena_mark(&arena);
    float *a = ha_arena_push(&arena, 3, sizeof *a), *b = ha_arena_push(&arena, 5, sizeof *b);
    CHECK(a && b && (char *)b >= (char *)(a + 3));
    CHECK_INT((size_t)b % HA_ALIGN, 0);
    a[2] = b[4] = 1;
    ha_arena_release(&arena, mark);
    CHECK(ha_arena_push(&arena, 1, 1) == (void *)a);
    CHECK(ha_arena_push(&arena, (size_t)1 << 62, 16) == NULL);
    for (size_t i = 0; i < 4 * HA_ALIGN; i++) /* sizes that wrap when they are rounded up */
        CHECK(ha_arena_push(&arena, SIZE_MAX - i, 1) == NULL);
    ha_arena_close(&arena);
}

/* Usable is what is pushed and not released, to the byte; a gap of 64 bytes follows each push. */
static void arena_is_poisoned(void)
{
    ha_arena arena;
    CHECK_INT(ha_arena_open(&arena), HA_OK);
    CHECK(__asan_address_is_poisoned(arena.base) && __asan_address_is_poisoned(arena.base + arena.size - 1));
    char *a = ha_arena_push(&arena, 64, 1);
    size_t mark = ha_arena_mark(&arena);
    char *b = ha_arena_push(&arena, 7, 1);
    for (int i = 0; i < 64; i++)
        CHECK(__asan_address_is_poisoned(a + 64 + i));
    CHECK(__asan_address_is_poisoned(b + 7));
    memset(a, 1, 64);
    memset(b, 1, 7);
    ha_arena_release(&arena, mark);
    CHECK(__asan_address_is_poisoned(b) && __asan_address_is_poisoned(b + 6));
    a[63] = 2;
    ha_arena_release(&arena, 0);
    CHECK(__asan_address_is_poisoned(a));
    ha_arena_trim(&arena);
    CHECK(__asan_address_is_poisoned(a));
    a = ha_arena_push(&arena, 64, 1);
    memset(a, 1, 64);
    ha_arena_close(&arena);
}

static void blocks_give_pages_back(void)
{
    enum { BYTES = 1 << 16 };
    char *block = ha_block_alloc(BYTES);
    for (int from = 0; from < 9000; from += 4500)
        for (int bytes = 0; bytes < 20000; bytes += 6666) {
            memset(block, 7, BYTES);
            ha_block_drop(block + from, (size_t)bytes);
            for (int i = 0; i < BYTES; i++)
                if (block[i] != (i >= from && i < from + bytes ? 0 : 7))
                    CHECK_FAIL("byte %d is %d after dropping [%d, %d)", i, block[i], from, from + bytes);
        }
    ha_block_free(block, BYTES);
}

static void random_numbers_repeat(void)
{
    ha_rng one = ha_rng_seed(7), two = ha_rng_seed(7), other = ha_rng_seed(8);
    double sum = 0, square = 0;
    CHECK(ha_rng_next(&one) == ha_rng_next(&two));
    CHECK(ha_rng_next(&one) != ha_rng_next(&other));
    for (int i = 0; i < 20000; i++) {
        double u = ha_rng_uniform(&one), z = ha_rng_normal(&two);
        if (!(u >= 0 && u < 1))
            CHECK_FAIL("uniform gave %g", u);
        sum += z;
        square += z * z;
    }
    CHECK_CLOSE(sum / 20000, 0, 0.05);
    CHECK_CLOSE(square / 20000, 1, 0.05);
}

static void threads_are_set(void)
{
    int before = ha_threads(), sum = 0;
    CHECK_INT(ha_set_threads(2), 2);
#pragma omp parallel for num_threads(ha_threads()) reduction(+ : sum)
    for (int i = 0; i < 100; i++)
        sum += i;
    CHECK_INT(sum, 4950);
    CHECK_INT(ha_set_threads(0), 1);
    ha_set_threads(before);
}

int main(void)
{
    RUN(status_keeps_the_message);
    RUN(arena_is_a_stack);
    if (CHECK_UNDER_ASAN)
        RUN(arena_is_poisoned);
    RUN(blocks_give_pages_back);
    RUN(random_numbers_repeat);
    RUN(threads_are_set);
    return REPORT();
}
