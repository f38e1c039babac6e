/* Proves that ThreadSanitizer sees our threads: members of a region add to one number. */
#include <stdio.h>

#include "core/thread.h"

int main(void)
{
    static int sum;
    ha_set_threads(2);
    for (int round = 0; round < 2000; round++) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads())
        for (int i = 0; i < 64; i++)
            for (int j = 0; j < 100; j++)
                sum += i;
    }
    printf("%d\n", sum);
    return 0;
}
