/* Naive twins of whole linear mixers, from the projections of x to what the output projection reads. */
#include "ref/ref.h"

#include <math.h>
#include <string.h>

static double silu(double x)
{
    return x * ref_sigmoid(x);
}

/* to = factor * a / sqrt(a . a + 1e-6) with a = silu(x) (or x), head by head */
static void unit_length(const ref_gated_delta_mixer *m, int rows, const double *x, double factor, double *to)
{
    for (ptrdiff_t at = 0; at < (ptrdiff_t)rows * m->heads * m->dim; at += m->dim) {
        for (int i = 0; i < m->dim; i++)
            to[at + i] = m->silu ? silu(x[at + i]) : x[at + i];
        double length = sqrt(ref_dot(m->dim, to + at, to + at) + 1e-6);
        for (int i = 0; i < m->dim; i++)
            to[at + i] *= factor / length;
    }
}

/* Gated DeltaNet: y = rms_norm(o) silu(gate), o the gated delta rule on q, k of unit length, beta = sigmoid(b) and
 * g = -exp(A_log) softplus(a + dt_bias) */
ha_status ref_mix_gated_delta(const ref_gated_delta_mixer *m, const ha_batch *batch, const double *q, const double *k,
                              const double *v, const double *gate, const double *b, const double *a,
                              const double *a_log, const double *dt_bias, const double *norm, double *y, ha_arena *work)
{
    const int rows = batch->rows, H = m->heads, D = m->dim;
    const size_t wide = (size_t)rows * (size_t)(H * D), narrow = (size_t)rows * (size_t)H;
    const size_t state_size = (size_t)batch->n_seq * (size_t)(H * D) * (size_t)D;
    double *unit_q, *unit_k, *values, *g, *beta, *state, *o, *back;
    HA_PUSH(o, work, wide);
    HA_PUSH(back, work, wide);
    HA_PUSH(unit_q, work, wide);
    HA_PUSH(unit_k, work, wide);
    HA_PUSH(values, work, wide);
    HA_PUSH(g, work, narrow);
    HA_PUSH(beta, work, narrow);
    HA_PUSH(state, work, state_size);
    memset(state, 0, state_size * sizeof *state);
    unit_length(m, rows, q, 1.0 / sqrt(D), unit_q);
    unit_length(m, rows, k, 1.0, unit_k);
    for (size_t i = 0; i < wide; i++)
        values[i] = m->silu ? silu(v[i]) : v[i];
    for (size_t i = 0; i < narrow; i++) {
        size_t h = i % (size_t)H;
        beta[i] = ref_sigmoid(b[i]);
        g[i] = -exp(a_log[h]) * log1p(exp(a[i] + dt_bias[h]));
    }
    if (m->inv_freq) {
        ref_rope(rows, H, D, D / 2, batch->position, m->inv_freq, m->rope_factor, unit_q, unit_q);
        ref_rope(rows, H, D, D / 2, batch->position, m->inv_freq, m->rope_factor, unit_k, unit_k);
    }
    ref_shape shape = {H, D, D, 0, 0};
    const ref_operands in = {unit_q, unit_k, values, g, beta, NULL, NULL, NULL};
    ref_recurrence(&shape, batch, &in, state, o);
    if (m->bidirectional) {
        shape.reverse = 1;
        memset(state, 0, state_size * sizeof *state);
        ref_recurrence(&shape, batch, &in, state, back);
        for (size_t i = 0; i < wide; i++)
            o[i] += back[i];
    }
    ref_rms_norm(rows * H, D, o, norm, m->norm_eps, y);
    for (size_t i = 0; i < wide; i++)
        y[i] *= silu(gate[i]);
    return HA_OK;
}

/* A token of one head: slot i of K and V [slots, dim] moves by the share 1 - exp(g_i) to k and to v, o = V^T softmax(K q) */
static void slots_step(int dim, int slots, const double *q, const double *k, const double *v, const double *g,
                       double *keys, double *values, double *p, double *out)
{
    double top = -INFINITY, sum = 0.0;
    for (ptrdiff_t i = 0; i < slots; i++) {
        for (ptrdiff_t c = 0; c < dim; c++) {
            keys[i * dim + c] += (1.0 - exp(g[i])) * (k[c] - keys[i * dim + c]);
            values[i * dim + c] += (1.0 - exp(g[i])) * (v[c] - values[i * dim + c]);
        }
        p[i] = ref_dot(dim, q, keys + i * dim);
        top = fmax(top, p[i]);
    }
    for (int i = 0; i < slots; i++)
        sum += exp(p[i] - top);
    for (ptrdiff_t c = 0; c < dim; c++) {
        out[c] = 0.0;
        for (ptrdiff_t i = 0; i < slots; i++)
            out[c] += exp(p[i] - top) / sum * values[i * dim + c];
    }
}

ha_status ref_slot_attention(int heads, int dim, int slots, const ha_batch *batch, const double *q, const double *k,
                             const double *v, const double *g, double *out, ha_arena *work)
{
    const size_t size = (size_t)slots * (size_t)dim;
    double *keys, *values, *p;
    HA_PUSH(keys, work, size);
    HA_PUSH(values, work, size);
    HA_PUSH(p, work, (size_t)slots);
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < heads; h++) {
            memset(keys, 0, size * sizeof *keys);
            memset(values, 0, size * sizeof *values);
            for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++) {
                const ptrdiff_t head = (ptrdiff_t)r * heads + h, at = head * dim;
                slots_step(dim, slots, q + at, k + at, v + at, g + head * slots, keys, values, p, out + at);
            }
        }
    return HA_OK;
}

