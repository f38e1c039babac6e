/* The arguments of Model(config, layers) as the core takes them. */
#ifndef HA_PYTHON_MODEL_SPEC_H
#define HA_PYTHON_MODEL_SPEC_H

#include "model/model.h"
#include "python/api.h"

/* Fills `config` from a mapping of names to numbers. *inv_freq: RoPE frequencies [rope_dim / 2]
 * that `config` points to, freed by the caller with PyMem_Free. Returns 0, or -1 with an exception
 * that names the field. */
int ha_parse_config(PyObject *given, ha_config *config, float **inv_freq);
/* out [num_layers] from a list of lists of one or two mixer specs. Returns 0, or -1 with an
 * exception. */
int ha_parse_layers(PyObject *layers, int num_layers, ha_layer_spec *out);

#endif
