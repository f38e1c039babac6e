/* Linear recurrence, forward: token by token with a block of columns of the state in L1, one task
 * for each (sequence, head, block). On a CPU this beats the chunked forms: 3 to 5 multiply-adds an
 * element of the state and token at the full rate of the vector units, no triangular solve, and any
 * decay is exact. */
#include "core/thread.h"
#include "ops/recurrence_chunk.h"

/* Columns of a task, those where there are few tasks, and tokens that its columns see before the next
 * ones come: their rows fit L1 beside the state. NARROW is what kernels take at once: a column has
 * the same bits in every block. */
enum { BLOCK = 64, NARROW = 32, PIECE = 16 };

size_t ha_recurrence_states(const ha_recurrence *r, const ha_batch *batch)
{
    size_t n = 0;
    for (int s = 0; s < batch->n_seq; s++)
        n += (size_t)chunks_of(batch, s);
    return n * (size_t)r->heads * (size_t)r->key_dim * (size_t)r->value_dim;
}

static void copy_columns(int dk, int cols, const float *from, ptrdiff_t ldf, float *to, ptrdiff_t ldt)
{
    for (int i = 0; i < dk; i++)
        memcpy(to + i * ldt, from + i * ldf, (size_t)cols * sizeof *to);
}

/* A block of columns of one head: columns `column` .. `column` + `columns` of its state [dk,
 * dv]. */
typedef struct {
    const ha_recurrence *r;
    const ha_recurrence_in *in;
    ha_rows_out out;
    float *reads;  /* [rows, heads, dv], or NULL */
    float *states; /* of this head and block, or NULL: transposed states [chunk][heads][dv, dk] */
    int head, column, columns;
} task;

/* Rows row .. end of a task; state [dk, columns] is updated. rows: room for pack_chunk. */
static void run(const task *task, ptrdiff_t row, ptrdiff_t end, ha_rows_out state, float *rows)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ha_recurrence *r = task->r;
    const ha_recurrence_in *in = task->in;
    const int h = task->head;
    const size_t size = (size_t)r->heads * (size_t)r->key_dim * (size_t)r->value_dim;
    const ptrdiff_t reads_stride = (ptrdiff_t)r->heads * r->value_dim;
    const ptrdiff_t at = (ptrdiff_t)h * r->value_dim + task->column;
    const ptrdiff_t out_at = (ptrdiff_t)h * r->group * r->value_dim + task->column;
    const int wide = r->group * r->key_dim; /* of the queries of a state */
    float *saved = task->states;
    for (ptrdiff_t start = row; row < end; row += PIECE) {
        int n = end - row < PIECE ? (int)(end - row) : PIECE;
        for (ptrdiff_t next = row + PIECE; next < end && next < row + 2 * PIECE; next++) {
            PREFETCH_ROW(in->queries, in->query_stride, wide, next, h, 0);
            PREFETCH_ROW(in->keys, in->key_stride, r->key_dim, next, h, 0);
            PREFETCH_ROW(in->values, in->value_stride, r->value_dim, next, h, 0);
        }
        if (saved && (row - start) % C == 0) {
            kernel->transpose(r->key_dim, task->columns, state.at, state.stride, saved, r->key_dim);
            saved += size;
        }
        ha_recurrence_chunk c = pack_chunk(r, in, row, n, h, rows);
        c.value_decay = c.value_decay ? c.value_decay + task->column : NULL;
        const ha_recurrence_block block = {
            .columns = task->columns,
            .values = ha_rows_of(in->values + row * in->value_stride + at, in->value_stride),
            .beta = in->beta ? in->beta + row * r->heads + h : NULL,
            .beta_stride = r->heads,
            .state = state,
            .out = ha_rows_out_from(task->out, row, out_at),
            .reads = ha_rows_to(task->reads ? task->reads + row * reads_stride + at : NULL, reads_stride),
            .out_group = r->value_dim};
        kernel->recurrence(&c, &block);
    }
}

ha_status ha_recurrence_forward(const ha_recurrence *r, const ha_batch *batch, const ha_recurrence_in *in,
                                float *const *state_in, float *const *state_out, ha_rows_out out,
                                const ha_recurrence_saved *saved, ha_arena *work)
{
    float *states = saved ? saved->states : NULL;
    const int heads = r->heads, dk = r->key_dim, dv = r->value_dim;
    const size_t mark = ha_arena_mark(work), size = (size_t)dk * (size_t)dv, packed = packed_floats(r);
    const size_t per_thread = packed + (size_t)dk * BLOCK;
    const int threads = (size_t)batch->rows * (size_t)heads * size < 1 << 17 ? 1 : ha_threads();
    const int tasks = batch->n_seq * heads * ((dv + BLOCK - 1) / BLOCK);
    const int width = threads > 1 && tasks < 4 * threads ? NARROW : BLOCK, blocks = (dv + width - 1) / width;
    float *scratch;
    size_t *first;
    HA_PUSH(scratch, work, per_thread * (size_t)threads);
    HA_TRY(first_states(r, batch, work, &first));
    memset(scratch, 0, per_thread * (size_t)threads * sizeof *scratch);
#pragma omp parallel for schedule(dynamic, 1) collapse(3) num_threads(threads)
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < heads; h++)
            for (int block = 0; block < blocks; block++) {
                const int col = block * width, cols = dv - col < width ? dv - col : width;
                const size_t at = (size_t)h * size + (size_t)col;
                float *rows = scratch + per_thread * (size_t)ha_thread_index(), *state = rows + packed;
                const float *from = state_in && state_in[s] ? state_in[s] + at : NULL;
                float *to = state_out && state_out[s] ? state_out[s] + at : NULL;
                const task task = {.r = r,
                                   .in = in,
                                   .out = out,
                                   .reads = saved ? saved->reads : NULL,
                                   .states =
                                       states ? states + first[s] + (size_t)h * size + (size_t)col * (size_t)dk : NULL,
                                   .head = h,
                                   .column = col,
                                   .columns = cols};
                const ptrdiff_t row = batch->offset[s], end = batch->offset[s + 1];
                if (from && from == to && cols == width && end - row == 1) { /* decode: a token in place */
                    run(&task, row, end, ha_rows_to(to, dv), rows);
                    continue;
                }
                memset(state, 0, (size_t)dk * BLOCK * sizeof *state);
                if (from)
                    copy_columns(dk, cols, from, dv, state, BLOCK);
                run(&task, row, end, ha_rows_to(state, BLOCK), rows);
                if (to)
                    copy_columns(dk, cols, state, BLOCK, to, dv);
            }
    ha_arena_release(work, mark);
    return HA_OK;
}