/* Features of queries and keys; favor's query is divided by its sum, which makes it Hedgehog's. */
static void pair_features(int map, int rows, int heads, int kv_heads, int dim, const double *q, const double *k,
                          const double *feature_q, const double *feature_k, double *fq, double *fk)
{
    ref_feature(map == 3 ? 2 : map, rows, heads, dim, q, feature_q, fq);
    ref_feature(map, rows, kv_heads, dim, k, feature_k, fk);
}

/* One query of window_linear: near keys weigh exp(s_j - max), far ones exp(gate) phi(q) . phi(k_j); sinks are near */
static void window_query(const ref_window_mixer *m, int query, int length, const double *q, const double *k,
                         const double *v, const double *fq, const double *fk, double gate, double *y)
{
    const ref_attention near = {m->heads, m->kv_heads,       m->dim, !m->bidirectional, m->window,
                                m->sinks, 1.0 / sqrt(m->dim)};
    const int keys = m->bidirectional ? length : query + 1;
    const ptrdiff_t row = (ptrdiff_t)m->kv_heads * m->dim;
    const int wide = m->map < 2 ? 1 : 2;
    double top = -INFINITY, sum = 0.0;
    for (int j = 0; j < keys; j++)
        if (ref_visible(&near, query, j))
            top = fmax(top, near.scale * ref_dot(m->dim, q, k + j * row));
    for (int c = 0; c < m->dim; c++)
        y[c] = 0.0;
    for (int j = 0; j < keys; j++) {
        double weight = ref_visible(&near, query, j) ? exp(near.scale * ref_dot(m->dim, q, k + j * row) - top)
                                                     : exp(gate) * ref_dot(wide * m->dim, fq, fk + wide * j * row);
        sum += weight;
        for (int c = 0; c < m->dim; c++)
            y[c] += weight * v[j * row + c];
    }
    for (int c = 0; c < m->dim; c++)
        y[c] /= sum;
}

ha_status ref_mix_window_linear(const ref_window_mixer *m, const ha_batch *batch, const double *q, const double *k,
                                const double *v, const double *feature_q, const double *feature_k, const double *gate,
                                double *y, ha_arena *work)
{
    const int rows = batch->rows, H = m->heads, KV = m->kv_heads, D = m->dim;
    const size_t wide = (size_t)rows * (size_t)(H * D), keys = (size_t)rows * (size_t)(KV * D);
    double *turned_q, *turned_k, *fq, *fk;
    HA_PUSH(turned_q, work, wide);
    HA_PUSH(turned_k, work, keys);
    HA_PUSH(fq, work, 2 * wide);
    HA_PUSH(fk, work, 2 * keys);
    ref_rope(rows, H, D, D / 2, batch->position, m->inv_freq, m->rope_factor, q, turned_q);
    ref_rope(rows, KV, D, D / 2, batch->position, m->inv_freq, m->rope_factor, k, turned_k);
    pair_features(m->map, rows, H, KV, D, m->rope_features ? turned_q : q, m->rope_features ? turned_k : k, feature_q,
                  feature_k, fq, fk);
    const int features = m->map < 2 ? 1 : 2;
    for (int s = 0; s < batch->n_seq; s++)
        for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++)
            for (int h = 0; h < H; h++) {
                ptrdiff_t at = ((ptrdiff_t)r * H + h) * D,
                          first = ((ptrdiff_t)batch->offset[s] * KV + h / (H / KV)) * D;
                window_query(m, r - batch->offset[s], batch->offset[s + 1] - batch->offset[s], turned_q + at,
                             turned_k + first, v + first, fq + features * at, fk + features * first, gate[h], y + at);
            }
    return HA_OK;
}

ha_status ref_mix_linear(const ref_linear_mixer *m, const ha_batch *batch, const double *q, const double *k,
                         const double *v, const double *feature_q, const double *feature_k, const double *norm,
                         double *y, ha_arena *work)
{
    const int rows = batch->rows, H = m->heads, KV = m->kv_heads, D = m->dim, wide = m->map < 2 ? 1 : 2;
    const size_t queries = (size_t)rows * (size_t)(H * D), keys = (size_t)rows * (size_t)(KV * D);
    double *turned_q, *turned_k, *fq, *fk, *num, *den;
    HA_PUSH(turned_q, work, queries);
    HA_PUSH(turned_k, work, keys);
    HA_PUSH(fq, work, 2 * queries);
    HA_PUSH(fk, work, 2 * keys);
    HA_PUSH(num, work, queries);
    HA_PUSH(den, work, (size_t)(rows * H));
    ref_rope(rows, H, D, D / 2, batch->position, m->inv_freq, m->rope_factor, q, turned_q);
    ref_rope(rows, KV, D, D / 2, batch->position, m->inv_freq, m->rope_factor, k, turned_k);
    pair_features(m->map, rows, H, KV, D, m->rope ? turned_q : q, m->rope ? turned_k : k, feature_q, feature_k, fq, fk);
    const ref_linear_shape shape = {H, KV, wide * D, D, 0, m->bidirectional};
    ref_linear_attention(&shape, batch, fq, fk, v, NULL, num, den);
    if (norm)
        ref_rms_norm(rows * H, D, num, norm, m->norm_eps, y);
    for (size_t i = 0; !norm && i < queries; i++)
        y[i] = num[i] / (den[i / (size_t)D] + 1e-20);
    return HA_OK;
}
