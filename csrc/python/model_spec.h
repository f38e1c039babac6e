/* The arguments of Model(config, layers) as the core takes them. */
#ifndef HA_PYTHON_MODEL_SPEC_H
#define HA_PYTHON_MODEL_SPEC_H

#include "model/model.h"
#include "python/api.h"

/* What a config points to: RoPE frequencies [rope_dim / 2], those of local layers, and which layers
 * are local. Freed with ha_config_memory_free, also after an error. */
typedef struct {
    float *inv_freq, *local_inv_freq;
    uint8_t *local;
} ha_config_memory;

/* Fills `config` from a mapping of names to numbers. Returns 0, or -1 with an exception that names
 * the field. */
int ha_parse_config(PyObject *given, ha_config *config, ha_config_memory *memory);
/* Frees what the memory points to; the memory itself is the caller's. */
void ha_config_memory_free(ha_config_memory *memory);
/* out [num_layers] from a list of lists of one or two mixer specs. Returns 0, or -1 with an
 * exception. */
int ha_parse_layers(PyObject *layers, int num_layers, ha_layer_spec *out);

#endif
