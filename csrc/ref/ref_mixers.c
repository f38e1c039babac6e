/* Naive twins of whole linear mixers, from the projections of x to what the output projection
 * reads. */
#include "ref/ref.h"

#include <math.h>
#include <string.h>

static double silu(double x)
{
    return x * ref_sigmoid(x);
}

/* to = factor * a / sqrt(a . a + 1e-6) with a = silu(x) (or x), for each of `count` heads of rows */
static void unit_length(const ref_gated_delta_mixer *m, int count, const double *x, double factor, double *to)
{
    for (ptrdiff_t at = 0; at < (ptrdiff_t)count * m->dim; at += m->dim) {
        for (int i = 0; i < m->dim; i++)
            to[at + i] = m->silu ? silu(x[at + i]) : x[at + i];
        double length = sqrt(ref_dot(m->dim, to + at, to + at) + 1e-6);
        for (int i = 0; i < m->dim; i++)
            to[at + i] *= factor / length;
    }
}

/* Gated DeltaNet: y = rms_norm(o) silu(gate), o the gated delta rule on q, k of unit length, beta =
 * sigmoid(b) and g = -exp(A_log) softplus(a + dt_bias) */
ha_status ref_mix_gated_delta(const ref_gated_delta_mixer *m, const ha_batch *batch, const ref_gated_delta_in *in,
                              double *y, ha_arena *work)
{
    const ref_attention_in *projected = &in->projected;
    const int rows = batch->rows, H = m->heads, KV = m->kv_heads, D = m->dim;
    const size_t wide = (size_t)rows * (size_t)(H * D), kept = (size_t)rows * (size_t)(KV * D);
    const size_t narrow = (size_t)rows * (size_t)KV, state_size = (size_t)batch->n_seq * (size_t)(KV * D) * (size_t)D;
    double *unit_q, *unit_k, *values, *g, *beta, *state, *o, *back;
    HA_PUSH(o, work, wide);
    HA_PUSH(back, work, wide);
    HA_PUSH(unit_q, work, wide);
    HA_PUSH(unit_k, work, kept);
    HA_PUSH(values, work, kept);
    HA_PUSH(g, work, narrow);
    HA_PUSH(beta, work, narrow);
    HA_PUSH(state, work, state_size);
    memset(state, 0, state_size * sizeof *state);
    unit_length(m, rows * H, projected->queries, 1.0 / sqrt(D), unit_q);
    unit_length(m, rows * KV, projected->keys, 1.0, unit_k);
    for (size_t i = 0; i < kept; i++)
        values[i] = m->silu ? silu(projected->values[i]) : projected->values[i];
    for (size_t i = 0; i < narrow; i++) {
        size_t h = i % (size_t)KV;
        beta[i] = ref_sigmoid(in->b[i]);
        g[i] = -exp(in->a_log[h]) * log1p(exp(in->a[i] + in->dt_bias[h]));
    }
    if (m->inv_freq) {
        const ref_rotation rotation = {batch->position, m->inv_freq, D / 2, m->rope_factor};
        ref_rope(&rotation, rows, H, D, unit_q, unit_q);
        ref_rope(&rotation, rows, KV, D, unit_k, unit_k);
    }
    ref_recurrence_shape shape = {KV, D, D, 0, 0, H / KV};
    const ref_recurrence_in operands = {unit_q, unit_k, values, g, beta, NULL, NULL, NULL};
    ref_recurrence(&shape, batch, &operands, state, o);
    if (m->bidirectional) {
        shape.reverse = 1;
        memset(state, 0, state_size * sizeof *state);
        ref_recurrence(&shape, batch, &operands, state, back);
        for (size_t i = 0; i < wide; i++)
            o[i] += back[i];
    }
    ref_rms_norm(rows * H, D, o, in->norm, m->norm_eps, y);
    for (size_t i = 0; in->gate && i < wide; i++)
        y[i] *= silu(in->gate[i]);
    return HA_OK;
}

/* K and V [slots, dim] of one head, and the logits of its slots */
typedef struct {
    double *keys, *values, *logits;
} slot_memory;

