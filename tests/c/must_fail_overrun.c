/* Proves that AddressSanitizer is on: one write past a block. */
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    float *x = malloc(16 * sizeof *x);
    memset(x, 0, 16 * sizeof *x);
    x[15 + argc] = 1;
    int result = x[3] != 0 || !argv;
    free(x);
    return result;
}
