/* The options of Distiller(...). Each function returns 0, or -1 with an exception that names the
 * option. */
#ifndef HA_PYTHON_DISTILLER_OPTIONS_H
#define HA_PYTHON_DISTILLER_OPTIONS_H

#include "distill/distill.h"
#include "python/api.h"

/* A stage by name. */
int ha_stage_parse(const char *name, ha_stage *stage);
/* The layers that stage align trains. object: None, or their numbers, each of a layer with both
 * mixers. *out: flags [num_layers], freed by the caller with PyMem_Free, after an error too. */
int ha_align_layers_parse(const ha_model *model, PyObject *object, uint8_t **out);
/* How many first layers of `layers` run again. object: False, True (all), or their number. */
int ha_recompute_parse(PyObject *object, int layers, int *out);
/* The type of AdamW's moments by name. */
int ha_moments_parse(const char *name, ha_dtype *out);
/* The numbers are in their ranges. */
int ha_train_options_check(const ha_train_options *options);

#endif
