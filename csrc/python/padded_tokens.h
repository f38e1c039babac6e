/* Token arrays with padding as one stream without any. */
#ifndef HA_PYTHON_PADDED_TOKENS_H
#define HA_PYTHON_PADDED_TOKENS_H

#include "python/model_object.h"

/* Tokens [n_seq,width] without the padding, on memory of their own. */
typedef struct {
    int n_seq, width;
    int rows;         /* tokens that are left */
    int32_t *token;   /* [rows] */
    int32_t *segment; /* [rows], or NULL */
    int64_t *window;  /* [n_seq][2] into token */
    int *first;       /* [n_seq] column of the first real token */
} packed_tokens;

/* tokens [B,T], with mask [B,T] or None, False where padded, and segments [B,T] or None. Returns 0,
 * or -1 with an exception and nothing held. */
int ha_packed_parse(model_object *model, PyObject *tokens, PyObject *mask, PyObject *segments, packed_tokens *out);
/* Frees its arrays. */
void ha_packed_clear(packed_tokens *packed);

#endif
