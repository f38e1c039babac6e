/* The kinds of mixer. A new kind is one line here. */
#include <string.h>

#include "mixers/mixer.h"

extern const ha_mixer_kind ha_softmax_mixer, ha_gated_delta_mixer, ha_window_linear_mixer, ha_delta_mixer, ha_kda_mixer,
    ha_retention_mixer, ha_rwkv7_mixer;

const ha_mixer_kind *const ha_mixer_kinds[] = {
    &ha_softmax_mixer, &ha_gated_delta_mixer, &ha_window_linear_mixer, &ha_delta_mixer,
    &ha_kda_mixer,     &ha_retention_mixer,   &ha_rwkv7_mixer,         NULL};

const ha_mixer_kind *ha_mixer_find(const char *name)
{
    for (int i = 0; ha_mixer_kinds[i]; i++)
        if (strcmp(ha_mixer_kinds[i]->name, name) == 0)
            return ha_mixer_kinds[i];
    return NULL;
}
