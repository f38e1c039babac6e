/* Proves that ThreadSanitizer sees our OpenMP code: the second loop may read what the first has not written yet. */
#include <stdio.h>

#include "core/thread.h"

int main(void)
{
    static float a[4096], b[4096];
    ha_set_threads(2);
#pragma omp parallel num_threads(ha_threads())
    {
#pragma omp for nowait
        for (int i = 0; i < 4096; i++)
            a[i] = (float)i;
#pragma omp for
        for (int i = 0; i < 4096; i++)
            b[i] = a[4095 - i];
    }
    printf("%g\n", b[7]);
    return 0;
}
