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
    ha_arena_open(&arena);
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

/* Pushes of all sizes keep what they hold, however pieces are made, left and taken again. */
static void arena_grows_by_need(void)
{
    enum { DEEP = 40 };
    ha_arena arena;
    unsigned char *x[DEEP];
    size_t size[DEEP], mark[DEEP];
    ha_rng rng = ha_rng_seed(5);
    ha_arena_open(&arena);
    CHECK_INT(arena.pieces, 0);
    for (int round = 0, depth = 0; round < 3000; round++) {
        if (depth < DEEP && ha_rng_uniform(&rng) < 0.55) {
            size[depth] = (size_t)1 << (int)(24 * ha_rng_uniform(&rng));
            mark[depth] = ha_arena_mark(&arena);
            x[depth] = ha_arena_push(&arena, size[depth], 1);
            CHECK(x[depth] != NULL);
            x[depth][0] = x[depth][size[depth] - 1] = (unsigned char)(depth + 1);
            depth++;
        } else if (depth > 0) {
            depth = (int)(depth * ha_rng_uniform(&rng));
            CHECK(x[depth][0] == depth + 1 && x[depth][size[depth] - 1] == depth + 1);
            ha_arena_release(&arena, mark[depth]);
            CHECK_INT(ha_arena_mark(&arena), mark[depth]);
        }
        for (int i = 0; i < depth; i++)
            CHECK(x[i][0] == i + 1 && x[i][size[i] - 1] == i + 1);
    }
    size_t mapped = 0;
    for (int i = 0; i < arena.pieces; i++)
        mapped += arena.piece[i].size;
    CHECK(mapped <= 4 * arena.peak);
    ha_arena_release(&arena, 0);
    ha_arena_trim(&arena);
    CHECK_INT(arena.pieces, 0);
    arena.size = 1000;
    CHECK(ha_arena_push(&arena, 1001, 1) == NULL && strstr(ha_error_message(), "are available"));
    CHECK(ha_arena_push(&arena, 500, 1) != NULL);
    arena.size = SIZE_MAX;
    CHECK(ha_arena_push(&arena, (size_t)1 << 50, 1) == NULL && strstr(ha_error_message(), "the system refuses"));
    CHECK(ha_arena_push(&arena, 500, 1) != NULL);
    ha_arena_close(&arena);
}

/* Usable is what is pushed and not released, to the byte; a gap of 64 bytes follows each push. */
static void arena_is_poisoned(void)
{
    ha_arena arena;
    ha_arena_open(&arena);
    char *a = ha_arena_push(&arena, 64, 1);
    CHECK(__asan_address_is_poisoned(arena.piece[0].base + arena.piece[0].size - 1));
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
    RUN(arena_grows_by_need);
    if (CHECK_UNDER_ASAN)
        RUN(arena_is_poisoned);
    RUN(blocks_give_pages_back);
    RUN(random_numbers_repeat);
    RUN(threads_are_set);
    return REPORT();
}
