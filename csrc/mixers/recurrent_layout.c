#include "mixers/recurrent_layout.h"

const char *const ha_output_gates[] = {"none", "low_rank", "full"};

/* What the options make of the output gate, the first part. */
static void output_gate(const ha_mixer *mixer, ha_recurrent_layout *l)
{
    const int kind = mixer->option[HA_OPTION_OUTPUT_GATE];
    if (!l->frame->has_output_gate)
        return;
    l->has_gate = kind != HA_OUTPUT_GATE_NONE;
    l->gate_first = l->has_gate && l->frame->gate_first;
    l->size[0] = l->has_gate ? l->inner : 0;
    l->rank[0] = kind == HA_OUTPUT_GATE_LOW_RANK ? mixer->option[HA_OPTION_GATE_RANK] : 0;
}

ha_recurrent_layout ha_recurrent_layout_of(const ha_mixer *mixer)
{
    const ha_config *c = mixer->config;
    const ha_heads *own = &mixer->own;
    ha_recurrent_layout l = {
        .frame = mixer->kind->frame, .heads = c->num_heads, .dim = c->head_dim, .key_heads = c->num_heads};
    if (own->heads) {
        l.heads = own->heads;
        l.dim = own->dim;
        l.key_heads = own->key_heads;
    }
    l.kv_heads = mixer->option[HA_OPTION_GROUPED] ? c->num_kv_heads : l.heads;
    l.directions = c->bidirectional ? 2 : 1;
    l.inner = l.heads * l.dim;
    l.kept = l.kv_heads * l.dim;
    l.across[0] = l.key_heads * l.dim;
    l.across[1] = l.key_heads < l.kv_heads ? l.across[0] : l.kept;
    l.across[2] = l.kept;
    l.from[1] = l.across[0];
    l.from[2] = l.from[1] + l.across[1];
    l.mixed = l.from[2] + l.across[2];
    l.conv = mixer->option[HA_OPTION_CONV];
    l.slots = l.frame->slots ? mixer->option[HA_OPTION_SLOTS] : 0;
    l.gated = l.kv_heads * (l.slots ? l.slots : l.dim);
    l.normed = l.frame->norm == HA_OUTPUT_NORM_HEAD ? l.dim : l.inner;
    l.state = (size_t)l.kept * (size_t)(l.slots ? 2 * l.slots : l.dim);
    l.width = l.mixed;
    for (const ha_recurrent_part *p = l.frame->part; l.n_parts < HA_MAX_PARTS && p[l.n_parts].name; l.n_parts++) {
        int i = l.n_parts;
        l.size[i] = p[i].per == HA_PER_HEAD ? l.kv_heads : p[i].per == HA_PER_SLOT ? l.gated : l.kept;
        l.rank[i] = p[i].rank;
        if (i == 0)
            output_gate(mixer, &l);
        l.column[i] = l.width;
        l.width += l.rank[i] ? l.rank[i] : l.size[i];
    }
    return l;
}
