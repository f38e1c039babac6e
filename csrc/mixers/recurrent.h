/* The frame of the mixers on the linear recurrence: a kind is a description and the functions of
 * its gates.
 *
 *     [q, k, v, parts] = x W^T          one product; parts feed gates, a few of them through a low rank
 *     q, k, v = f(conv(q)), ...         a short convolution or none, silu or nothing; then, where the kind or its options
 *                                       say so, q and k get length 1 and are rotated
 *     g, beta, a, b, key = gates(parts, k)
 *     o = recurrence(dim^-1/2 q, key, v, g, beta, a, b)
 *     y = norm(o) * f(part)             RMSNorm per head or none, output gate or none; or norm(o * f(part))
 *     out = y W_o^T
 * In a bidirectional model the recurrence also runs over each sequence back to front, with the same
 * operands, and o is the sum of both: a token reads itself in each of them, so that a text read
 * backwards gives the outputs back to front. State for decoding: [heads, dim, dim] floats, then the
 * last inputs of the convolution, [conv - 1, mixed]. */
#ifndef HA_MIXERS_RECURRENT_H
#define HA_MIXERS_RECURRENT_H

#include "mixers/recurrent_parts.h"

/* The functions of ha_mixer_kind, the same for every such kind. */
ha_status ha_recurrent_declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params);
/* Weights in the arena `weights` from those of softmax; parts start small and random. */
void ha_recurrent_init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng);
/* Floats that forward saves for backward. */
size_t ha_recurrent_saved(const ha_mixer *mixer, const ha_batch *batch);
/* Floats of the decode state of one sequence. */
ha_state_shape ha_recurrent_state(const ha_mixer *mixer);
/* x [rows, hidden]; out [rows, hidden] += scale times the result; saved, state [n_seq]: or NULL. */
ha_status ha_recurrent_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                               float *saved, ha_state *state);
/* dout [rows, hidden] -> dx [rows, hidden] += unless NULL, and gate [n_seq] as in mixer.h unless
 * NULL. */
ha_status ha_recurrent_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                                const float *dout, float *dx, double *gate);
/* Forward FLOP of a token, the same in every context. */
double ha_recurrent_flops(const ha_mixer *mixer, double context);

#define HA_RECURRENT(description)                                                                         \
    .declare = ha_recurrent_declare, .init_from_softmax = ha_recurrent_init, .saved = ha_recurrent_saved, \
    .state = ha_recurrent_state, .forward = ha_recurrent_forward, .backward = ha_recurrent_backward,      \
    .flops = ha_recurrent_flops, .masks = HA_BOTH_MASKS, .trails = 1, .frame = &(description)

/* o [rows, inner]: what the recurrence or the slots make of the operands; state [n_seq], each
 * updated or NULL */
ha_status ha_recurrent_run(const ha_recurrent_layout *l, const ha_batch *batch, const ha_recurrent_operands *in,
                           float *const *state, float *o, const ha_recurrence_saved *kept, ha_arena *arena);

/* --- recurrent_trail.c --- */

/* The same token by token, each with a state of its own; projected [rows, width]: what the
 * convolution reads. */
ha_status ha_recurrent_run_trail(const ha_recurrent_layout *l, const ha_batch *batch, const ha_recurrent_operands *in,
                                 const float *projected, ha_state *state, float *o, ha_arena *arena);
/* past [n_seq]: what the convolution read last, to be updated; copies where a trail is left, which
 * gets every token's by itself */
ha_status ha_recurrent_pasts(const ha_recurrent_layout *l, const ha_pass *pass, const ha_state *state, float **past);

#endif
