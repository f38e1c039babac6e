/* What a trainer is, for the files that make up a step. */
#ifndef HA_DISTILL_TRAINER_H
#define HA_DISTILL_TRAINER_H

#include "distill/distill.h"

struct ha_trainer {
    ha_model *student;
    const ha_model *teacher;
    ha_train_options options;
    uint8_t *train_layer; /* [num_layers] */
    uint8_t *trains;      /* [params] */
    ha_segment *segment;  /* the trained parameters, in table order */
    int *segment_param;
    int segments;
    void *m, *v; /* AdamW's moments, of type options.moments */
    int64_t steps;
    atomic_llong finished; /* see ha_trainer_finished */
};

/* The gradients of a share of a step, added to the student's; loss [1 or num_layers]: the share's
 * part of the step's mean. part: for stage align, see ha_align_part; or NULL. */
ha_status ha_trainer_accumulate(ha_trainer *trainer, const ha_share *share, const ha_train_data *given,
                                const ha_align_part *part, ha_arena *arena, const ha_interrupt *check, double *loss);
/* What gradients of that norm are scaled by. */
float ha_trainer_clip(const ha_trainer *trainer, double norm);
/* Clips by the student's gradients, takes AdamW's step and zeroes them; of the layers of `part`
 * only, unless NULL. */
ha_status ha_trainer_finish(ha_trainer *trainer, const ha_align_part *part, const float lr[2], ha_arena *arena,
                            double *grad_norm);
/* Sets the gradients of the trained parameters to zero, after a failure. */
void ha_trainer_drop(ha_trainer *trainer);
/* Fails for a trained parameter that is stored in another type than float32. */
ha_status ha_trainer_check(const ha_trainer *trainer);

#endif
