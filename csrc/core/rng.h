/* xoshiro256** seeded through splitmix64: the same stream on every machine (Blackman and Vigna,
 * 2018). */
#ifndef HA_CORE_RNG_H
#define HA_CORE_RNG_H

#include <stdint.h>

typedef struct {
    uint64_t s[4];
} ha_rng;

/* A generator whose stream depends on the seed alone. */
ha_rng ha_rng_seed(uint64_t seed);
/* The next 64 bits. */
uint64_t ha_rng_next(ha_rng *rng);
/* Uniform in [0, 1). */
double ha_rng_uniform(ha_rng *rng);
/* Standard normal (Box and Muller). */
float ha_rng_normal(ha_rng *rng);

#endif
