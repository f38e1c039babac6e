/* Proves that UBSan is on and stops the program: signed overflow. */
#include <limits.h>

int main(int argc, char **argv)
{
    (void)argv;
    int x = INT_MAX - 1 + argc;
    return x + argc == 0;
}
