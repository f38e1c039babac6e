#include "mixers/state.h"

#include <string.h>

#include "kernels/kernels.h"

void *ha_state_row(const ha_state *state, int plane, int slot)
{
    size_t at = ((size_t)plane * (size_t)state->capacity + (size_t)slot) * (size_t)state->shape.row;
    return (char *)state->rows + at * ha_dtype_size(state->type);
}

void ha_state_store(const ha_state *state, int slot, int n, const float *from, ptrdiff_t ld)
{
    const size_t row = (size_t)state->shape.row;
    for (int p = 0; p < state->shape.planes; p++)
        for (int i = 0; i < n; i++) {
            const float *x = from + i * ld + (ptrdiff_t)((size_t)p * row);
            if (state->type == HA_F16)
                ha_kernels_get()->float_to_half(row, x, ha_state_row(state, p, slot + i));
            else
                memcpy(ha_state_row(state, p, slot + i), x, row * sizeof *x);
        }
}

void ha_state_fetch(const ha_state *state, int plane, int slot, float *to)
{
    const size_t row = (size_t)state->shape.row;
    const void *from = ha_state_row(state, plane, slot);
    if (state->type == HA_F16)
        ha_kernels_get()->decode[HA_F16](row, from, to);
    else
        memcpy(to, from, row * sizeof *to);
}

void ha_state_round(const ha_state *state, const float *from, float *to)
{
    const size_t row = (size_t)state->shape.row;
    uint16_t half[HA_MAX_HEAD_DIM];
    if (state->type == HA_F16) {
        ha_kernels_get()->float_to_half(row, from, half);
        ha_kernels_get()->decode[HA_F16](row, half, to);
    } else {
        memcpy(to, from, row * sizeof *to);
    }
}

ha_keys ha_state_keys(const ha_state *state, int length, int past)
{
    return (ha_keys){.k = ha_state_row(state, 0, 0),
                     .v = ha_state_row(state, state->shape.planes / 2, 0),
                     .row = state->shape.row,
                     .head_stride = (ptrdiff_t)state->capacity * state->shape.row,
                     .length = length,
                     .past = past,
                     .type = state->type};
}

size_t ha_state_rows_bytes(const ha_state_shape *shape, ha_dtype type, int capacity)
{
    return (size_t)shape->planes * (size_t)shape->row * (size_t)capacity * ha_dtype_size(type);
}

ha_status ha_state_resize(ha_state *state, int used, int capacity)
{
    ha_state next = *state;
    next.capacity = capacity;
    next.rows = ha_block_alloc(ha_state_rows_bytes(&state->shape, state->type, capacity));
    if (!next.rows)
        return ha_fail(HA_NO_MEMORY, "out of memory for a cache of %d tokens", capacity);
    for (int p = 0; used && p < state->shape.planes; p++)
        memcpy(ha_state_row(&next, p, 0), ha_state_row(state, p, 0),
               (size_t)used * (size_t)state->shape.row * ha_dtype_size(state->type));
    ha_block_free(state->rows, ha_state_rows_bytes(&state->shape, state->type, state->capacity));
    *state = next;
    return HA_OK;
}
