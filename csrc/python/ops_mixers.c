/* Whole mixers, from the projections of x to what the output projection reads. Only naive: the fast
 * ones run in models. */
#include "python/operation_tables.h"

#include "ref/ref.h"

#define OR_NONE(name_, shape_)                                            \
    {                                                                     \
        .name = name_, .kind = HA_ARRAY, .shape = (shape_), .nullable = 1 \
    }

/* An int, a flag or the number of a choice. */
static int whole(const ha_call *call, const char *name)
{
    return (int)ha_argument(call, name)->whole;
}

/* What the projections give: q, k and v. */
static ref_attention_in projected_of(const ha_call *call)
{
    return (ref_attention_in){ha_data(call, "q"), ha_data(call, "k"), ha_data(call, "v")};
}

/* Feature maps by their number, weights [H,2h,2h] and [K,2h,2h] or NULL. */
static ref_feature_maps features_of(const ha_call *call)
{
    return (ref_feature_maps){.map = whole(call, "feature"),
                              .heads = ha_size(call, 'H'),
                              .kv_heads = ha_size(call, 'K'),
                              .dim = 2 * ha_size(call, 'h'),
                              .query_weight = ha_data(call, "feature_q"),
                              .key_weight = ha_data(call, "feature_k")};
}

/* q, k, v, out [T,H,d], g [T,H,M] */
static ha_status slots_naive(const ha_call *call)
{
    const ref_slot_shape shape = {ha_size(call, 'H'), ha_size(call, 'd'), ha_size(call, 'M')};
    const ref_attention_in in = projected_of(call);
    return ref_slot_attention(&shape, &call->batch, &in, ha_data(call, "g"), call->out[0], call->arena);
}

static const ha_operation slot_attention = {
    .name = "slot_attention",
    .doc = "Softmax attention over gated slots: per head K = diag(exp(g)) K + (1 - exp(g)) k^T, V likewise of v,\n"
           "V^T softmax(K q); q, k, v [T,H,d], g <= 0 [T,H,m] -> [T,H,d].",
    .positional = 4,
    .parameter = {HA_PARAM_ARRAY("q", "T H d"), HA_PARAM_ARRAY("k", "T H d"), HA_PARAM_ARRAY("v", "T H d"),
                  HA_PARAM_ARRAY("g", "T H M"), HA_PARAM_LENGTHS},
    .result = {{"T H d"}},
    .naive = slots_naive,
};
HA_OPERATION(slot_attention)

/* y [T,H,2h] of q, gate [T,H,2h] (None: no gate), k, v [T,K,2h]; b, a [T,K]; A_log, dt_bias [K]; norm
 * [2h] */
static ha_status gated_delta_naive(const ha_call *call)
{
    const ref_gated_delta_mixer m = {.heads = ha_size(call, 'H'),
                                     .kv_heads = ha_size(call, 'K'),
                                     .dim = 2 * ha_size(call, 'h'),
                                     .silu = whole(call, "silu"),
                                     .bidirectional = whole(call, "bidirectional"),
                                     .inv_freq = ha_data(call, "inv_freq"),
                                     .rope_factor = ha_argument(call, "rope_factor")->number,
                                     .norm_eps = ha_argument(call, "norm_eps")->number};
    const ref_gated_delta_in in = {.projected = projected_of(call),
                                   .gate = ha_data(call, "gate"),
                                   .b = ha_data(call, "b"),
                                   .a = ha_data(call, "a"),
                                   .a_log = ha_data(call, "A_log"),
                                   .dt_bias = ha_data(call, "dt_bias"),
                                   .norm = ha_data(call, "norm")};
    return ref_mix_gated_delta(&m, &call->batch, &in, call->out[0], call->arena);
}

static const ha_operation mix_gated_delta = {
    .name = "mix_gated_delta",
    .doc = "The gated_delta mixer between its projections: q, gate [T,H,d] (gate may be None), k, v [T,K,d], b, a "
           "[T,K],\nA_log, dt_bias [K], norm [d], inv_freq [d/2] to rotate q and k -> [T,H,d].",
    .positional = 9,
    .parameter = {HA_PARAM_ARRAY("q", "T H 2h"), HA_PARAM_ARRAY("k", "T K 2h"), HA_PARAM_ARRAY("v", "T K 2h"),
                  OR_NONE("gate", "T H 2h"), HA_PARAM_ARRAY("b", "T K"), HA_PARAM_ARRAY("a", "T K"),
                  HA_PARAM_ARRAY("A_log", "K"), HA_PARAM_ARRAY("dt_bias", "K"), HA_PARAM_ARRAY("norm", "2h"),
                  HA_PARAM_OPTIONAL("inv_freq", "h"), HA_PARAM(HA_NUMBER, "rope_factor", "1.0"),
                  HA_PARAM(HA_FLAG, "silu", "True"), HA_PARAM(HA_NUMBER, "norm_eps", "1e-6"), HA_PARAM_LENGTHS,
                  HA_PARAM(HA_FLAG, "bidirectional", "False")},
    .result = {{"T H 2h"}},
    .check = ha_call_require_groups,
    .naive = gated_delta_naive,
};
HA_OPERATION(mix_gated_delta)

