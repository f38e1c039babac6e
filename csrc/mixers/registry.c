/* The kinds of mixer. A new kind is one line here, or registered while the program runs. */
#include <string.h>

#include "mixers/mixer.h"

extern const ha_mixer_kind ha_softmax_mixer, ha_gated_delta_mixer, ha_window_linear_mixer, ha_delta_mixer, ha_kda_mixer,
    ha_retention_mixer, ha_rwkv7_mixer, ha_window_mixer, ha_linear_mixer, ha_gla_mixer, ha_rwkv6_mixer, ha_gsa_mixer,
    ha_mamba2_mixer, ha_linformer_mixer;

enum { MOST = 64 };
static const ha_mixer_kind *kinds[MOST + 1] = {
    &ha_softmax_mixer,   &ha_gated_delta_mixer, &ha_window_linear_mixer, &ha_delta_mixer,     &ha_kda_mixer,
    &ha_retention_mixer, &ha_rwkv7_mixer,       &ha_window_mixer,        &ha_linear_mixer,    &ha_gla_mixer,
    &ha_rwkv6_mixer,     &ha_gsa_mixer,         &ha_mamba2_mixer,        &ha_linformer_mixer,
};

const ha_mixer_kind *ha_mixer_at(int index)
{
    return kinds[index];
}

const ha_mixer_kind *ha_mixer_find(const char *name)
{
    for (int i = 0; kinds[i]; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

ha_status ha_mixer_register(const ha_mixer_kind *kind)
{
    int count = 0;
    if (ha_mixer_find(kind->name))
        return ha_fail(HA_BAD_VALUE, "a mixer of kind %s is registered already, allowed are new names", kind->name);
    while (kinds[count])
        count++;
    if (count == MOST)
        return ha_fail(HA_BAD_VALUE, "%d kinds of mixer are registered, more are not allowed", MOST);
    kinds[count] = kind;
    return HA_OK;
}
