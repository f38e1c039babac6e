/* adamw: one step of the optimizer, in place. */
#include "python/operation_tables.h"

#include "ops/ops.h"
#include "ref/ref.h"

/* Steps count from 1. */
static void check_step(ha_call *call)
{
    const int64_t step = ha_argument(call, "step")->whole;
    ha_call_require(call, step >= 1, "step is %lld, allowed is 1 or more", (long long)step);
}

/* As it was passed; what the step uses in float32 is rounded there. */
static ref_adamw_options options_of(const ha_call *call)
{
    const ha_value *betas = ha_argument(call, "betas");
    return (ref_adamw_options){.lr = ha_argument(call, "lr")->number,
                               .beta1 = betas->number,
                               .beta2 = betas->second,
                               .eps = ha_argument(call, "eps")->number,
                               .decay = ha_argument(call, "weight_decay")->number,
                               .clip = ha_argument(call, "clip")->number,
                               .step = ha_argument(call, "step")->whole};
}

/* p, g, m, v [N] */
static ha_status adamw_fast(const ha_call *call)
{
    const ref_adamw_options o = options_of(call);
    const ha_segment all = {.offset = 0, .count = ha_call_count(call, "N"), .lr = (float)o.lr, .decay = (float)o.decay};
    const ha_adamw_options step = {(float)o.clip, (float)o.beta1, (float)o.beta2, (float)o.eps, o.step};
    const ha_adamw_arenas at = {ha_data(call, "p"), ha_data(call, "g"), ha_data(call, "m"), ha_data(call, "v")};
    return ha_adamw(&step, 1, &all, &at, call->arena);
}

/* The same in float64. */
static ha_status adamw_naive(const ha_call *call)
{
    const ref_adamw_options o = options_of(call);
    ref_adamw(ha_call_count(call, "N"), &o, ha_data(call, "p"), ha_data(call, "g"), ha_data(call, "m"),
              ha_data(call, "v"));
    return HA_OK;
}

static const ha_operation adamw = {
    .name = "adamw",
    .doc = "One AdamW step in place on arrays [N]; step counts from 1. g is multiplied with clip, and zero afterwards.",
    .positional = 6,
    .parameter = {{"p", .kind = HA_IN_PLACE, .shape = "N"},
                  {"g", .kind = HA_IN_PLACE, .shape = "N"},
                  {"m", .kind = HA_IN_PLACE, .shape = "N"},
                  {"v", .kind = HA_IN_PLACE, .shape = "N"},
                  HA_PARAM(HA_NUMBER, "lr", NULL),
                  HA_PARAM(HA_INT64, "step", NULL),
                  HA_PARAM(HA_PAIR, "betas", "(0.9, 0.95)"),
                  HA_PARAM(HA_NUMBER, "eps", "1e-8"),
                  HA_PARAM(HA_NUMBER, "weight_decay", "0.0"),
                  HA_PARAM(HA_NUMBER, "clip", "1.0")},
    .check = check_step,
    .fast = adamw_fast,
    .naive = adamw_naive,
};
HA_OPERATION(adamw)

const ha_entry ha_ops_optimizer[] = {HA_ENTRY(adamw), {0}};