/* Heads that share key heads, and weights [heads,2h,2h] where the feature map, by its number, has
 * some. */
static void check_features(ha_call *call)
{
    const int map = whole(call, "feature"), heads = ha_size(call, 'H'), key_heads = ha_size(call, 'K');
    ha_call_require(call, map >= 0 && map <= 3, "feature is %d, allowed are 0 to 3", map);
    ha_call_require(call, map < 2 || (ha_data(call, "feature_q") && ha_data(call, "feature_k")),
                    "feature_q or feature_k is None, but map %d has weights", map);
    ha_call_require(call, heads % key_heads == 0, "%d heads share %d key heads, allowed are divisors", heads,
                    key_heads);
}

/* The same with a window and sinks. */
static void check_window(ha_call *call)
{
    check_features(call);
    ha_call_require_span(call, "window", whole(call, "window"), 1);
    ha_call_require_span(call, "sinks", whole(call, "sinks"), 0);
}

/* y [T,H,2h] of q [T,H,2h], k, v [T,K,2h], gate [H] */
static ha_status window_naive(const ha_call *call)
{
    const ref_window_mixer m = {.features = features_of(call),
                                .window = whole(call, "window"),
                                .sinks = whole(call, "sinks"),
                                .rope_features = whole(call, "rope_features"),
                                .bidirectional = whole(call, "bidirectional"),
                                .gate = ha_data(call, "gate"),
                                .inv_freq = ha_data(call, "inv_freq"),
                                .rope_factor = ha_argument(call, "rope_factor")->number};
    const ref_attention_in in = projected_of(call);
    return ref_mix_window_linear(&m, &call->batch, &in, call->out[0], call->arena);
}

static const ha_operation mix_window_linear = {
    .name = "mix_window_linear",
    .doc = "The window_linear mixer between its projections: q [T,H,d], k, v [T,KV,d], feature_q [H,d,d],\n"
           "feature_k [KV,d,d] or None by the number of the feature map, gate [H], inv_freq [d/2] -> [T,H,d].",
    .positional = 7,
    .parameter = {HA_PARAM_ARRAY("q", "T H 2h"), HA_PARAM_ARRAY("k", "T K 2h"), HA_PARAM_ARRAY("v", "T K 2h"),
                  OR_NONE("feature_q", "H 2h 2h"), OR_NONE("feature_k", "K 2h 2h"), HA_PARAM_ARRAY("gate", "H"),
                  HA_PARAM_ARRAY("inv_freq", "h"), HA_PARAM(HA_NUMBER, "rope_factor", "1.0"),
                  HA_PARAM(HA_INT, "window", "64"), HA_PARAM(HA_INT, "sinks", "4"),
                  HA_PARAM(HA_FLAG, "rope_features", "True"), HA_PARAM(HA_INT, "feature", "2"), HA_PARAM_LENGTHS,
                  HA_PARAM(HA_FLAG, "bidirectional", "False")},
    .result = {{"T H 2h"}},
    .check = check_window,
    .naive = window_naive,
};
HA_OPERATION(mix_window_linear)

/* y [T,H,2h] of q [T,H,2h], k, v [T,K,2h], norm [2h] or NULL */
static ha_status linear_naive(const ha_call *call)
{
    const ref_linear_mixer m = {.features = features_of(call),
                                .norm = ha_data(call, "norm"),
                                .rope = whole(call, "rope"),
                                .bidirectional = whole(call, "bidirectional"),
                                .norm_eps = ha_argument(call, "norm_eps")->number,
                                .rope_factor = ha_argument(call, "rope_factor")->number,
                                .inv_freq = ha_data(call, "inv_freq")};
    const ref_attention_in in = projected_of(call);
    return ref_mix_linear(&m, &call->batch, &in, call->out[0], call->arena);
}

static const ha_operation mix_linear = {
    .name = "mix_linear",
    .doc = "The linear mixer between its projections, arrays as in mix_window_linear; norm [d] for normalise=0.",
    .positional = 6,
    .parameter = {HA_PARAM_ARRAY("q", "T H 2h"), HA_PARAM_ARRAY("k", "T K 2h"), HA_PARAM_ARRAY("v", "T K 2h"),
                  OR_NONE("feature_q", "H 2h 2h"), OR_NONE("feature_k", "K 2h 2h"), HA_PARAM_ARRAY("inv_freq", "h"),
                  HA_PARAM_OPTIONAL("norm", "2h"), HA_PARAM(HA_INT, "feature", "2"), HA_PARAM(HA_FLAG, "rope", "True"),
                  HA_PARAM(HA_NUMBER, "rope_factor", "1.0"), HA_PARAM(HA_NUMBER, "norm_eps", "1e-6"), HA_PARAM_LENGTHS,
                  HA_PARAM(HA_FLAG, "bidirectional", "False")},
    .result = {{"T H 2h"}},
    .check = check_features,
    .naive = linear_naive,
};
HA_OPERATION(mix_linear)

const ha_entry ha_ops_mixers[] = {
    HA_ENTRY(slot_attention), HA_ENTRY(mix_gated_delta), HA_ENTRY(mix_window_linear), HA_ENTRY(mix_linear), {0}};
