/* One head's state over the tokens of a chunk, token by token: forward, replay, and the gradient
 * from last to first.
 *
 * Columns of the state never meet, so a block of them stays in L1 (forward) while the chunk's rows
 * go past. Every state element costs 3 to 5 multiply-adds a token forward, 6 to 10 backward, and no
 * product with an inverse of a decay. */

/* nv vectors of columns: s = w s + k z + a u and o = q s in one pass, which also reads the next
 * token's u = b s. */
INLINE void forward_columns(const int reads, const int erases, const int values, const int nv,
                            const ha_recurrence_chunk *c, const ha_recurrence_block *block)
{
    const float *v = block->values.at, *restrict wv = c->value_decay, *restrict beta = block->beta;
    float *restrict s = block->state.at, *restrict o = block->out.at, *restrict u = block->reads.at;
    const ptrdiff_t ldv = block->values.stride, ldbeta = block->beta_stride, lds = block->state.stride,
                    ldo = block->out.stride, ldu = block->reads.stride;
    const int cols = block->columns;
    const int dk = c->key_dim;
    vf seen[2] = {v_set(0.0f), v_set(0.0f)};
    const size_t last = (size_t)(cols - (nv - 1) * W); /* columns in the last vector */
    for (int i = 0; reads && i < dk; i++)
        for (int x = 0; x < nv; x++)
            seen[x] += v_set(c->erase_read[i]) * v_load(s + i * lds + x * W);
    for (int t = 0; t < c->count; t++, v += ldv, o += ldo) {
        const ptrdiff_t at = t * c->stride;
        const float *restrict q = c->queries + at, *restrict k = c->keys + at, *restrict w = values ? q : c->decay + at;
        const float *restrict a = erases ? c->erase_write + at : NULL;
        const float *restrict b = reads ? c->erase_read + at + (t + 1 < c->count ? c->stride : 0) : NULL;
        vf z[2], out[2], next[2], keep[2];
        for (int x = 0; x < nv; x++) {
            z[x] = x < nv - 1 || last == W ? v_load(v + x * W) : v_load_part(v + x * W, last, 0.0f);
            if (beta)
                z[x] = v_set(beta[t * ldbeta]) * (z[x] - seen[x]);
            if (u && (x < nv - 1 || last == W))
                v_store(u + t * ldu + x * W, seen[x]);
            else if (u)
                v_store_part(u + t * ldu + x * W, seen[x], last);
            out[x] = next[x] = v_set(0.0f);
            if (values)
                keep[x] = v_load(wv + t * c->value_decay_stride + x * W);
        }
        for (int i = 0; i < dk; i++)
            for (int x = 0; x < nv; x++) {
                vf y = (values ? keep[x] : v_set(w[i])) * v_load(s + i * lds + x * W) + v_set(k[i]) * z[x];
                if (erases)
                    y += v_set(a[i]) * seen[x];
                v_store(s + i * lds + x * W, y);
                out[x] += v_set(q[i]) * y;
                if (reads)
                    next[x] += v_set(b[i]) * y;
            }
        for (int x = 0; x < nv; x++) {
            if (x < nv - 1 || last == W)
                v_store(o + x * W, out[x]);
            else
                v_store_part(o + x * W, out[x], last);
            seen[x] = next[x];
        }
    }
}

/* Two vectors of columns at a time. */
static void k_recurrence(const ha_recurrence_chunk *chunk, const ha_recurrence_block *block)
{
    ha_recurrence_chunk c = *chunk;
    ha_recurrence_block b = *block;
    for (int left = block->columns; left > 0; left -= 2 * W) {
        b.columns = left < 2 * W ? left : 2 * W;
#define FORWARD(READS, ERASES, VALUES)                                 \
    (b.columns > W ? forward_columns(READS, ERASES, VALUES, 2, &c, &b) \
                   : forward_columns(READS, ERASES, VALUES, 1, &c, &b))
        if (c.erase_write)
            FORWARD(1, 1, 0);
        else if (c.erase_read)
            FORWARD(1, 0, 0);
        else if (!c.value_decay)
            FORWARD(0, 0, 0);
        else
            FORWARD(0, 0, 1);
#undef FORWARD
        c.value_decay = c.value_decay ? c.value_decay + 2 * W : NULL;
        b.values.at += 2 * W;
        b.state.at += 2 * W;
        b.out.at += 2 * W;
        b.reads.at = b.reads.at ? b.reads.at + 2 * W : NULL;
    }
}

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
 * decays columns, leaves token t and enters token t - 1. */
typedef struct {
    int reads, erases, values, leave, enter;
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

/* All channels of the state before token t. */
INLINE void cross(const crossing f, const backward_work *w, int t, channel_sums *sums)
{
    const ptrdiff_t ld = w->chunk->stride;
    const float *s = w->history + t * w->count * ld;
    int i = 0;
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
INLINE void backward_columns(const int reads, const int erases, const int values, const backward_work *w)
{
    const ha_recurrence_columns *x = w->columns;
    channel_sums sums;
    for (int t = w->chunk->count; t >= 0; t--) {
        if (t == w->chunk->count)
            cross((crossing){reads, erases, values, 0, 1}, w, t, &sums);
        else if (t > 0)
            cross((crossing){reads, erases, values, 1, 1}, w, t, &sums);
        else
            cross((crossing){reads, erases, values, 1, 0}, w, t, &sums);
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

/* By what the chunk reads, erases and decays. */
static void k_recurrence_backward(const ha_recurrence_chunk *c, int cols, const float *beta, const float *history,
                                  float *d, const ha_recurrence_columns *x, const ha_recurrence_gradient *g)
{
    const backward_work w = {c, cols, beta, history, d, x, g};
    if (c->erase_write)
        backward_columns(1, 1, 0, &w);
    else if (c->erase_read)
        backward_columns(1, 0, 0, &w);
    else if (c->value_decay)
        backward_columns(0, 0, 1, &w);
    else
        backward_columns(0, 0, 0, &w);
}
