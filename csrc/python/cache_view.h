/* How a Cache shows itself. */
#ifndef HA_PYTHON_CACHE_VIEW_H
#define HA_PYTHON_CACHE_VIEW_H

#include "python/cache_object.h"

/* One line: sequences, tokens, type, bytes. */
PyObject *ha_cache_repr(cache_object *self);
/* Cache.layer_bytes(): a dict {mixer kind: bytes} for each layer */
PyObject *ha_cache_layers(cache_object *self, PyObject *unused);
/* Cache._repr_html_(), which Python draws */
PyObject *ha_cache_html(cache_object *self, PyObject *unused);

#endif
