/* Elementwise functions, by number: of MLPs (the first four after none), poolers and gates. */
#ifndef HA_CORE_ACTIVATION_H
#define HA_CORE_ACTIVATION_H

/* GELU: x Phi(x) (Hendrycks and Gimpel 2016), and its form with a tanh */
typedef enum {
    HA_ACT_NONE,
    HA_ACT_GELU,
    HA_ACT_GELU_TANH,
    HA_ACT_RELU,
    HA_ACT_SILU,
    HA_ACT_SIGMOID,
    HA_ACT_TANH,
    HA_ACTS
} ha_act;

#endif
