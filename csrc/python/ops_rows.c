/* Operations that treat every row (token) on its own: rope, swiglu, embed, feature_map. */
#include "python/operation_tables.h"

#include <string.h>

#include "ops/ops.h"
#include "ref/ref.h"

/* ---- rope ------------------------------------------------------------------------------------ */

static void check_rope(ha_call *call)
{
    ha_call_require(call, 2 * ha_size(call, 'h') <= ha_size(call, 'D'),
                    "inv_freq has length %d, allowed are up to half of x's last axis", ha_size(call, 'h'));
}

/* positions [T]: as passed, or from 0 in every sequence */
static const int32_t *positions_of(const ha_call *call)
{
    const int32_t *passed = ha_data(call, "positions");
    return passed ? passed : call->batch.position;
}

/* y [T,H,D]: x [T,H,D] turned by sign * position * inv_freq [h] */
static ha_status rotate(const ha_call *call, const float *x, float sign)
{
    const int rows = ha_size(call, 'T'), heads = ha_size(call, 'H'), dim = ha_size(call, 'D'),
              half = ha_size(call, 'h');
    const float factor = (float)ha_argument(call, "factor")->number;
    const size_t angles = ha_call_count(call, "T h");
    float *table, *y = call->out[0];
    HA_PUSH(table, call->arena, 2 * angles);
    memcpy(y, x, ha_call_count(call, "T H D") * sizeof *y);
    ha_rope_table(rows, half, positions_of(call), ha_data(call, "inv_freq"), factor, table, table + angles);
    const ha_rotation rotation = {half, table, table + angles};
    ha_rope(&rotation, rows, heads, dim, sign, ha_rows_to(y, (ptrdiff_t)heads * dim));
    return HA_OK;
}

/* y [T,H,D] of x [T,H,D] */
static ha_status rope_fast(const ha_call *call)
{
    return rotate(call, ha_data(call, "x"), 1.0f);
}

/* The same in float64. */
static ha_status rope_naive(const ha_call *call)
{
    const ref_rotation rotation = {positions_of(call), ha_data(call, "inv_freq"), ha_size(call, 'h'),
                                   ha_argument(call, "factor")->number};
    ref_rope(&rotation, ha_size(call, 'T'), ha_size(call, 'H'), ha_size(call, 'D'), ha_data(call, "x"), call->out[0]);
    return HA_OK;
}

static const ha_operation rope = {
    .name = "rope",
    .doc = "Rotates pairs (i, i + d/2) of x [T,H,d] by position * inv_freq[i], inv_freq [d/2], and scales with "
           "factor.\npositions [T]; default: from 0 in every sequence.",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("x", "T H D"),
                  HA_PARAM_ARRAY("inv_freq", "h"),
                  {"positions", "None", HA_INTEGERS, .shape = "T"},
                  HA_PARAM_LENGTHS,
                  HA_PARAM(HA_NUMBER, "factor", "1.0")},
    .result = {{"T H D"}},
    .check = check_rope,
    .fast = rope_fast,
    .naive = rope_naive,
};
HA_OPERATION(rope)

/* dy [T,H,D] -> dx [T,H,D] */
static ha_status rope_backward(const ha_call *call)
{
    return rotate(call, ha_data(call, "dy"), -1.0f);
}

static const ha_operation rope_vjp = {
    .name = "rope_vjp",
    .doc = "dy [T,H,d] -> dx.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("x", "T H D"),
                  HA_PARAM_ARRAY("inv_freq", "h"),
                  HA_PARAM_ARRAY("dy", "T H D"),
                  {"positions", "None", HA_INTEGERS, .shape = "T"},
                  HA_PARAM_LENGTHS,
                  HA_PARAM(HA_NUMBER, "factor", "1.0")},
    .result = {{"T H D"}},
    .check = check_rope,
    .fast = rope_backward,
};
HA_OPERATION(rope_vjp)

/* ---- swiglu ---------------------------------------------------------------------------------- */

/* y [T,f] = silu(gate) * up; gate_up [T,2f] */
static ha_status swiglu_fast(const ha_call *call)
{
    ha_swiglu_forward(ha_size(call, 'T'), ha_size(call, 'f'), ha_data(call, "gate_up"), call->out[0]);
    return HA_OK;
}

