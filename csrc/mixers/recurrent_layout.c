#include "mixers/recurrent_layout.h"

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
    l.directions = c->bidirectional ? 2 : 1;
    l.inner = l.heads * l.dim;
    l.query = l.from[1] = l.key_heads * l.dim;
    l.from[2] = 2 * l.query;
    l.mixed = 2 * l.query + l.inner;
    l.conv = mixer->option[HA_OPTION_CONV];
    l.slots = l.frame->slots ? mixer->option[HA_OPTION_SLOTS] : 0;
    l.gated = l.heads * (l.slots ? l.slots : l.dim);
    l.normed = l.frame->norm == HA_OUTPUT_NORM_HEAD ? l.dim : l.inner;
    l.state = (size_t)l.inner * (size_t)(l.slots ? 2 * l.slots : l.dim);
    l.width = l.mixed;
    for (const ha_recurrent_part *p = l.frame->part; l.n_parts < HA_MAX_PARTS && p[l.n_parts].name; l.n_parts++) {
        int i = l.n_parts;
        l.size[i] = p[i].per == HA_PER_HEAD ? l.heads : p[i].per == HA_PER_SLOT ? l.gated : l.inner;
        l.column[i] = l.width;
        l.width += p[i].rank ? p[i].rank : l.size[i];
    }
    return l;
}
