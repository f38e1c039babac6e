/* Linear recurrence, forward: token by token with a block of columns of the state in L1, one task for each (sequence,
 * head, block). On a CPU this beats the chunked forms: 3 to 5 multiply-adds an element of the state and token at the full
 * rate of the vector units, no triangular solve, and any decay is exact. */
#include "core/thread.h"
#include "ops/recurrence_chunk.h"

/* Columns of a task, and tokens that its columns see before the next ones come: their rows fit L1 beside the state. */
enum { BLOCK = 64, PIECE = 16 };

size_t ha_recurrence_states(const ha_recurrence *r, const ha_batch *batch)
{
    size_t n = 0;
    for (int s = 0; s < batch->n_seq; s++)
        n += (size_t)chunks_of(batch, s);
    return n * (size_t)r->heads * (size_t)r->dk * (size_t)r->dv;
}

static void copy_columns(int dk, int cols, const float *from, ptrdiff_t ldf, float *to, ptrdiff_t ldt)
{
    for (int i = 0; i < dk; i++)
        memcpy(to + i * ldt, from + i * ldf, (size_t)cols * sizeof *to);
}

typedef struct {
    const ha_recurrence *r;
    const ha_recurrence_in *in;
    float *out, *u, *saved; /* of this head and block; saved: transposed states [chunk][heads][dv, dk] */
    ptrdiff_t ldo, ldu;
} task;

/* Rows row .. end of head h, columns col .. col + cols; state [dk, lds] is updated. */
static void run(const task *task, ptrdiff_t row, ptrdiff_t end, int h, int col, int cols, float *state, ptrdiff_t lds,
                float *rows)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ha_recurrence *r = task->r;
    const ha_recurrence_in *in = task->in;
    const size_t size = (size_t)r->heads * (size_t)r->dk * (size_t)r->dv;
    float *saved = task->saved;
    for (ptrdiff_t start = row; row < end; row += PIECE) {
        int n = end - row < PIECE ? (int)(end - row) : PIECE;
        for (ptrdiff_t next = row + PIECE; next < end && next < row + 2 * PIECE; next++) {
            PREFETCH_ROW(in->q, in->ldk, r->dk, next, h, 0);
            PREFETCH_ROW(in->k, in->ldk, r->dk, next, h, 0);
            PREFETCH_ROW(in->v, in->ldv, r->dv, next, h, 0);
        }
        if (saved && (row - start) % C == 0) {
            kernel->transpose(r->dk, cols, state, lds, saved, r->dk);
            saved += size;
        }
        ha_recurrence_chunk c = pack_chunk(r, in, row, n, h, rows);
        c.wv = c.wv ? c.wv + col : NULL;
        const ptrdiff_t at = (ptrdiff_t)h * r->dv + col;
        kernel->recurrence(&c, cols, in->v + row * in->ldv + at, in->ldv,
                           in->beta ? in->beta + row * r->heads + h : NULL, r->heads, state, lds,
                           task->out + row * task->ldo + at, task->ldo, task->u ? task->u + row * task->ldu + at : NULL,
                           task->ldu);
    }
}

ha_status ha_recurrence_forward(const ha_recurrence *r, const ha_batch *batch, const ha_recurrence_in *in,
                                float *const *state_in, float *const *state_out, float *out, ptrdiff_t ldo, float *u,
                                float *states, ha_arena *work)
{
    const int heads = r->heads, dk = r->dk, dv = r->dv, blocks = (dv + BLOCK - 1) / BLOCK;
    const size_t mark = ha_arena_mark(work), size = (size_t)dk * (size_t)dv, packed = packed_floats(r);
    const size_t per_thread = packed + (size_t)dk * BLOCK;
    const int threads = (size_t)batch->rows * (size_t)heads * size < 1 << 17 ? 1 : ha_threads();
    float *scratch;
    size_t *first;
    HA_PUSH(scratch, work, per_thread * (size_t)threads);
    HA_TRY(first_states(r, batch, work, &first));
    memset(scratch, 0, per_thread * (size_t)threads * sizeof *scratch);
#pragma omp parallel for schedule(dynamic, 1) collapse(3) num_threads(threads)
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < heads; h++)
            for (int block = 0; block < blocks; block++) {
                const int col = block * BLOCK, cols = dv - col < BLOCK ? dv - col : BLOCK;
                const size_t at = (size_t)h * size + (size_t)col;
                float *rows = scratch + per_thread * (size_t)ha_thread_index(), *state = rows + packed;
                const float *from = state_in && state_in[s] ? state_in[s] + at : NULL;
                float *to = state_out && state_out[s] ? state_out[s] + at : NULL;
                const task task = {r,
                                   in,
                                   out,
                                   u,
                                   states ? states + first[s] + (size_t)h * size + (size_t)col * (size_t)dk : NULL,
                                   ldo,
                                   (ptrdiff_t)heads * dv};
                const ptrdiff_t row = batch->offset[s], end = batch->offset[s + 1];
                if (from && from == to && cols == BLOCK && end - row == 1) { /* decode: a token in place */
                    run(&task, row, end, h, col, cols, to, dv, rows);
                    continue;
                }
                memset(state, 0, (size_t)dk * BLOCK * sizeof *state);
                if (from)
                    copy_columns(dk, cols, from, dv, state, BLOCK);
                run(&task, row, end, h, col, cols, state, BLOCK, rows);
                if (to)
                    copy_columns(dk, cols, state, BLOCK, to, dv);
            }
    ha_arena_release(work, mark);
    return HA_OK;
}