/* The same in float64. */
static ha_status swiglu_naive(const ha_call *call)
{
    ref_swiglu(ha_size(call, 'T'), ha_size(call, 'f'), ha_data(call, "gate_up"), call->out[0]);
    return HA_OK;
}

static const ha_operation swiglu = {
    .name = "swiglu",
    .doc = "silu(gate) * up: gate_up [T,2f] = [gate, up] -> [T,f].",
    .positional = 1,
    .parameter = {HA_PARAM_ARRAY("gate_up", "T 2f")},
    .result = {{"T f"}},
    .fast = swiglu_fast,
    .naive = swiglu_naive,
};
HA_OPERATION(swiglu)

/* dy [T,f] -> dgate_up [T,2f] */
static ha_status swiglu_backward(const ha_call *call)
{
    float *gradient = call->out[0];
    memcpy(gradient, ha_data(call, "gate_up"), ha_call_count(call, "T 2f") * sizeof *gradient);
    ha_swiglu_backward(ha_size(call, 'T'), ha_size(call, 'f'), gradient, ha_data(call, "dy"), NULL);
    return HA_OK;
}

static const ha_operation swiglu_vjp = {
    .name = "swiglu_vjp",
    .doc = "dy [T,f] -> dgate_up [T,2f].",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("gate_up", "T 2f"), HA_PARAM_ARRAY("dy", "T f")},
    .result = {{"T 2f"}},
    .fast = swiglu_backward,
};
HA_OPERATION(swiglu_vjp)

/* ---- embed ----------------------------------------------------------------------------------- */

/* y [T,d] = table [V,d] at tokens [T] */
static ha_status embed_fast(const ha_call *call)
{
    ha_embed_forward(ha_size(call, 'T'), ha_size(call, 'd'), ha_data(call, "tokens"), ha_f32(ha_data(call, "table")),
                     call->out[0]);
    return HA_OK;
}

/* The same in float64. */
static ha_status embed_naive(const ha_call *call)
{
    ref_embed(ha_size(call, 'T'), ha_size(call, 'd'), ha_data(call, "tokens"), ha_data(call, "table"), call->out[0]);
    return HA_OK;
}

static const ha_operation embed = {
    .name = "embed",
    .doc = "table[tokens]: tokens [T] ints, table [V,d] -> [T,d].",
    .positional = 2,
    .parameter = {HA_PARAM_INTEGERS("tokens", "T", 0, 'V'), HA_PARAM_ARRAY("table", "V d")},
    .result = {{"T d"}},
    .fast = embed_fast,
    .naive = embed_naive,
};
HA_OPERATION(embed)

/* dx [T,d] -> dtable [V,d] */
static ha_status embed_backward(const ha_call *call)
{
    ha_embed_backward(ha_size(call, 'T'), ha_size(call, 'd'), ha_data(call, "tokens"), ha_data(call, "dx"),
                      call->out[0]);
    return HA_OK;
}

static const ha_operation embed_vjp = {
    .name = "embed_vjp",
    .doc = "dx [T,d] -> dtable [V,d].",
    .positional = 3,
    .parameter = {HA_PARAM_INTEGERS("tokens", "T", 0, 'V'), HA_PARAM_ARRAY("table", "V d"),
                  HA_PARAM_ARRAY("dx", "T d")},
    .result = {{"V d"}},
    .fast = embed_backward,
};
HA_OPERATION(embed_vjp)

/* ---- feature_map ----------------------------------------------------------------------------- */

static const char *const maps[] = {[HA_FEATURE_ELU] = "elu",
                                   [HA_FEATURE_RELU] = "relu",
                                   [HA_FEATURE_HEDGEHOG] = "hedgehog",
                                   [HA_FEATURE_FAVOR] = "favor",
                                   NULL};

/* Which feature map. */
static ha_feature map_of(const ha_call *call)
{
    return (ha_feature)ha_argument(call, "map")->whole;
}

