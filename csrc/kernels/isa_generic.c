/* Four floats at a time, with what every x86-64 (SSE2) and aarch64 (NEON) processor has. */
#include <math.h>

#define HA_ISA_NAME "generic"
#define HA_TABLE ha_kernels_generic
#include "kernels/table.inc.c"
