/* One head's state over the tokens of a chunk again: replay from the state before it, and the
 * gradient from the last token to the first. Every state element costs 6 to 10 multiply-adds a
 * token, two more for each further head of queries. */

/* history [count + 1, cols, stride]: the first is there. */
INLINE void replay_columns(const int erases, const int values, const ha_recurrence_chunk *c, int cols,
                           const ha_recurrence_columns *x, float *restrict history)
{
    const ptrdiff_t ld = c->stride, step = cols * ld;
    for (int t = 0; t < c->count; t++) {
        const float *restrict k = c->keys + t * ld, *restrict w = values ? k : c->decay + t * ld;
        const float *restrict a = erases ? c->erase_write + t * ld : NULL;
        for (int j = 0; j < cols; j++, history += ld) {
            const vf zj = v_set(x->writes[t * x->stride + j]), uj = erases ? v_set(x->reads[t * x->stride + j]) : zj;
            const vf keep = values ? v_set(c->value_decay[t * c->value_decay_stride + j]) : zj;
            for (int i = 0; i < ld; i += W) {
                vf y = (values ? keep : v_load(w + i)) * v_load(history + i) + v_load(k + i) * zj;
                if (erases)
                    y += v_load(a + i) * uj;
                v_store(history + step + i, y);
            }
        }
    }
}

/* By what the chunk erases and decays. */
static void k_recurrence_replay(const ha_recurrence_chunk *c, int cols, const ha_recurrence_columns *x, float *history)
{
    if (c->erase_write)
        replay_columns(1, 0, c, cols, x, history);
    else if (c->value_decay)
        replay_columns(0, 1, c, cols, x, history);
    else
        replay_columns(0, 0, c, cols, x, history);
}

/* Vectors of channels whose gradients stay in registers while the columns go past: four or five
 * sums each. */
#if defined HA_ISA_AVX512
enum { GROUP = 4 };
#else
enum { GROUP = 2 };
#endif

/* What a crossing does, all constants where it is called: reads before the write, erases by a u^T,
 * decays columns, has several queries, leaves token t and enters token t - 1. */
typedef struct {
    int reads, erases, values, shared, leave, enter;
} crossing;

/* What the backward pass of a block of columns works on: `count` columns, the states [n + 1, count,
 * ld] of `history`, and d [count, ld], the gradient of the state. */
typedef struct {
    const ha_recurrence_chunk *chunk;
    int count;
    const float *beta, *history;
    float *d;
    const ha_recurrence_columns *columns;
    const ha_recurrence_gradient *gradient;
} backward_work;

/* Sums over channels of d k, of d a and, where columns decay, of d s: W items for each column. */
typedef struct {
    float dk[HA_REPLAY_COLUMNS * W], da[HA_REPLAY_COLUMNS * W], dw[HA_REPLAY_COLUMNS * W];
} channel_sums;

/* At the state s [count, ld] between two tokens, nv vectors of channels from i on, where s and d
 * begin: d, the gradient of s from what comes later, leaves token t (at the front of `n` rows) and
 * meets token t - 1 behind it. The sums of the first columns are there before the last column is
 * done. */
INLINE void cross_group(const int nv, const crossing f, const backward_work *w, int t, int i, const float *restrict s,
                        float *restrict d, channel_sums *restrict sums)
{
    const ha_recurrence_chunk *c = w->chunk;
    const ha_recurrence_columns *x = w->columns;
    const ha_recurrence_gradient *g = w->gradient;
    float *dk_sum = sums->dk, *da_sum = sums->da, *dw_sum = sums->dw;
    const int cols = w->count;
    const ptrdiff_t ld = c->stride, now = t * ld + i, before = now - ld;
    const float *restrict du = f.reads && f.leave ? x->dreads + t * x->stride : NULL;
    const float *restrict dout = f.enter ? x->dout + (t - 1) * x->stride : NULL;
    const float *restrict z = f.enter ? x->writes + (t - 1) * x->stride : NULL;
    const float *restrict u = f.erases && f.enter ? x->reads + (t - 1) * x->stride : NULL;
    const float *restrict keep = f.values && f.leave ? c->value_decay + t * c->value_decay_stride : NULL;
    const int gated = f.leave && !f.values;
    const vf none = v_set(0.0f);
    vf dw[GROUP], db[GROUP], dq[GROUP], dk[GROUP], da[GROUP];
    for (int v = 0; v < nv; v++) {
        dw[v] = gated ? v_load(g->decay + now + v * W) : none;
        db[v] = f.leave && f.reads ? v_load(g->erase_read + now + v * W) : none;
        dq[v] = f.enter ? v_load(g->queries + before + v * W) : none;
        dk[v] = f.enter ? v_load(g->keys + before + v * W) : none;
        da[v] = f.enter && f.erases ? v_load(g->erase_write + before + v * W) : none;
    }
    for (int j = 0; j < cols; j++, s += ld, d += ld) {
        const vf duj = f.leave && f.reads ? v_set(du[j]) : none, doj = f.enter ? v_set(dout[j]) : none;
        const vf zj = f.enter ? v_set(z[j]) : none, uj = f.enter && f.erases ? v_set(u[j]) : none;
        vf sum_k = i ? v_load(dk_sum + j * W) : none, sum_a = f.erases && i ? v_load(da_sum + j * W) : none;
        vf sum_w = f.values && i ? v_load(dw_sum + j * W) : none;
        for (int v = 0; v < nv; v++) {
            if (v * W % 16 == 0)
                __builtin_prefetch(s - cols * ld + v * W); /* for the token before */
            const vf state = v_load(s + v * W);
            vf y = v_load(d + v * W);
            if (f.leave) {
                if (f.values)
                    sum_w += y * state;
                else
                    dw[v] += y * state;
                y *= f.values ? v_set(keep[j]) : v_load(c->decay + now + v * W);
                if (f.reads) {
                    db[v] += duj * state;
                    y += duj * v_load(c->erase_read + now + v * W);
                }
            }
            if (f.enter) {
                dq[v] += doj * state;
                y += doj * v_load(c->queries + before + v * W);
                for (int h = 1; f.shared && h < c->group; h++)
                    y += v_set(dout[h * x->dout_group + j]) * v_load(c->queries + h * c->query_group + before + v * W);
                dk[v] += zj * y;
                sum_k += y * v_load(c->keys + before + v * W);
                if (f.erases) {
                    da[v] += uj * y;
                    sum_a += y * v_load(c->erase_write + before + v * W);
                }
            }
            v_store(d + v * W, y);
        }
        if (f.enter)
            v_store(dk_sum + j * W, sum_k);
        if (f.enter && f.erases)
            v_store(da_sum + j * W, sum_a);
        if (f.leave && f.values)
            v_store(dw_sum + j * W, sum_w);
    }
    for (int v = 0; v < nv; v++) {
        if (gated)
            v_store(g->decay + now + v * W, dw[v]);
        if (f.leave && f.reads)
            v_store(g->erase_read + now + v * W, db[v]);
        if (f.enter) {
            v_store(g->queries + before + v * W, dq[v]);
            v_store(g->keys + before + v * W, dk[v]);
        }
        if (f.enter && f.erases)
            v_store(g->erase_write + before + v * W, da[v]);
    }
}

