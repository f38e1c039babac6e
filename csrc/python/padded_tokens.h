/* Token arrays with padding as one stream without any. */
#ifndef HA_PYTHON_PADDED_TOKENS_H
#define HA_PYTHON_PADDED_TOKENS_H

#include "python/model_object.h"

/* Tokens [n_seq,width] without the padding. */
typedef struct {
    int n_seq, width;
    int32_t *token;   /* [rows] */
    int32_t *segment; /* [rows], or NULL */
    int64_t *window;  /* [n_seq][2] into token */
    int *first;       /* [n_seq] column of the first real token */
    int rows;
} packed;

/* tokens [B,T], with an optional mask [B,T], and segments [B,T] or None. Returns 0, or -1 with an
 * exception. */
int ha_pack(model_object *model, PyObject *tokens, PyObject *mask, PyObject *segments, packed *out);
void ha_pack_clear(packed *p);

#endif