/* A token of one head: slot i of K and V moves by the share 1 - exp(g_i) to k and to v, o = V^T
 * softmax(K q); `at` and gates [slots] are the token's */
static void slots_step(const ref_slot_shape *shape, const ref_attention_in *at, const double *gates,
                       const slot_memory *memory, double *out)
{
    const ptrdiff_t dim = shape->dim, slots = shape->slots;
    double top = -INFINITY, sum = 0.0;
    for (ptrdiff_t i = 0; i < slots; i++) {
        double *key = memory->keys + i * dim, *value = memory->values + i * dim;
        for (ptrdiff_t c = 0; c < dim; c++) {
            key[c] += (1.0 - exp(gates[i])) * (at->keys[c] - key[c]);
            value[c] += (1.0 - exp(gates[i])) * (at->values[c] - value[c]);
        }
        memory->logits[i] = ref_dot(shape->dim, at->queries, key);
        top = fmax(top, memory->logits[i]);
    }
    for (ptrdiff_t i = 0; i < slots; i++)
        sum += exp(memory->logits[i] - top);
    for (ptrdiff_t c = 0; c < dim; c++) {
        out[c] = 0.0;
        for (ptrdiff_t i = 0; i < slots; i++)
            out[c] += exp(memory->logits[i] - top) / sum * memory->values[i * dim + c];
    }
}

ha_status ref_slot_attention(const ref_slot_shape *shape, const ha_batch *batch, const ref_attention_in *in,
                             const double *gates, double *out, ha_arena *work)
{
    const size_t size = (size_t)shape->slots * (size_t)shape->dim;
    slot_memory memory;
    HA_PUSH(memory.keys, work, size);
    HA_PUSH(memory.values, work, size);
    HA_PUSH(memory.logits, work, (size_t)shape->slots);
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < shape->heads; h++) {
            memset(memory.keys, 0, size * sizeof *memory.keys);
            memset(memory.values, 0, size * sizeof *memory.values);
            for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++) {
                const ptrdiff_t head = (ptrdiff_t)r * shape->heads + h, from = head * shape->dim;
                const ref_attention_in at = {in->queries + from, in->keys + from, in->values + from};
                slots_step(shape, &at, gates + head * shape->slots, &memory, out + from);
            }
        }
    return HA_OK;
}

/* Features of queries [rows, heads, dim] and keys [rows, kv_heads, dim]; favor's query is divided
 * by its sum, which makes it Hedgehog's. */
static void pair_features(const ref_feature_maps *f, int rows, const double *queries, const double *keys,
                          double *query_features, double *key_features)
{
    ref_feature(f->map == 3 ? 2 : f->map, rows, f->heads, f->dim, queries, f->query_weight, query_features);
    ref_feature(f->map, rows, f->kv_heads, f->dim, keys, f->key_weight, key_features);
}

/* How many times as wide as a head its features are. */
static int widening(const ref_feature_maps *f)
{
    return f->map < 2 ? 1 : 2;
}

/* One query of window_linear: near keys weigh exp(s_j - max), far ones exp(gate) phi(q) . phi(k_j);
 * sinks are near. `at` and the features begin at the query's and the keys' head. */
static void window_query(const ref_window_mixer *m, int query, int length, const ref_attention_in *at,
                         const double *query_features, const double *key_features, double gate, double *y)
{
    const ref_feature_maps *f = &m->features;
    const ref_attention near = {f->heads, f->kv_heads,       f->dim, !m->bidirectional, m->window,
                                m->sinks, 1.0 / sqrt(f->dim)};
    const int keys = m->bidirectional ? length : query + 1, wide = widening(f);
    const ptrdiff_t row = (ptrdiff_t)f->kv_heads * f->dim;
    double top = -INFINITY, sum = 0.0;
    for (int j = 0; j < keys; j++)
        if (ref_visible(&near, query, j))
            top = fmax(top, near.scale * ref_dot(f->dim, at->queries, at->keys + j * row));
    for (int c = 0; c < f->dim; c++)
        y[c] = 0.0;
    for (int j = 0; j < keys; j++) {
        double weight = ref_visible(&near, query, j)
                            ? exp(near.scale * ref_dot(f->dim, at->queries, at->keys + j * row) - top)
                            : exp(gate) * ref_dot(wide * f->dim, query_features, key_features + wide * j * row);
        sum += weight;
        for (int c = 0; c < f->dim; c++)
            y[c] += weight * at->values[j * row + c];
    }
    for (int c = 0; c < f->dim; c++)
        y[c] /= sum;
}

