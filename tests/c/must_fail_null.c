/* Proves that clang's UBSan sees arithmetic on NULL, which gcc's lets pass. */
#include <stddef.h>

int main(int argc, char **argv)
{
    char *volatile none = NULL;
    (void)argv;
    return none + argc == none;
}
