/* Storage types and their conversion to and from float32. */
#ifndef HA_CORE_DTYPE_H
#define HA_CORE_DTYPE_H

#include <stddef.h>
#include <stdint.h>

typedef enum { HA_F32, HA_BF16, HA_F16, HA_DTYPE_COUNT } ha_dtype;

/* "float32", "bfloat16", "float16". */
const char *ha_dtype_name(ha_dtype type);
size_t ha_dtype_size(ha_dtype type);

/* n items; round to nearest even on the way down. */
void ha_to_f32(ha_dtype type, const void *src, float *dst, size_t n);
void ha_from_f32(ha_dtype type, const float *src, void *dst, size_t n);

#endif