/* nv vectors of channels from i on of dq, for the heads of the group behind the first: token t reads
 * the state s [count, ld]. */
INLINE void share_group(const int nv, const backward_work *w, int t, int i, const float *restrict s)
{
    const ha_recurrence_chunk *c = w->chunk;
    const ha_recurrence_columns *x = w->columns;
    for (int h = 1; h < c->group; h++) {
        const float *dout = x->dout + h * x->dout_group + t * x->stride;
        float *to = w->gradient->queries + h * c->query_group + t * c->stride + i;
        vf dq[GROUP];
        for (int v = 0; v < nv; v++)
            dq[v] = v_load(to + v * W);
        for (int j = 0; j < w->count; j++)
            for (int v = 0; v < nv; v++)
                dq[v] += v_set(dout[j]) * v_load(s + j * c->stride + v * W);
        for (int v = 0; v < nv; v++)
            v_store(to + v * W, dq[v]);
    }
}

/* All channels of the state before token t. */
INLINE void cross(const crossing f, const backward_work *w, int t, channel_sums *sums)
{
    const ptrdiff_t ld = w->chunk->stride;
    const float *s = w->history + t * w->count * ld;
    int i = 0;
    if (f.shared && f.enter) {
        for (; i + GROUP * W <= ld; i += GROUP * W)
            share_group(GROUP, w, t - 1, i, s + i);
        for (; i < ld; i += W)
            share_group(1, w, t - 1, i, s + i);
        i = 0;
    }
    for (; i + GROUP * W <= ld; i += GROUP * W)
        cross_group(GROUP, f, w, t, i, s + i, w->d + i, sums);
    for (; i < ld; i += W)
        cross_group(1, f, w, t, i, s + i, w->d + i, sums);
}

/* to[j] = the sum of the W items at x + j W */
INLINE void sum_vectors(int n, const float *x, float *to)
{
    int j = 0;
    for (; j + 4 <= n; j += 4) {
        const vf four[4] = {v_load(x + j * W), v_load(x + (j + 1) * W), v_load(x + (j + 2) * W),
                            v_load(x + (j + 3) * W)};
        v_sums(four, to + j);
    }
    for (; j < n; j++)
        to[j] = v_sum(v_load(x + j * W));
}

/* From the last token to the first. */
INLINE void backward_columns(const int reads, const int erases, const int values, const int shared,
                             const backward_work *w)
{
    const ha_recurrence_columns *x = w->columns;
    channel_sums sums;
    for (int t = w->chunk->count; t >= 0; t--) {
        if (t == w->chunk->count)
            cross((crossing){reads, erases, values, shared, 0, 1}, w, t, &sums);
        else if (t > 0)
            cross((crossing){reads, erases, values, shared, 1, 1}, w, t, &sums);
        else
            cross((crossing){reads, erases, values, shared, 1, 0}, w, t, &sums);
        if (values && t < w->chunk->count)
            sum_vectors(w->count, sums.dw, x->dvalue_decay + t * x->stride);
        if (t == 0)
            break;
        float *dz = x->dwrites + (t - 1) * x->stride, *du = reads ? x->dreads + (t - 1) * x->stride : NULL;
        sum_vectors(w->count, sums.dk, dz);
        if (erases)
            sum_vectors(w->count, sums.da, du);
        else
            for (int j = 0; reads && j < w->count; j++)
                du[j] = -w->beta[t - 1] * dz[j];
    }
}

/* By what the chunk reads, erases and decays, and how many queries it has. */
static void k_recurrence_backward(const ha_recurrence_chunk *c, int cols, const float *beta, const float *history,
                                  float *d, const ha_recurrence_columns *x, const ha_recurrence_gradient *g)
{
    const backward_work w = {c, cols, beta, history, d, x, g};
#define BACKWARD(READS, ERASES, VALUES) \
    (c->group > 1 ? backward_columns(READS, ERASES, VALUES, 1, &w) : backward_columns(READS, ERASES, VALUES, 0, &w))
    if (c->erase_write)
        BACKWARD(1, 1, 0);
    else if (c->erase_read)
        BACKWARD(1, 0, 0);
    else if (c->value_decay)
        BACKWARD(0, 0, 1);
    else
        BACKWARD(0, 0, 0);
#undef BACKWARD
}
