/* Storage types: how many bytes they take, and conversion from float32. Conversion to float32 is
 * kernels->decode. */
#ifndef HA_CORE_DTYPE_H
#define HA_CORE_DTYPE_H

#include <stddef.h>
#include <stdint.h>

/* The block types are GGML's, so that its files are used as they lie: 32 numbers share a float16
 * scale d and, for q4_1, a float16 minimum m that follows it. q8_0: 32 int8, x = d q. q4_0 and
 * q4_1: 16 bytes, number i in the low half of byte i, number i + 16 in its high half, x = d (q - 8)
 * and x = d q + m. */
typedef enum { HA_F32, HA_BF16, HA_F16, HA_Q8_0, HA_Q4_0, HA_Q4_1, HA_DTYPE_COUNT } ha_dtype;
enum { HA_PLAIN_DTYPES = HA_Q8_0, HA_BLOCK_ITEMS = 32 };

/* "float32", "bfloat16", "float16", "q8_0", "q4_0", "q4_1" */
const char *ha_dtype_name(ha_dtype type);
/* Numbers that are stored together: 1, or HA_BLOCK_ITEMS. */
size_t ha_dtype_block(ha_dtype type);
/* Bytes of n numbers, a multiple of the block. */
size_t ha_dtype_bytes(ha_dtype type, size_t n);

/* Bytes of one number of a type without blocks. */
static inline size_t ha_dtype_size(ha_dtype type)
{
    return ha_dtype_bytes(type, 1);
}

/* n items, a multiple of the block. bfloat16 and float16 round to nearest even, blocks as GGML's
 * reference rounds. */
void ha_from_f32(ha_dtype type, const float *src, void *dst, size_t n);

/* The numbers that a block of a block type can hold, chosen from its HA_BLOCK_ITEMS floats. */
typedef struct {
    ha_dtype type;
    float scale, up, low; /* up: 1 / scale, or 0; low: of q4_1 */
    float step, start;    /* a code stands for start + step * code, of the scale and the minimum as they are stored */
} ha_grid;

/* The grid of a block: x [HA_BLOCK_ITEMS]. */
ha_grid ha_grid_of(ha_dtype type, const float *x);
/* The same with a range that is `part` of it: what lies beyond is cut off, and the codes lie
 * closer. */
ha_grid ha_grid_narrowed(ha_grid grid, float part);
/* The code nearest to x, which may lie beyond both ends. */
int ha_grid_code(const ha_grid *grid, float x);
static inline float ha_grid_value(const ha_grid *grid, int code)
{
    return grid->start + grid->step * (float)code;
}
/* The block, code [HA_BLOCK_ITEMS]. */
void ha_grid_store(const ha_grid *grid, const int8_t *code, uint8_t *to);

#endif
