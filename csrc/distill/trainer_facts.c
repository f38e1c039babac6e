/* What a trainer tells about itself. */
#include "distill/trainer.h"

int64_t ha_trainer_steps(const ha_trainer *t)
{
    return t->steps;
}

void ha_trainer_set_steps(ha_trainer *t, int64_t steps)
{
    t->steps = steps;
}

void *ha_trainer_moment(const ha_trainer *t, int second, size_t at)
{
    return (char *)(second ? t->v : t->m) + ha_dtype_bytes(t->options.moments, at);
}

ha_dtype ha_trainer_moments(const ha_trainer *t)
{
    return t->options.moments;
}

int ha_trainer_trains(const ha_trainer *t, int param)
{
    return t->trains[param];
}
