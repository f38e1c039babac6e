/* One head's state over the tokens of a chunk, token by token: forward, replay, and the gradient from last to first.
 *
 * Columns of the state never meet, so a block of them stays in L1 (forward) while the chunk's rows go past. Every state
 * element costs 3 to 5 multiply-adds a token forward, 6 to 10 backward, and no product with an inverse of a decay. */

/* nv vectors of columns: s = w s + k z + a u and o = q s in one pass, which also reads the next token's u = b s. */
INLINE void forward_columns(const int reads, const int erases, const int values, const int nv,
                            const ha_recurrence_chunk *c, int cols, const float *restrict wv, const float *v,
                            ptrdiff_t ldv, const float *restrict beta, ptrdiff_t ldbeta, float *restrict s,
                            ptrdiff_t lds, float *restrict o, ptrdiff_t ldo, float *restrict u, ptrdiff_t ldu)
{
    const int dk = c->dk;
    vf seen[2] = {v_set(0.0f), v_set(0.0f)};
    const size_t last = (size_t)(cols - (nv - 1) * W); /* columns in the last vector */
    for (int i = 0; reads && i < dk; i++)
        for (int x = 0; x < nv; x++)
            seen[x] += v_set(c->b[i]) * v_load(s + i * lds + x * W);
    for (int t = 0; t < c->n; t++, v += ldv, o += ldo) {
        const ptrdiff_t at = t * c->ld;
        const float *restrict q = c->q + at, *restrict k = c->k + at, *restrict w = values ? q : c->w + at;
        const float *restrict a = erases ? c->a + at : NULL;
        const float *restrict b = reads ? c->b + at + (t + 1 < c->n ? c->ld : 0) : NULL;
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
                keep[x] = v_load(wv + t * c->ldwv + x * W);
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

static void k_recurrence(const ha_recurrence_chunk *c, int cols, const float *v, ptrdiff_t ldv, const float *beta,
                         ptrdiff_t ldbeta, float *s, ptrdiff_t lds, float *o, ptrdiff_t ldo, float *u, ptrdiff_t ldu)
{
    const float *wv = c->wv;
    for (; cols > 0; cols -= 2 * W, v += 2 * W, s += 2 * W, o += 2 * W, u = u ? u + 2 * W : NULL) {
        int n = cols < 2 * W ? cols : 2 * W;
#define FORWARD(READS, ERASES, VALUES)                                                                         \
    (n > W ? forward_columns(READS, ERASES, VALUES, 2, c, n, wv, v, ldv, beta, ldbeta, s, lds, o, ldo, u, ldu) \
           : forward_columns(READS, ERASES, VALUES, 1, c, n, wv, v, ldv, beta, ldbeta, s, lds, o, ldo, u, ldu))
        if (c->a)
            FORWARD(1, 1, 0);
        else if (c->b)
            FORWARD(1, 0, 0);
        else if (!wv)
            FORWARD(0, 0, 0);
        else {
            FORWARD(0, 0, 1);
            wv += 2 * W;
        }
#undef FORWARD
    }
}

INLINE void replay_columns(const int erases, const int values, const ha_recurrence_chunk *c, int cols,
                           const ha_recurrence_columns *x, float *restrict history)
{
    const ptrdiff_t ld = c->ld, step = cols * ld;
    for (int t = 0; t < c->n; t++) {
        const float *restrict k = c->k + t * ld, *restrict w = values ? k : c->w + t * ld;
        const float *restrict a = erases ? c->a + t * ld : NULL;
        for (int j = 0; j < cols; j++, history += ld) {
            const vf zj = v_set(x->z[t * x->ld + j]), uj = erases ? v_set(x->u[t * x->ld + j]) : zj;
            const vf keep = values ? v_set(c->wv[t * c->ldwv + j]) : zj;
            for (int i = 0; i < ld; i += W) {
                vf y = (values ? keep : v_load(w + i)) * v_load(history + i) + v_load(k + i) * zj;
                if (erases)
                    y += v_load(a + i) * uj;
                v_store(history + step + i, y);
            }
        }
    }
}

static void k_recurrence_replay(const ha_recurrence_chunk *c, int cols, const ha_recurrence_columns *x, float *history)
{
    if (c->a)
        replay_columns(1, 0, c, cols, x, history);
    else if (c->wv)
        replay_columns(0, 1, c, cols, x, history);
    else
        replay_columns(0, 0, c, cols, x, history);
}

/* At the state s between two tokens: d, the gradient of s from what comes later, leaves token t (at the front of `n` rows)
 * and meets token t - 1 behind it. Sums over channels of d k, of d a and, where columns decay, of d s are left in vectors,
 * W for each column. */
INLINE void cross(const int reads, const int erases, const int values, const int leave, const int enter,
                  const ha_recurrence_chunk *c, int t, int cols, const float *restrict s, float *restrict d,
                  const ha_recurrence_columns *x, const ha_recurrence_gradient *g, float *restrict dk_sum,
                  float *restrict da_sum, float *restrict dw_sum)
{
    const ptrdiff_t ld = c->ld, now = t * ld, before = now - ld;
    const float *restrict du = reads && leave ? x->du + t * x->ld : NULL;
    const float *restrict dout = enter ? x->dout + (t - 1) * x->ld : NULL;
    const float *restrict z = enter ? x->z + (t - 1) * x->ld : NULL;
    const float *restrict u = erases && enter ? x->u + (t - 1) * x->ld : NULL;
    const float *restrict keep = values && leave ? c->wv + t * c->ldwv : NULL;
    const int gated = leave && !values;
    for (int i = 0; i < ld; i += W) {
        const vf none = v_set(0.0f);
        const vf w = gated ? v_load(c->w + now + i) : none, b = leave && reads ? v_load(c->b + now + i) : none;
        const vf q = enter ? v_load(c->q + before + i) : none, k = enter ? v_load(c->k + before + i) : none;
        const vf a = enter && erases ? v_load(c->a + before + i) : none;
        vf dw = gated ? v_load(g->w + now + i) : none, db = leave && reads ? v_load(g->b + now + i) : none;
        vf dq = enter ? v_load(g->q + before + i) : none, dk = enter ? v_load(g->k + before + i) : none;
        vf da = enter && erases ? v_load(g->a + before + i) : none;
        for (int j = 0; j < cols; j++) {
            if (i % 16 == 0)
                __builtin_prefetch(s + (j - cols) * ld + i); /* for the token before */
            vf state = v_load(s + j * ld + i), y = v_load(d + j * ld + i);
            if (leave) {
                if (values)
                    v_store(dw_sum + j * W, (i ? v_load(dw_sum + j * W) : none) + y * state);
                else
                    dw += y * state;
                y *= values ? v_set(keep[j]) : w;
                if (reads) {
                    db += v_set(du[j]) * state;
                    y += v_set(du[j]) * b;
                }
            }
            if (enter) {
                dq += v_set(dout[j]) * state;
                y += v_set(dout[j]) * q;
                dk += v_set(z[j]) * y;
                v_store(dk_sum + j * W, (i ? v_load(dk_sum + j * W) : none) + y * k);
                if (erases) {
                    da += v_set(u[j]) * y;
                    v_store(da_sum + j * W, (i ? v_load(da_sum + j * W) : none) + y * a);
                }
            }
            v_store(d + j * ld + i, y);
        }
        if (gated)
            v_store(g->w + now + i, dw);
        if (leave && reads)
            v_store(g->b + now + i, db);
        if (enter) {
            v_store(g->q + before + i, dq);
            v_store(g->k + before + i, dk);
        }
        if (enter && erases)
            v_store(g->a + before + i, da);
    }
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

INLINE void backward_columns(const int reads, const int erases, const int values, const ha_recurrence_chunk *c,
                             int cols, const float *beta, const float *history, float *d,
                             const ha_recurrence_columns *x, const ha_recurrence_gradient *g)
{
    float dk_sum[HA_REPLAY_COLUMNS * W], da_sum[HA_REPLAY_COLUMNS * W], dw_sum[HA_REPLAY_COLUMNS * W];
    for (int t = c->n; t >= 0; t--) {
        const float *s = history + t * cols * c->ld;
        if (t == c->n)
            cross(reads, erases, values, 0, 1, c, t, cols, s, d, x, g, dk_sum, da_sum, dw_sum);
        else if (t > 0)
            cross(reads, erases, values, 1, 1, c, t, cols, s, d, x, g, dk_sum, da_sum, dw_sum);
        else
            cross(reads, erases, values, 1, 0, c, t, cols, s, d, x, g, dk_sum, da_sum, dw_sum);
        if (values && t < c->n)
            sum_vectors(cols, dw_sum, x->dwv + t * x->ld);
        if (t == 0)
            break;
        float *dz = x->dz + (t - 1) * x->ld, *du = reads ? x->du + (t - 1) * x->ld : NULL;
        sum_vectors(cols, dk_sum, dz);
        if (erases)
            sum_vectors(cols, da_sum, du);
        else
            for (int j = 0; reads && j < cols; j++)
                du[j] = -beta[t - 1] * dz[j];
    }
}

static void k_recurrence_backward(const ha_recurrence_chunk *c, int cols, const float *beta, const float *history,
                                  float *d, const ha_recurrence_columns *x, const ha_recurrence_gradient *g)
{
    if (c->a)
        backward_columns(1, 1, 0, c, cols, beta, history, d, x, g);
    else if (c->b)
        backward_columns(1, 0, 0, c, cols, beta, history, d, x, g);
    else if (c->wv)
        backward_columns(0, 0, 1, c, cols, beta, history, d, x, g);
    else
        backward_columns(0, 0, 0, c, cols, beta, history, d, x, g);
}
