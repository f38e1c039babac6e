/* Elementwise functions that gates are made with, and their derivatives. */
#ifndef HA_MIXERS_ACTIVATION_H
#define HA_MIXERS_ACTIVATION_H

#include <stddef.h>

typedef enum { HA_LINEAR, HA_SILU, HA_SIGMOID, HA_TANH, HA_RELU } ha_activation;

/* y = f(x); in place is fine */
void ha_activate(ha_activation f, size_t n, const float *x, float *y);
/* dx = dy f'(x); dx may be dy */
void ha_activate_backward(ha_activation f, size_t n, const float *x, const float *dy, float *dx);

#endif
