/* Retention (RetNet, Sun et al. 2023, arXiv 2307.08621): an additive state with a fixed decay per
 * head, 1 - 2^(-5-h); q and k rotated, output RMSNorm per head times silu(x W_g). */
#include <math.h>

#include "mixers/recurrent.h"

static void gates(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t)
{
    (void)mixer, (void)pass;
    for (int h = 0; h < t->heads; h++)
        t->log_decay[h] = log1pf(-exp2f((float)(-5 - h)));
}

static const ha_recurrent frame = {
    .form = HA_FORM_ADD,
    .gate = HA_GATE_HEAD,
    .part = {{"g"}},
    .has_output_gate = 1,
    .output = HA_ACT_SILU,
    .norm = HA_OUTPUT_NORM_HEAD,
    .gates = gates,
};

const ha_mixer_kind ha_retention_mixer = {
    .name = "retention",
    .summary = "RetNet's retention: an additive state with a fixed decay per head",
    .phrase = "a recurrent state with a fixed decay for each head",
    .align_rate = 0.006,
    .option = {HA_RECURRENT_OPTIONS(1, 0), HA_OUTPUT_GATE_OPTIONS(HA_OUTPUT_GATE_FULL, HA_OUTPUT_GATE_FULL)},
    HA_RECURRENT(frame),
};
