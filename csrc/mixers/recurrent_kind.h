/* What a kind of mixer on the linear recurrence says of itself: see the frame in recurrent.h. */
#ifndef HA_MIXERS_RECURRENT_KIND_H
#define HA_MIXERS_RECURRENT_KIND_H

#include "mixers/mixer.h"
#include "ops/ops.h"

enum { HA_MAX_PARTS = 4 };

/* A projection of x besides q, k, v, with `width` outputs: `name_proj.weight` [width, hidden]; of
 * low rank when rank > 0: `name_up.weight` [width, rank] after f of `name_down.weight` [rank,
 * hidden]. bias: its name, or NULL. The output gate has the rank that its options say. */
typedef enum { HA_PER_CHANNEL, HA_PER_HEAD, HA_PER_SLOT } ha_recurrent_part_width;

typedef struct {
    const char *name, *bias;
    ha_recurrent_part_width per;
    int rank;
    ha_act inner; /* f */
} ha_recurrent_part;

/* One token, for the functions of a kind: logits of the parts with their biases, and keys as the
 * frame made them; to fill: what the kind's form and gate want of log_decay (g), beta, erase_write
 * (a) and erase_read (b), and `written` when it writes something else than its keys. heads: those of
 * keys and states. `gated` numbers are in `written` and, by channel, in log_decay: heads * dim, or
 * heads * slots. */
typedef struct {
    int heads, dim, gated;
    const float *part[HA_MAX_PARTS], *keys;
    float *written, *log_decay, *beta, *erase_write, *erase_read;
} ha_recurrent_token;

/* Gradients likewise: of what was filled, from the recurrence; to fill: of the parts that are not
 * the output gate, and of the keys where the kind writes its own. */
typedef struct {
    const float *written, *log_decay, *beta, *erase_write, *erase_read;
    float *part[HA_MAX_PARTS], *keys;
} ha_recurrent_token_gradient;

typedef enum {
    HA_FORM_ADD,
    HA_FORM_DELTA,
    HA_FORM_ERASE
} ha_recurrent_form; /* nothing; beta; a and b: see ha_recurrence */
typedef enum {
    HA_OUTPUT_NORM_NONE,
    HA_OUTPUT_NORM_HEAD,
    HA_OUTPUT_NORM_WHOLE
} ha_output_norm; /* RMSNorm over a head's channels, or over all */

typedef struct {
    ha_recurrent_form form;
    ha_gate gate;
    ha_recurrent_part part[HA_MAX_PARTS]; /* ends at the first without a name */
    int has_output_gate;                  /* the first part gates the output through f = output, unless left out */
    ha_act output;
    ha_output_norm norm;
    int gate_first; /* the norm reads what the gate has let through; needs both */
    int unit, writes_own;
    int unscaled;  /* q is read as it is, not over the root of dim */
    int slots;     /* slots.h in the place of the recurrence, as many slots as HA_OPTION_SLOTS says */
    int own_heads; /* the options below give the heads a shape of their own */
    int decays;    /* A_log [heads of states] is a parameter, at HA_SLOT_KIND */
    /* Any of these may be NULL. init: biases and own parameters, which are 0 before it. */
    void (*init)(const ha_mixer *mixer, float *weights, ha_rng *rng);
    void (*gates)(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t);
    void (*gates_backward)(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t,
                           const ha_recurrent_token_gradient *d);
} ha_recurrent;

enum { HA_SLOT_UP = HA_SLOT_OWN, HA_SLOT_BIAS = HA_SLOT_UP + HA_MAX_PARTS, HA_SLOT_NORM = HA_SLOT_BIAS + HA_MAX_PARTS };
enum { HA_SLOT_KIND = HA_SLOT_NORM + 1, HA_SLOT_CONV };
_Static_assert((int)HA_SLOT_CONV < (int)HA_MAX_SLOTS, "ha_mixer has a place for every slot");

/* The first options of every such kind. */
enum { HA_OPTION_ROPE, HA_OPTION_SILU, HA_OPTION_CONV, HA_OPTION_BIAS, HA_OPTION_QK_NORM, HA_OPTION_GROUPED };
/* Those of kinds with an output gate, and of those with heads of their own; or those with slots. */
enum { HA_OPTION_OUTPUT_GATE = HA_OPTION_GROUPED + 1, HA_OPTION_GATE_RANK };
enum { HA_OPTION_HEADS = HA_OPTION_GATE_RANK + 1, HA_OPTION_KEY_HEADS, HA_OPTION_HEAD_DIM };
enum { HA_OPTION_SLOTS = HA_OPTION_OUTPUT_GATE };
#define HA_RECURRENT_OPTIONS(rope, silu)                                                                \
    {"rope", rope, 0, 1, "rotate q and k"}, {"silu", silu, 0, 1, "silu on q, k and v"},                 \
        {"conv", 0, 0, HA_MAX_CONV, "taps of a causal convolution on q, k and v before silu, 0: none"}, \
        {"bias", 1, 0, 1, "biases on q, k, v and output where the teacher has them"},                   \
        {"qk_norm", 1, 0, 1, "norms on q and k where the teacher has them"},                            \
    {                                                                                                   \
        "grouped", 0, 0, 1, "the teacher's key and value heads, a state each, 0: repeated"              \
    }

/* Values of the option output_gate, and their names. */
enum { HA_OUTPUT_GATE_NONE, HA_OUTPUT_GATE_LOW_RANK, HA_OUTPUT_GATE_FULL };
extern const char *const ha_output_gates[];
#define HA_OUTPUT_GATE_OPTIONS(value, most)                                                     \
    {"output_gate", value, 0, most, "projection of the output gate", .names = ha_output_gates}, \
    {                                                                                           \
        "gate_rank", 64, 1, 1 << 12, "numbers in the middle of an output gate of low rank"      \
    }

#endif
