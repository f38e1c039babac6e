/* One head's state over the tokens of a chunk, token by token.
 *
 * Columns of the state never meet, so a block of them stays in L1 while the chunk's rows go past.
 * Every state element costs 3 to 5 multiply-adds a token, one more for each further head of queries,
 * and no product with an inverse of a decay. */

/* nv vectors of columns at token t: o = q s for `queries` heads of the group from `first` on. */
INLINE void read_columns(const int nv, const int queries, const ha_recurrence_chunk *c,
                         const ha_recurrence_block *block, int t, int first)
{
    const float *restrict q = c->queries + t * c->stride + first * c->query_group, *restrict s = block->state.at;
    float *restrict o = block->out.at + t * block->out.stride + first * block->out_group;
    const size_t last = (size_t)(block->columns - (nv - 1) * W); /* columns in the last vector */
    vf out[2][2];
    for (int x = 0; x < nv; x++)
        out[0][x] = out[1][x] = v_set(0.0f);
    for (int i = 0; i < c->key_dim; i++)
        for (int x = 0; x < nv; x++) {
            const vf y = v_load(s + i * block->state.stride + x * W);
            for (int g = 0; g < queries; g++)
                out[g][x] += v_set(q[g * c->query_group + i]) * y;
        }
    for (int g = 0; g < queries; g++)
        for (int x = 0; x < nv; x++)
            if (x < nv - 1 || last == W)
                v_store(o + g * block->out_group + x * W, out[g][x]);
            else
                v_store_part(o + g * block->out_group + x * W, out[g][x], last);
}

/* nv vectors of columns: s = w s + k z + a u and o = q s in one pass, which also reads the next
 * token's u = b s; then o of the other heads of the group, while s is near. */
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
        int g = 1;
        for (; g + 1 < c->group; g += 2)
            read_columns(nv, 2, c, block, t, g);
        if (g < c->group)
            read_columns(nv, 1, c, block, t, g);
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
