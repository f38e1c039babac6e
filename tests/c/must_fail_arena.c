/* Proves that AddressSanitizer sees inside the arena: one write past a push, where the next push would have been. */
#include "core/arena.h"

int main(int argc, char **argv)
{
    ha_arena arena;
    (void)argv;
    ha_arena_open(&arena);
    float *x = ha_arena_push(&arena, 16, sizeof *x), *y = ha_arena_push(&arena, 16, sizeof *y);
    x[0] = y[0] = 0;
    x[15 + argc] = 1;
    int result = x[0] != y[0];
    ha_arena_close(&arena);
    return result;
}
