/* The sequences that the tests of operations run on: of 65, 1, 63, 130 and 64 rows. */
#ifndef TESTS_SEQUENCES_H
#define TESTS_SEQUENCES_H

#include "arrays.h"
#include "kernels/kernels.h"
#include "ref/ref.h"

static const int32_t offsets[] = {0, 65, 66, 129, 259, 323};
static const ha_batch batch = {.rows = 323, .n_seq = 5, .offset = offsets};
enum { ROWS = 323, SEQS = 5, HEADS = 4 };
static const int dims[] = {8, 24, 64};

#endif