/* A weight where the map has one; sets 'F', the width of its features. */
static void check_map(ha_call *call)
{
    const ha_feature map = map_of(call);
    const int given = ha_data(call, "weight") != NULL;
    ha_call_require(call, given || !ha_feature_has_weight(map), "weight is None, but the map %s has one [H d d]",
                    maps[map]);
    ha_call_require(call, !given || ha_feature_has_weight(map), "weight of the map %s must be None", maps[map]);
    call->size['F' - 'A'] = ha_feature_width(map, ha_size(call, 'd'));
}

/* y [T,H,F] of x [T,H,d] and weight [H,d,d] or NULL */
static ha_status map_forward(const ha_call *call, float *y)
{
    const int heads = ha_size(call, 'H'), dim = ha_size(call, 'd');
    const ha_feature_map map = {map_of(call), heads, dim, ha_data(call, "weight")};
    return ha_feature_forward(&map, ha_size(call, 'T'), ha_rows_of(ha_data(call, "x"), heads * dim),
                              ha_rows_to(y, heads * ha_size(call, 'F')), call->arena);
}

/* y [T,H,F] */
static ha_status feature_map_fast(const ha_call *call)
{
    return map_forward(call, call->out[0]);
}

/* The same in float64. */
static ha_status feature_map_naive(const ha_call *call)
{
    ref_feature((int)map_of(call), ha_size(call, 'T'), ha_size(call, 'H'), ha_size(call, 'd'), ha_data(call, "x"),
                ha_data(call, "weight"), call->out[0]);
    return HA_OK;
}

static const ha_operation feature_map = {
    .name = "feature_map",
    .doc = "Feature map of linear attention, per head: x [T,H,d], weight W [H,d,d] -> [T,H,d] or [T,H,2d].\n"
           "elu: elu(x) + 1 (Katharopoulos et al. 2020); relu: max(x, 0); both without a weight.\n"
           "hedgehog: softmax([W x, -W x]) (Zhang et al. 2024); favor: exp([W x, -W x] - |x|^2 / (2 sqrt(d)))\n"
           "(Choromanski et al. 2021), exponents at most 30.",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("x", "T H d"),
                  HA_PARAM_OPTIONAL("weight", "H d d"),
                  {"map", "'hedgehog'", HA_CHOICE, .choices = maps}},
    .result = {{"T H F"}},
    .derived = "F",
    .check = check_map,
    .fast = feature_map_fast,
    .naive = feature_map_naive,
};
HA_OPERATION(feature_map)

/* dy [T,H,F] -> dx [T,H,d], dweight [H,d,d] or NULL */
static ha_status feature_map_backward(const ha_call *call)
{
    const int heads = ha_size(call, 'H'), dim = ha_size(call, 'd');
    const int row = heads * dim, wide = heads * ha_size(call, 'F');
    float *y;
    HA_PUSH(y, call->arena, ha_call_count(call, "T H F"));
    HA_TRY(map_forward(call, y));
    const ha_feature_map map = {map_of(call), heads, dim, ha_data(call, "weight")};
    return ha_feature_backward(&map, ha_size(call, 'T'), ha_rows_of(ha_data(call, "x"), row), ha_rows_of(y, wide),
                               ha_rows_of(ha_data(call, "dy"), wide), ha_rows_to(call->out[0], row), call->out[1],
                               call->arena);
}

static const ha_operation feature_map_vjp = {
    .name = "feature_map_vjp",
    .doc = "dy [T,H,F] -> dx, dweight or None.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("x", "T H d"),
                  HA_PARAM_ARRAY("dy", "T H F"),
                  HA_PARAM_OPTIONAL("weight", "H d d"),
                  {"map", "'hedgehog'", HA_CHOICE, .choices = maps}},
    .result = {{"T H d"}, {"H d d", .when = "weight", .none = 1}},
    .derived = "F",
    .check = check_map,
    .fast = feature_map_backward,
};
HA_OPERATION(feature_map_vjp)

const ha_entry ha_ops_rows[] = {HA_ENTRY(rope),        HA_ENTRY(rope_vjp),        HA_ENTRY(swiglu),
                                HA_ENTRY(swiglu_vjp),  HA_ENTRY(embed),           HA_ENTRY(embed_vjp),
                                HA_ENTRY(feature_map), HA_ENTRY(feature_map_vjp), {0}};