ha_status ref_mix_window_linear(const ref_window_mixer *m, const ha_batch *batch, const ref_attention_in *in, double *y,
                                ha_arena *work)
{
    const ref_feature_maps *f = &m->features;
    const ref_rotation rotation = {batch->position, m->inv_freq, f->dim / 2, m->rope_factor};
    const int rows = batch->rows, H = f->heads, KV = f->kv_heads, D = f->dim, wide = widening(f);
    const size_t queries = (size_t)rows * (size_t)(H * D), keys = (size_t)rows * (size_t)(KV * D);
    double *turned_queries, *turned_keys, *query_features, *key_features;
    HA_PUSH(turned_queries, work, queries);
    HA_PUSH(turned_keys, work, keys);
    HA_PUSH(query_features, work, 2 * queries);
    HA_PUSH(key_features, work, 2 * keys);
    ref_rope(&rotation, rows, H, D, in->queries, turned_queries);
    ref_rope(&rotation, rows, KV, D, in->keys, turned_keys);
    pair_features(f, rows, m->rope_features ? turned_queries : in->queries, m->rope_features ? turned_keys : in->keys,
                  query_features, key_features);
    for (int s = 0; s < batch->n_seq; s++)
        for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++)
            for (int h = 0; h < H; h++) {
                ptrdiff_t head = ((ptrdiff_t)r * H + h) * D,
                          first = ((ptrdiff_t)batch->offset[s] * KV + h / (H / KV)) * D;
                const ref_attention_in at = {turned_queries + head, turned_keys + first, in->values + first};
                window_query(m, r - batch->offset[s], batch->offset[s + 1] - batch->offset[s], &at,
                             query_features + wide * head, key_features + wide * first, m->gate[h], y + head);
            }
    return HA_OK;
}

ha_status ref_mix_linear(const ref_linear_mixer *m, const ha_batch *batch, const ref_attention_in *in, double *y,
                         ha_arena *work)
{
    const ref_feature_maps *f = &m->features;
    const ref_rotation rotation = {batch->position, m->inv_freq, f->dim / 2, m->rope_factor};
    const int rows = batch->rows, H = f->heads, KV = f->kv_heads, D = f->dim;
    const size_t queries = (size_t)rows * (size_t)(H * D), keys = (size_t)rows * (size_t)(KV * D);
    double *turned_queries, *turned_keys, *query_features, *key_features, *numerator, *denominator;
    HA_PUSH(turned_queries, work, queries);
    HA_PUSH(turned_keys, work, keys);
    HA_PUSH(query_features, work, 2 * queries);
    HA_PUSH(key_features, work, 2 * keys);
    HA_PUSH(numerator, work, queries);
    HA_PUSH(denominator, work, (size_t)(rows * H));
    ref_rope(&rotation, rows, H, D, in->queries, turned_queries);
    ref_rope(&rotation, rows, KV, D, in->keys, turned_keys);
    pair_features(f, rows, m->rope ? turned_queries : in->queries, m->rope ? turned_keys : in->keys, query_features,
                  key_features);
    const ref_linear_shape shape = {H, KV, widening(f) * D, D, 0, m->bidirectional};
    const ref_attention_in features = {query_features, key_features, in->values};
    ref_linear_attention(&shape, batch, &features, NULL, numerator, denominator);
    if (m->norm)
        ref_rms_norm(rows * H, D, numerator, m->norm, m->norm_eps, y);
    for (size_t i = 0; !m->norm && i < queries; i++)
        y[i] = numerator[i] / (denominator[i / (size_t)D] + 1e-20);
    return HA_OK;
}
